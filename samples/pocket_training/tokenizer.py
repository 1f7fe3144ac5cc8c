"""The word-level tokenizer of the embedded model: 252 tokens, with "0.00" to "1.00" as single tokens.

Knows the vocabulary and LLaVA's chat template; knows nothing of pictures or weights.
"""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from samples.pocket_training.scenes import NAMES

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>", "USER:", "ASSISTANT:")
SYMBOLS = ("\n", "?", ".", ",", "[", "]", "▁[", "▁")
WORDS = (
    "where", "is", "the", "there", "a", "an", "in", "image", "how", "many", "objects", "are", "what",
    "at", "smaller", "larger", "on", "left", "right", "of", "yes", "no", "object", "it", "to", "and",
)  # fmt: skip
COORDINATES = tuple(f"{hundredth / 100:.2f}" for hundredth in range(101))
PIECES = Regex(r"▁?\d\.\d\d|▁?[A-Za-z]+|▁?\d|\n|▁?\[|[^A-Za-z\d\s▁]|▁")
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['role']=='user' %}USER: "
    "{% for c in m['content'] %}{% if c['type']=='image' %}<image>{% endif %}{% endfor %}{{ '\\n' }}"
    "{% for c in m['content'] %}{% if c['type']=='text' %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% else %} ASSISTANT: {% for c in m['content'] %}{{ c['text'] }}{% endfor %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


def vocabulary() -> dict[str, int]:
    """Token -> id. Words and digits stand twice: inside a text and after a space."""
    words = [form for word in (*WORDS, *NAMES) for form in (word, "▁" + word)]
    digits = [form for digit in range(10) for form in (str(digit), f"▁{digit}")]
    tokens = (*SPECIAL, *SYMBOLS, *words, *digits, *COORDINATES)
    return {token: index for index, token in enumerate(tokens)}


def new_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer with its chat template; pads on the left; unknown words become <unk>."""
    ids = vocabulary()
    core = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    spaces = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([spaces, pre_tokenizers.Split(PIECES, behavior="isolated")])
    core.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="never")
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", ids["<s>"])]
    )
    core.add_special_tokens([*SPECIAL[:4], AddedToken("<image>", special=True, normalized=False)])
    core.add_special_tokens([AddedToken("USER:", special=True, normalized=False, rstrip=True)])
    core.add_special_tokens([AddedToken("ASSISTANT:", special=True, normalized=False, lstrip=True)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        additional_special_tokens=list(SPECIAL[4:]), extra_special_tokens={"image_token": "<image>"},
        padding_side="left", clean_up_tokenization_spaces=False, model_max_length=1024,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
