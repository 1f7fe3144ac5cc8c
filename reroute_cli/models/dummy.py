"""A model of the right shapes with random weights, and its processor, made without a file.

The model is built on the meta device, weighed against what is free, and only then allocated where it will
run. Matrices are filled from one pool of small normal numbers, which is as fast as copying. The library's
initialisation does the rest: norms of one, biases of zero, and every buffer (rotary frequencies, position
ids) anew, since allocating leaves garbage in them.

The processor is the family's own classes at a well-known model's real preprocessing numbers, so that images
become exactly the visual tokens that they become for the real model. Only the tokenizer is made up: a
byte-level unigram tokenizer as `tokenizers` builds it, in which every special token has its real id and every
id of the vocabulary is a token. What differs from the real one: a word of `_WORDS` is one token, any other is
cut into pieces of one or two letters, where real tokenizers reach four. So templates and everyday questions
come out within a few tokens of the real length, and long rare words longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure
from reroute_cli.console.missing import lacks
from reroute_cli.models.processors import image_only
from reroute_cli.models.room import check_room

if TYPE_CHECKING:
    from profiles import ProcessorEntry

_POOL = 1_299_709  # numbers; a prime, so that no two rows and no two matrices start alike
_STD = 0.02
_SEEN = 64  # numbers of a matrix that tell whether it was filled anew
_UNSET = -(2**30)  # no position and no index is this
_WORDS = """
a about all an and animal animals answer any are as at be big bird black blue boat book bottle
bounding box boxes boy brown building bus can car cat chair child children color colour coordinate
coordinates cup describe detail do does dog door doing find floor food for format from girl give
glass green hand has have he her his holding horse house how image in inside is it JSON kind left
list locate man many me most near no number object objects of on one or orange output over people
person phrase picture please provide red region right room say scene see sentence she short show
shown shows side sign sitting small standing street table tell text that the their them there these
they thing things this to train tree two type under using was water wearing what when where which
white who why will window with woman word words yellow yes you your A Answer Can Describe Did Do
Does Find Give How Is Are List Locate Please Provide The There This What Where Which Who Why You Yes
No USER ASSISTANT User Assistant INST user assistant system helpful row col global img
"""
_PIECES = """
al am an ar at ch ck ed el en er es ic il in ing ion is it le ly ment nd ng nt on or ou ra re ri ro
se sh st te th ti tion ur us ve
"""  # the commonest runs of letters, for every other word
_STANDARD = ("bos_token", "eos_token", "unk_token", "pad_token")
_WORD, _PIECE, _BYTE, _NEVER = -1.0, -2.0, -10.0, -1e6  # scores: a text is cut for the highest sum


def build_config(numbers: Mapping[str, Any]) -> Any:
    """The library's full config of what a config.json says, with the library's defaults for the rest."""
    from transformers import AutoConfig

    return AutoConfig.for_model(**numbers)


def build_model(name: str, config: Any, settings: dict[str, Any], device: str, seed: int) -> Any:
    """The model of a transformers config in eval mode on its device (raises Failure where it has no room).

    settings: dtype and attn_implementation, as from_config takes them.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, **settings)
    model.tie_weights()
    held = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}  # tied ones once
    needed = sum(tensor.numel() * tensor.element_size() for tensor in held.values())
    check_room(name, needed, device, str(model.dtype).removeprefix("torch."))
    model.to_empty(device=device)
    model.tie_weights()  # allocating gave each of two tied tensors its own memory
    torch.manual_seed(seed)
    with torch.no_grad():
        # the pool is written over and over through all matrices, and the library told that they are done
        pools: dict[Any, Any] = {}
        start = 0
        for weight in (weight for weight in model.parameters() if weight.dim() > 1):
            if weight.dtype not in pools:
                pool = torch.empty(_POOL, device=weight.device).normal_(0.0, _STD)
                pools[weight.dtype] = pool.repeat(2).to(weight.dtype)
            turned = pools[weight.dtype][start : start + _POOL]
            for part in weight.view(-1).split(_POOL):
                part.copy_(turned[: len(part)])
            start = (start + weight.numel()) % _POOL
            weight._is_hf_initialized = True
        for buffer in model.buffers():  # so that one which initialisation forgets is found, not used as it is
            buffer.fill_(float("nan") if buffer.is_floating_point() else _UNSET)
        first = next(weight for weight in model.parameters() if weight.dim() > 1)
        before = first.view(-1)[:_SEEN].clone()
        model.initialize_weights()
    if not torch.equal(before, first.view(-1)[:_SEEN]):  # then the seed does not say what the weights are
        raise Failure(lacks("transformers", "_is_hf_initialized", "initialize_weights"))
    forgotten = [
        name
        for name, buffer in model.named_buffers()
        if (buffer.isnan() if buffer.is_floating_point() else buffer == _UNSET).any()
    ]
    assert not forgotten, f"these buffers of {type(model).__name__} were not initialised: {forgotten}"
    return model.eval()


def build_processor(entry: ProcessorEntry, vocabulary: int) -> Any:
    """The processor of a well-known model; `vocabulary` is the number of tokens its config names."""
    import transformers
    from transformers.utils import is_torchvision_available

    suffix = "" if is_torchvision_available() else "Pil"  # the form that AutoProcessor would choose here
    return image_only(entry.kind)(
        image_processor=getattr(transformers, entry.image_kind + suffix)(**entry.image),
        tokenizer=build_tokenizer(entry, vocabulary),
        chat_template=entry.template,
        **entry.arguments,
    )


def build_tokenizer(entry: ProcessorEntry, size: int) -> Any:
    """A fast tokenizer of exactly `size` tokens for a well-known model's processor."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import Unigram
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    reserved = {index: token for token, index in entry.tokens.items()}
    # every byte, then pieces of words, then words with and without a space before them
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*_PIECES.split(), *(f"Ġ{letter}" for letter in ascii_lowercase)]
    whole = [*(f"Ġ{word}" for word in _WORDS.split()), *_WORDS.split(), "ĊĊ"]
    scores = dict.fromkeys(whole, _WORD) | dict.fromkeys(pieces, _PIECE) | dict.fromkeys(letters, _BYTE)
    words = ((text, scores[text]) for text in dict.fromkeys([*letters, *pieces, *whole]))
    vocabulary = [  # fillers after the words, up to the size
        (reserved[index], _NEVER) if index in reserved else next(words, (f"Ġt{index}", _NEVER))
        for index in range(size)
    ]
    inner = Tokenizer(Unigram(vocabulary, unk_id=0, byte_fallback=False))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in entry.tokens])
    if start := entry.starts_with:  # is put before a text, as the real tokenizer does
        inner.post_processor = TemplateProcessing(
            single=[start, "$A"], special_tokens=[(start, entry.tokens[start])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_input_names=["input_ids", "attention_mask"],
        extra_special_tokens={role: token for role, token in entry.roles.items() if role not in _STANDARD},
        **{role: token for role, token in entry.roles.items() if role in _STANDARD},
    )
