"""The proof of the engine on what is installed: tiny models of every family, against truths of their own.

Each invariant compares a routed model with something that shares no code with the engine: the unhooked model,
the slow references of reference.py, or arithmetic. Nothing is downloaded, written or left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any

import torch
from transformers import CONFIG_MAPPING

from routing.checks.configs import TEMPLATES, from_configuration
from routing.checks.copies import placeholder_ids, tiny_copy
from routing.checks.counting import Counted, prompts_of, shape_of
from routing.checks.defaults import default_config
from routing.checks.reference import Cut, by_gathering, by_masking, greedy
from routing.checks.runs import ACTIONS, TOLERANCE, close, generate, generate_routed, hooks, plan, stored
from routing.checks.shrunk import shrunk
from routing.checks.subjects import ONE, RAGGED, Copied, Tiny
from routing.cost import cost, lm_head_flops
from routing.engine import routed
from routing.errors import UnsupportedModelError
from routing.families import FAMILIES, ModelInfo, describe_config, locate

CUTS = (Cut(2, 0.5), Cut(4, 0.25))
ATTENTION = ("sdpa", "eager")
NEW = 4  # tokens that are decoded
WINDOW = 12  # of sliding windows in tiny copies: the checks' prompts outgrow it


@dataclass(frozen=True)
class Finding:
    """Whether one invariant holds; detail: one sentence of what was expected and found, or why not asked."""

    invariant: str
    passed: bool
    detail: str | None = None


@dataclass(frozen=True)
class FamilyCheck:
    """All invariants of one family. seconds: what building and running the tiny models took."""

    family: str
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Every invariant holds."""
        return all(finding.passed for finding in self.findings)


class _BrokenError(Exception):
    """An invariant does not hold; the message says what was expected and found."""


class _NotAskedError(Exception):
    """An invariant cannot be asked of this model; the message says why."""


