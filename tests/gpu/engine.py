"""Steps that ask whether the engine is right: on tiny models, against truths that share no code with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

import routing
from routing.checks.check import check
from routing.checks.configs import build
from routing.checks.reference import Cut, by_gathering, decoder
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, Ran, generate, generate_routed, plan
from routing.checks.subjects import FAMILIES, ONE, RAGGED, Sample, Tiny
from tests.gpu.outcome import Job, Skipped
from tests.gpu.pretend import pretending
from tests.routing.rankings import RANKINGS

FIRST = ("llava", "qwen2_5_vl", "qwen3_vl")  # the others follow while there is time
BFLOAT16 = 0.03  # of the largest logit: eight units in the last place of 1, over six layers
FOUR = (Cut(1, 0.5), Cut(2, 0.4), Cut(3, 0.3, 2), Cut(4, 0.1))


def invariants(job: Job) -> None:
    """Float32, sdpa and eager: what `reroute check` proves, on this device."""
    names = [*FIRST, *(name for name in FAMILIES if name not in FIRST)] if job.on_card else FIRST[:1]
    slowest = 0.0
    for number, name in enumerate(names):
        if job.left < 2 * slowest + 5:
            job.note("families without an answer", float(len(names) - number))
            break
        (found,) = check([name], device=job.device)
        slowest = max(slowest, found.seconds)
        held = sum(one.passed for one in found.findings)
        job.note(name, float(held), "invariants", least=len(found.findings))
        for one in found.findings:
            if not one.passed:
                job.note(f"{name}, {one.invariant}", one.detail)


def bfloat16(job: Job) -> None:
    """Bfloat16: keeping everything is the unhooked model, and a routed prompt the layers one by one."""
    for name in FIRST[:2]:
        subject = _subject(job, name, torch.bfloat16)
        for action in ACTIONS:
            everything = plan([Cut(cut.layer, 1.0) for cut in HALF_THEN_QUARTER], action)
            dense = generate(subject.model, subject.inputs(*RAGGED), 4)
            kept = generate_routed(subject, everything, *RAGGED, new=4)
            same = dense.tokens == kept.tokens and torch.equal(dense.logits, kept.logits)
            job.note(f"{name}, {action}: keep everything", float(same), "of 1", least=1)
            found = generate_routed(subject, plan(HALF_THEN_QUARTER, action), ONE, new=1)
            given = (subject.model, subject.inputs(ONE), HALF_THEN_QUARTER, action == "reroute")
            layers = by_gathering(*given, fixed=found.kept()).logits
            job.note(
                f"{name}, {action}: logits", _apart(layers, found.logits[0]), "of the largest", most=BFLOAT16
            )
            exact = generate_routed(_subject(job, name), plan(HALF_THEN_QUARTER, action), ONE, new=1)
            job.note(f"{name}, {action}: kept as in float32", _alike(exact, found), "of all")


def flash(job: Job) -> None:
    """Flash attention keeps what sdpa keeps, alone and in a ragged batch; eager stands in on the CPU."""
    from transformers.utils import is_flash_attn_2_available

    attention = "flash_attention_2" if job.on_card else "eager"
    if job.on_card and not is_flash_attn_2_available():
        raise Skipped("the package flash-attn is not installed")
    for name in FIRST[:2]:
        other, plain = (_subject(job, name, torch.bfloat16, kind) for kind in (attention, "sdpa"))
        for action in ACTIONS:
            for samples in ((ONE,), RAGGED):
                schedule = plan(HALF_THEN_QUARTER, action)
                found, expected = (generate_routed(one, schedule, *samples) for one in (other, plain))
                case = f"{name}, {action}, batch {len(samples)}"
                apart = _apart(expected.logits, found.logits)
                job.note(f"{case}: logits", apart, "of the largest", most=2 * BFLOAT16)
                job.note(f"{case}: kept as under sdpa", _alike(expected, found), "of all")


def waits(job: Job) -> None:
    """How often the host waits for the device between the first layer's start and the last one's end."""
    seen = _on_card if job.on_card else pretending_waits
    with seen() as count:
        for samples in ((ONE,), RAGGED):
            subject = Tiny("llava", build("llava", "sdpa"))
            subject.model.to("cuda:0")
            dense = _waits(subject, routing.Schedule(()), samples, count)
            for scorer, action in RANKINGS:
                found = _waits(subject, plan(FOUR, action, scorer=scorer), samples, count)
                case = f"{scorer}, {action}, batch {len(samples)}"
                decisions = 0 if len(samples) == 1 else len(FOUR)
                job.note(f"{case}: prefill", found[0] - dense[0], "waits", most=decisions)
                job.note(f"{case}: decode", max(found[1:]) - max(dense[1:]), "waits a token", most=0)


def _waits(
    subject: Tiny, schedule: routing.Schedule, samples: tuple[Sample, ...], count: Callable[[], int]
) -> list[int]:
    """Waits within the decoder layers of a prefill, and of each token after it."""
    layers, starts, ends = decoder(subject.model).layers, list[int](), list[int]()
    handles = [
        layers[0].mlp.register_forward_pre_hook(lambda *_: starts.append(count())),
        layers[-1].mlp.register_forward_hook(lambda *_: ends.append(count())),
    ]
    try:
        with routing.route(subject.model, schedule):
            generate(subject.model, subject.inputs(*samples), 4)
    finally:
        for handle in handles:
            handle.remove()
    return [end - start for start, end in zip(starts, ends, strict=True)]


@contextmanager
def _on_card() -> Iterator[Callable[[], int]]:
    """Torch's own check of synchronising calls, as it warns of them."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lambda: sum("synchronizing" in str(one.message) for one in caught)
        finally:
            torch.cuda.set_sync_debug_mode(before)


@contextmanager
def pretending_waits() -> Iterator[Callable[[], int]]:
    """The same on a pretended device: all waits, whoever asks for them."""
    with pretending() as found:
        yield lambda: len(found.ours) + len(found.others)


def _subject(job: Job, name: str, dtype: Any = torch.float32, attention: str = "sdpa") -> Tiny:
    return Tiny(name, _built(name, attention).to(job.device, dtype))


def _built(name: str, attention: str) -> Any:
    """The tiny model with that attention, which is set once it is built."""
    model = build(name, "sdpa")
    model.set_attn_implementation(attention)
    return model


def _apart(expected: torch.Tensor, found: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((expected.float() - found.float()).abs().max() / expected.float().abs().max())


def _alike(expected: Ran, found: Ran) -> float:
    """Of the visual tokens that one kept, the share that the other kept."""
    pairs = [
        (set(left.tolist()), set(right.tolist()))
        for one, other in zip(expected.trace.stages, found.trace.stages, strict=True)
        for left, right in zip(one.kept, other.kept, strict=True)
    ]
    return sum(len(left & right) for left, right in pairs) / sum(len(left) for left, _ in pairs)
