"""route(model, schedule): the engine, for models that it is proven with.

A model type with a file of its own and a plain decoder is proven by the tests of a release. Any other is
checked here before it is first routed, on a tiny copy of its config. Places no hooks: that is engine.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from routing.checks.check import FamilyCheck, check
from routing.engine import routed
from routing.errors import UnsupportedModelError
from routing.families import locate
from routing.schedule import Schedule
from routing.trace import RouteTrace

_PROVEN: dict[str, FamilyCheck] = {}


def prove(config: Any) -> FamilyCheck:
    """Check a model's own decoder, once a process for each config.

    Raises UnsupportedModelError with the first invariant that does not hold.
    """
    key = _decoder_of(config)
    if key not in _PROVEN:
        _PROVEN[key] = check(config=config)[0]
    failed = [finding for finding in _PROVEN[key].findings if not finding.passed]
    if failed:
        raise UnsupportedModelError(
            f"{config.model_type} cannot be routed: on a tiny copy of it, {failed[0].invariant} does not "
            f"hold ({failed[0].detail})"
        )
    return _PROVEN[key]


def vouch(config: Any) -> None:
    """Take a config for proven in this process: whoever says so has a verdict of its check, or wants none."""
    _PROVEN[_decoder_of(config)] = FamilyCheck(config.model_type, (), 0.0)


def _decoder_of(config: Any) -> str:
    return f"{config.model_type} {config.get_text_config().to_json_string(use_diff=False)}"


@contextmanager
def route(model: Any, schedule: Schedule, *, share_prefix: bool = False) -> Iterator[RouteTrace]:
    """Route every prefill of `model` inside the `with`; yields the trace of what happened.

    model: a loaded Hugging Face vision-language model of a supported family, also wrapped by others (PEFT,
    torch.compile, DataParallel); it is not modified, and is as before when the block ends, also by an
    exception. Keep decoding on a routed cache inside the block. A dense schedule hooks and traces nothing.
    Deep copies and replicas made inside the block are routed as long as it lasts, into the same trace; a
    routed model can't be pickled. Compiled decoder layers, and other compiled parts, run compiled; what was
    compiled around the decoder layers, or is no part of the model, runs eagerly inside the block.
    share_prefix: of a batch whose prompts all begin with the same images, that beginning is computed once, at
    the tower and in every decoder layer before the first decision (in all of them where none decides); then
    each prompt goes on alone, with its own keys and values. A dense schedule is hooked, too, then.
    The ranking token is each sample's last prompt token; with an int `logits_to_keep` of n > 1, as assisted
    decoding passes, it is the token n from the end.

    A model type without a file of its own (`routing.FAMILIES`) is proven first, once a process, on a tiny
    copy of its config: seconds.

    Raises UnsupportedModelError, ScheduleError (schedule and model do not fit) or RoutingError (already
    routed) on entry; calls inside raise UnsupportedInputError for caches, masks and modes that cannot be
    routed, and for prompts that do not begin alike up to the end of their images.
    """
    location = locate(model)
    if not location.info.filed and schedule.entries:
        prove(location.config)
    with routed(location, schedule, share_prefix=share_prefix) as trace:
        yield trace
