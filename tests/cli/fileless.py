"""Tiny checkpoints of model types that have no file in routing/families, saved as anybody would save one."""

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForImageTextToText,
    Ovis2Config,
    Ovis2ImageProcessorPil,
    Ovis2Processor,
    PreTrainedTokenizerFast,
)

_MARKS = ("<IMG_ATOM>", "<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>", "<image>")
_WORDS = ("<pad>", "<unk>", "</s>", "user", "assistant", "where", "is", "the", "cup", "?")
_FIRST = 200  # id of the first mark: those of published checkpoints stand behind the words, too
TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {% for c in m.content %}"
    '{% if c.type == "image" %}<image> {% else %}{{ c.text }}{% endif %}{% endfor %} {% endfor %}assistant'
)


def save_ovis2(folder: Path, **processor: object) -> Path:
    """A seeded Ovis2 with six layers whose images are 16 visual tokens; processor: what else its has."""
    ids = {word: index for index, word in enumerate(_WORDS)}
    ids |= {mark: _FIRST + index for index, mark in enumerate(_MARKS)}
    inner = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in _MARKS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    )
    image = Ovis2ImageProcessorPil(size={"height": 32, "width": 32})
    given = {"chat_template": TEMPLATE, "image_seq_length": 16} | processor
    Ovis2Processor(image, tokenizer, **given).save_pretrained(folder)
    text = {
        "model_type": "qwen2",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 256,
        "max_position_embeddings": 2048,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Ovis2Config(
        text_config=text,
        vision_config={**tower, "image_size": 32, "patch_size": 8, "vocab_size": 24},
        image_token_id=ids["<IMG_ATOM>"],
        visual_indicator_token_ids=[ids[mark] for mark in _MARKS[1:6]],
        vocab_size=256,
        hidden_size=64,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder
