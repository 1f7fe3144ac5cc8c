"""A task's `generation_kwargs` as what reroute can do: greedy answers of a length, cut at stop strings.

What would change the answers and can't be done is refused; what has no meaning here is named, so that it can
be said once. Knows no model and nothing of lmms-eval but its defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reroute_cli.console.errors import UsageError

FILLED_IN = ["\n\n"]
"""What lmms-eval puts under `until` where a task says nothing: what parts examples in a prompt, no end of an
answer. Its own chat models do not stop there either."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "num_beam_groups": (None, 1),
    "num_return_sequences": (None, 1),
    "n": (None, 1),
    "best_of": (None, 1),
    "repetition_penalty": (None, 1),
    "no_repeat_ngram_size": (None, 0),
    "min_new_tokens": (None, 0),
    "min_length": (None, 0),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "penalty_alpha": (None, 0),
}
"""Settings that greedy search would heed, with the values at which they do nothing."""

_OF_SAMPLING = {"temperature", "do_sample", "top_p", "top_k", "min_p", "typical_p"}
_LENGTHS = ("max_new_tokens", "max_gen_toks")


@dataclass(frozen=True)
class Generation:
    """most: new tokens at most, None where the task does not say. unused: settings with no meaning here."""

    most: int | None
    until: tuple[str, ...]
    unused: tuple[str, ...]


def read_generation(kwargs: Mapping[str, Any], task: str) -> Generation:
    """What a task asks for; raises UsageError for what can't be done and for what is malformed."""
    _refuse_sampling(kwargs, task)
    for name, allowed in _NEUTRAL.items():
        if kwargs.get(name) not in allowed:
            raise UsageError(
                f"task '{task}' asks for {name}={kwargs[name]!r}, and reroute answers by greedy search: "
                f"add --gen_kwargs {name}={allowed[-1]}"
            )
    read = {*_NEUTRAL, *_OF_SAMPLING, *_LENGTHS, "until"}
    return Generation(_most(kwargs, task), _until(kwargs, task), tuple(sorted(set(kwargs) - read)))


def _refuse_sampling(kwargs: Mapping[str, Any], task: str) -> None:
    """do_sample=False is greedy whatever the temperature is; so is temperature 0 in lmms-eval."""
    if kwargs.get("do_sample") is False:
        return
    temperature = kwargs.get("temperature")
    sampled = bool(kwargs.get("do_sample")) if temperature is None else temperature != 0
    if sampled:
        raise UsageError(
            f"task '{task}' asks for sampling (do_sample={kwargs.get('do_sample')}, "
            f"temperature={temperature}), and reroute answers greedily: "
            "add --gen_kwargs temperature=0,do_sample=False"
        )


def _most(kwargs: Mapping[str, Any], task: str) -> int | None:
    for name in _LENGTHS:
        value = kwargs.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value != int(value):
            raise UsageError(f"task '{task}' asks for {name}={value!r}: give a whole number of at least 1")
        return int(value)
    return None


def _until(kwargs: Mapping[str, Any], task: str) -> tuple[str, ...]:
    given = kwargs.get("until")
    words = [given] if isinstance(given, str) else given
    if words is None or words == FILLED_IN:
        return ()
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"task '{task}' asks for until={given!r}: give a string or a list of strings")
    return tuple(word for word in words if word)


def cut(text: str, until: tuple[str, ...]) -> str:
    """The text up to the first stop string in it."""
    places = [place for word in until if (place := text.find(word)) >= 0]
    return text[: min(places)].strip() if places else text
