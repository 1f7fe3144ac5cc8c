"""The benchmark shape as a folder that any command takes with `--load-format dummy`: config and processor.

The decoder of subject.py behind 576 visual tokens a picture. Prompts are as long as its prompt, up to the
words of the question: about 64 text tokens, not all equal. Knows no clock and no schedule.
"""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.subject import DECODERS, IMAGE, TEXT, VOCABULARY, Decoder, benchmark_config

_QUESTION = 8  # words of a common question
_SIZE, _PATCH = 48, 2  # pixels a side; (48 / 2)² = 576 patches


def write_shape(folder: Path, decoder: Decoder = DECODERS["plain"]) -> str:
    """Write config, tokenizer and processor there; returns the folder as a model's name."""
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    config = benchmark_config(decoder)
    config.text_config.eos_token_id = None  # an answer never ends early
    config.save_pretrained(folder)
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": _SIZE}, crop_size={"height": _SIZE, "width": _SIZE}
    )
    LlavaProcessor(
        image_processor=pictures,
        tokenizer=_tokenizer(),
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_template(),
    ).save_pretrained(folder)
    return str(folder)


def _template() -> str:
    """The picture, words that are always the same, and the question."""
    words = " ".join(["word"] * (TEXT - _QUESTION))
    picture = "{% if c['type'] == 'image' %}<image> " + words + " {% else %}{{ c['text'] }}{% endif %}"
    return "{% for m in messages %}{% for c in m['content'] %}" + picture + "{% endfor %}{% endfor %}"


def _tokenizer() -> object:
    """A word is a token, and every word but one is unknown: only lengths matter."""
    from tokenizers import AddedToken, Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<unk>": 1, "word": 2, "<image>": IMAGE}
    vocabulary |= {f"w{index}": index for index in range(3, VOCABULARY) if index != IMAGE}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens([AddedToken("<image>", special=True, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")
