"""A tokenizer without a file: right special tokens, right size, and words that mean nothing to a model.

A byte-level unigram tokenizer as `tokenizers` builds it. Every special token has its real id, and every id of
the vocabulary is a token. What differs from the real one: a word of `_WORDS` is one token, any other is cut
into pieces of one or two letters, where real tokenizers reach four. So templates and everyday questions come
out within a few tokens of the real length, and long rare words longer; the number of visual tokens does not
depend on it. Knows no model and no picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import ascii_lowercase
from typing import Any

from profiles import ProcessorEntry

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


def build_tokenizer(entry: ProcessorEntry, size: int) -> Any:
    """A fast tokenizer of exactly `size` tokens for a well-known model's processor."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import Unigram
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(Unigram(_vocabulary(entry.tokens, size), unk_id=0, byte_fallback=False))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(_special(entry.tokens))
    if entry.starts_with:
        inner.post_processor = _prefix(entry)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_input_names=["input_ids", "attention_mask"],
        extra_special_tokens={role: token for role, token in entry.roles.items() if role not in _STANDARD},
        **{role: token for role, token in entry.roles.items() if role in _STANDARD},
    )


def _special(tokens: Mapping[str, int]) -> list[Any]:
    from tokenizers import AddedToken

    return [AddedToken(token, special=True, normalized=False) for token in tokens]


def _prefix(entry: ProcessorEntry) -> Any:
    """Puts the starting token before a text, as the real tokenizer does."""
    from tokenizers.processors import TemplateProcessing

    start = entry.starts_with
    return TemplateProcessing(single=[start, "$A"], special_tokens=[(start, entry.tokens[start])])


def _vocabulary(special: Mapping[str, int], size: int) -> list[tuple[str, float]]:
    """Token and score of every id: special tokens at theirs, then bytes, words and pieces, then fillers."""
    reserved = {index: token for token, index in special.items()}
    words = _words()
    rows = []
    for index in range(size):
        if index in reserved:
            rows.append((reserved[index], _NEVER))
        else:
            rows.append(next(words, (f"Ġt{index}", _NEVER)))
    return rows


def _words() -> Iterator[tuple[str, float]]:
    """Every byte, then words with and without a space before them, and pieces of words."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters, words = sorted(ByteLevel.alphabet()), _WORDS.split()
    yield from ((letter, _BYTE) for letter in letters)
    pieces = [*_PIECES.split(), *(f"Ġ{letter}" for letter in ascii_lowercase)]
    yield from ((piece, _PIECE) for piece in pieces)
    whole = dict.fromkeys([*(f"Ġ{word}" for word in words), *words, "ĊĊ"])
    yield from ((word, _WORD) for word in whole if word not in {*letters, *pieces})