def _same(what: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise _BrokenError(f"{what}: expected {expected}, found {found}")


def _close(what: str, expected: torch.Tensor, found: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    if not close(expected, found, tolerance):
        raise _BrokenError(f"{what} differ by up to {float((expected - found).abs().max()):.1e}")


def _keep_everything(subject: Tiny, action: str) -> None:
    """Keep ratio 1.0 is the unhooked model to the last bit: logits and tokens, single and left-padded."""
    for samples in ((ONE,), RAGGED):
        expected = generate(subject.model, subject.inputs(*samples), NEW)
        everything = [Cut(cut.layer, 1.0) for cut in _cuts(subject)]
        found = generate_routed(subject, plan(everything, action), *samples, new=NEW)
        _same("greedy tokens", expected.tokens, found.tokens)
        if not torch.equal(expected.logits, found.logits):
            raise _BrokenError("logits under keep ratio 1.0 are not those of the unhooked model")


def _reference(subject: Tiny, action: str) -> None:
    """Compact stages equal a reference: at full length, other tokens masked, or where a state runs over the
    tokens, the unmodified layers one by one on the gathered ones."""
    cuts, method = _cuts(subject), by_masking if _maskable(subject) else by_gathering
    expected = method(subject.model, subject.inputs(ONE), cuts, action == "reroute")
    found = generate_routed(subject, plan(cuts, action), ONE, new=1)
    _same("kept visual tokens", expected.kept, found.kept())
    _close("last logits", expected.logits, found.logits[0])


def _first_layer(subject: Tiny, action: str) -> None:
    """The same for a schedule that starts at the first layer that may decide, with decoded tokens."""
    first = subject.first_layer
    cuts = (Cut(first, 0.5), Cut(_may_decide(_info(subject), first + 3), 0.25))
    expected, tokens = greedy(subject.model, subject.inputs(ONE), cuts, action == "reroute", NEW)
    found = generate_routed(subject, plan(cuts, action), ONE, new=NEW)
    _same("kept visual tokens", expected.kept, found.kept())
    _same("greedy tokens", tokens, found.tokens[0])


def _batch(subject: Tiny, action: str) -> None:
    """A left-padded, ragged batch gives every sample what it gets alone."""
    schedule = plan(_cuts(subject), action)
    batch = generate_routed(subject, schedule, *RAGGED, new=NEW)
    for row, sample in enumerate(RAGGED):
        alone = generate_routed(subject, schedule, sample, new=NEW)
        if subject.visual(sample):
            _same(f"kept visual tokens of sample {row}", alone.kept(), batch.kept(row))
        _same(f"greedy tokens of sample {row}", alone.tokens[0], batch.tokens[row])
        _close(f"last logits of sample {row}", alone.logits[0], batch.logits[row], 3 * TOLERANCE)


def _decode(subject: Tiny, action: str) -> None:
    """Tokens decoded on a routed cache are those of recomputing everything without one."""
    cuts = _cuts(subject)
    _, tokens = greedy(subject.model, subject.inputs(ONE), cuts, action == "reroute", NEW)
    found = generate_routed(subject, plan(cuts, action), ONE, new=NEW)
    _same("greedy tokens", tokens, found.tokens[0])


def _kv_lengths(subject: Tiny, action: str) -> None:
    """Every layer stores its text and the kept tokens of its stage, exactly; a window the last of these."""
    ran = generate_routed(subject, plan(_cuts(subject), action), ONE, new=1)
    ids, image = subject.ids(ONE), placeholder_ids(subject.model.config)[0]
    visual = [place for place, token in enumerate(ids) if token == image]
    expected: list[int | None] = []
    for index, kind in enumerate(_info(subject).kinds):
        if not kind.ranks:
            expected.append(None)
            continue
        kept = [k for cut, k in zip(_cuts(subject), ran.kept(), strict=True) if cut.layer <= index]
        gone = set(visual) - {visual[place] for place in kept[-1]} if kept else set()
        window = _window(subject) if kind.forgets else None
        first = 0 if window is None else len(ids) - window + 1
        expected.append(sum(place >= first for place in range(len(ids)) if place not in gone))
    pairs = zip(expected, stored(ran.cache), strict=False)  # a cache ends with the last layer that stores
    found = [None if rows is None else held for rows, held in pairs]
    _same("rows stored per layer", expected, found + expected[len(found) :])


def _info(subject: Tiny) -> ModelInfo:
    return describe_config(subject.model.config)


def _cuts(subject: Tiny) -> tuple[Cut, ...]:
    """The stages that are proven, at layers that may decide."""
    info = _info(subject)
    second = _may_decide(info, max(CUTS[1].layer, info.first_layer + 1))
    return Cut(max(info.first_layer, min(CUTS[0].layer, second - 1)), 0.5), Cut(second, 0.25)


def _may_decide(info: ModelInfo, most: int) -> int:
    """The last layer up to `most` that may decide, and has attention to rank by at or after it."""
    layers = range(min(most, info.last_layer) + 1)
    return max(layer for layer in layers if info.ranking(layer) is not None)


def _maskable(subject: Tiny) -> bool:
    """Whether leaving tokens out is the same as hiding them: no state runs over them."""
    return not any(kind.told == "padding" for kind in _info(subject).kinds)


def _window(subject: Tiny) -> int:
    text = subject.model.config.get_text_config()
    return int(getattr(text, "sliding_window", None) or text.attention_chunk_size)


def _flops(subject: Tiny, action: str) -> None:
    """torch's FLOP counter and the arithmetic of routing/cost.py say the same of decoder and ranking."""
    try:
        shape = shape_of(subject)
    except UnsupportedModelError as reason:
        raise _NotAskedError(str(reason)) from reason
    schedule = plan(_cuts(subject), action)
    with routed(locate(subject.model), schedule):
        counted = Counted(subject, subject.inputs(ONE))
    expected = cost(shape, schedule, prompts_of(subject, ONE))
    _same("FLOPs of ranking", expected.scoring_flops, counted.scoring)
    more = counted.output.logits.shape[1] - 1  # positions that get logits though nobody asked
    found = counted.prefill - lm_head_flops(shape, more)
    _same("FLOPs of the prefill", expected.prefill_flops, found)


def _untouched(subject: Tiny, action: str) -> None:
    """Afterwards the model has the hooks it had, and computes what it did."""
    before, expected = hooks(subject.model), generate(subject.model, subject.inputs(ONE), 1)
    generate_routed(subject, plan(_cuts(subject), action), ONE, new=1)
    changed = [name for name, state in hooks(subject.model).items() if state != before[name]]
    _same("modules with other hooks", [], changed)
    if not torch.equal(expected.logits, generate(subject.model, subject.inputs(ONE), 1).logits):
        raise _BrokenError("the model's logits are other than before it was routed")


INVARIANTS: dict[str, Callable[[Tiny, str], None]] = {
    "keep everything": _keep_everything,
    "reference": _reference,
    "first layer": _first_layer,
    "batch": _batch,
    "decode": _decode,
    "kv lengths": _kv_lengths,
    "flops": _flops,
    "untouched": _untouched,
}


def check(
    families: Sequence[str] | None = None,
    *,
    config: Any = None,
    device: str = "cpu",
    on_finding: Callable[[str, Finding], None] | None = None,
) -> tuple[FamilyCheck, ...]:
    """Prove the engine on the installed transformers and torch, on tiny random models.

    Args:
        families: model types: those with a file (`routing.FAMILIES`) are built by hand, with a tower and
            pixels; any other of the library's is a tiny copy of its default config (copies.py). None for all
            with a file.
        config: a model's own Hugging Face config instead: its family, with its own decoder, shrunk.
            Not together with `families` (ValueError).
        device: where the tiny models run.
        on_finding: called with the family after each finding.

    Returns one result a family: every invariant under prune and reroute, sdpa and eager. What goes wrong in a
    model is a finding, not an exception. Raises UnsupportedModelError for what cannot be routed at all.
    """
    if config is not None:
        if families:
            raise ValueError("families and config both say what to check: give one of them")
        with _one_thread():
            return (_check(config.model_type, _own(config), device, on_finding),)
    unknown = [name for name in families or () if name not in CONFIG_MAPPING and name not in FAMILIES]
    if unknown:
        raise UnsupportedModelError(
            f"{unknown[0]} is not a model type of transformers; these have a file: {', '.join(FAMILIES)}"
        )
    with _one_thread():
        return tuple(_check(name, _default(name), device, on_finding) for name in families or FAMILIES)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tiny models gain nothing from threads, and on a busy machine lose minutes by waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


Build = Callable[[str], Tiny]  # of an attention implementation


def _default(family: str) -> Build:
    """Builds the tiny model of a family: by hand where its images are described, a copy of its default."""
    if family not in TEMPLATES:
        return _own(default_config(family))
    model_type, make = TEMPLATES[family]
    return lambda attention: Tiny(family, from_configuration(CONFIG_MAPPING[model_type](**make()), attention))


def _own(config: Any) -> Build:
    """Builds tiny models with the decoder of a config."""
    if not describe_config(config).filed or config.model_type not in TEMPLATES:
        return lambda attention: Copied(config.model_type, tiny_copy(config, attention, window=WINDOW))
    model_type, settings = shrunk(config)
    return lambda attention: Tiny(
        config.model_type, from_configuration(CONFIG_MAPPING[model_type](**settings), attention)
    )


def _check(
    family: str, build: Build, device: str, on_finding: Callable[[str, Finding], None] | None
) -> FamilyCheck:
    start, findings = perf_counter(), list[Finding]()

    @cache
    def built(attention: str) -> Tiny:
        subject = build(attention)
        subject.model.to(device)
        return subject

    for name, holds in INVARIANTS.items():
        finding = _find(name, holds, built)
        findings.append(finding)
        if on_finding is not None:
            on_finding(family, finding)
    return FamilyCheck(family, tuple(findings), perf_counter() - start)


def _find(
    name: str,
    holds: Callable[[Tiny, str], None],
    build: Build,
) -> Finding:
    """One invariant under every attention implementation and action; the first failure ends it."""
    why = None
    for attention in ("eager",) if holds is _flops else ATTENTION:  # eager products are counted on any device
        for action in ACTIONS:
            try:
                holds(build(attention), action)
            except _NotAskedError as reason:
                why = f"not asked: {reason}"
            except Exception as error:  # noqa: BLE001  # whatever breaks on a future release is the finding
                return Finding(name, False, f"{action}, {attention}: {_sentence(error)}")
    return Finding(name, True, why)


def _sentence(error: Exception) -> str:
    words = " ".join(str(error).split())
    if not isinstance(error, _BrokenError):
        words = f"{type(error).__name__}: {words}"
    return words if len(words) <= 400 else words[:399] + "…"
