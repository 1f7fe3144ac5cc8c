"""Every field of transformers' GenerationConfig, by what it does to a greedy answer, and what it may hold.

A field that is in none of these tables is of a release that nobody has looked at: it counts as one that
changes answers. Knows JSON values; not files, models or records.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
"""Which tokens begin, end and fill."""

COSTS = (
    *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size"),
    *("compile_config", "disable_compile"),
)
"""How an answer is computed, and not which one it is."""

OVERRIDDEN = (
    # lengths, which the caller gives, and the clock, which would make an answer depend on the machine
    *("max_length", "max_new_tokens", "max_time"),
    # sampling
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p"),
    *("epsilon_cutoff", "eta_cutoff"),
    # beams, contrastive and constrained search
    *("num_beams", "num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping"),
    *("num_return_sequences", "penalty_alpha", "constraints", "force_words_ids", "dola_layers"),
    # drafts by another model, or by this one
    *("is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "use_mtp"),
    *("assistant_confidence_threshold", "assistant_early_exit", "assistant_lookbehind"),
    *("assistant_ensemble_weight", "target_lookbehind", "prompt_lookup_num_tokens"),
    *("max_matching_ngram_size", "speculation_type"),
    # what is returned, and how memory is saved
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
    *("return_dict_in_generate", "low_memory", "continuous_batching_config"),
)
"""What never reaches an answer of reroute: it is greedy, and as long as the caller says."""

METADATA = ("_from_model_config", "_commit_hash", "transformers_version")

UNABLE = {
    "stop_strings": "which reroute does not look for",
    "token_healing": "which would rewrite the prompt",
    "guidance_scale": "which would run the model a second time for every token",
}
"""What changes a greedy answer in a way that is not supported, and how."""

Check = Callable[[Any, int], Any]
"""A value, the size of the vocabulary -> the value as transformers takes it; ValueError says what may be."""

_MOST_TOKENS = 1 << 16


def _number(low: float, high: float) -> Check:
    def check(value: Any, _vocabulary: int) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return float(value)

    return check


def _whole(value: Any, _vocabulary: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_TOKENS:
        raise ValueError(f"a whole number from 0 to {_MOST_TOKENS}")
    return value


def _flag(value: Any, _vocabulary: int) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _id(value: Any, vocabulary: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < vocabulary:
        raise ValueError(f"a token id below {vocabulary}")
    return value


def _ids(value: Any, vocabulary: int) -> list[int]:
    if not isinstance(value, list):
        raise ValueError(f"a list of token ids below {vocabulary}")
    return [_id(one, vocabulary) for one in value]


def _id_or_ids(value: Any, vocabulary: int) -> int | list[int]:
    return _ids(value, vocabulary) if isinstance(value, list) else _id(value, vocabulary)


def _sequence(value: Any, vocabulary: int) -> list[int]:
    found = _ids(value, vocabulary)
    if not found:
        raise ValueError("lists of one token id or more")
    return found


def _sequences(value: Any, vocabulary: int) -> list[list[int]]:
    if not isinstance(value, list):
        raise ValueError("a list of lists of token ids")
    return [_sequence(one, vocabulary) for one in value]


def _decay(value: Any, vocabulary: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("a start and a factor")
    return [_whole(value[0], vocabulary), _number(0, 100)(value[1], vocabulary)]


def _biases(value: Any, vocabulary: int) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise ValueError("a list of pairs of token ids and a bias")
    return [[_sequence(ids, vocabulary), _number(-1e9, 1e9)(bias, vocabulary)] for ids, bias in value]


def _table(value: Any, _vocabulary: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a JSON object")
    return value


def special(value: Any, _vocabulary: int) -> Any:
    """An id or several. Some files have one that no token has, which then never comes."""
    for one in value if isinstance(value, list) and value else [value]:
        if isinstance(one, bool) or not isinstance(one, int) or abs(one) >= 1 << 31:
            raise ValueError("a token id or a list of them")
    return value


def unknown(value: Any, _vocabulary: int) -> Any:
    """Any JSON value."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise ValueError("a finite number") from error
    return value


CHECKS: dict[str, Check] = {
    "repetition_penalty": _number(1e-3, 1e3),
    "encoder_repetition_penalty": _number(1e-3, 1e3),
    "no_repeat_ngram_size": _whole,
    "encoder_no_repeat_ngram_size": _whole,
    "bad_words_ids": _sequences,
    "min_length": _whole,
    "min_new_tokens": _whole,
    "forced_bos_token_id": _id,
    "forced_eos_token_id": _id_or_ids,
    "exponential_decay_length_penalty": _decay,
    "suppress_tokens": _ids,
    "begin_suppress_tokens": _ids,
    "sequence_bias": _biases,
    "watermarking_config": _table,
    "remove_invalid_values": _flag,
    "renormalize_logits": _flag,
}
"""What changes a greedy answer, with what it may hold."""

_NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "remove_invalid_values": False,
    "renormalize_logits": False,
    "guidance_scale": 1.0,
    "token_healing": False,
}


def is_neutral(key: str, value: Any) -> bool:
    """Whether a field does nothing at this value: null, an empty list, or what it is where nobody set it."""
    if key in CHECKS and isinstance(value, list | dict):
        return not value
    return value is None or (key in _NEUTRAL and type(value) in (bool, int, float) and value == _NEUTRAL[key])
