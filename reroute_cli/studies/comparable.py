"""Whether two reports may be compared: the same work, and for absolute times the same machine.

Pure: reports in, sentences or differences out. Knows no gates and no verdicts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import NotComparable
from reroute_cli.records.base import ModelPart
from reroute_cli.records.comparison import Difference

if TYPE_CHECKING:
    from reroute_cli.records.report import ArmPart, ItemPart, Report

_MODEL_FIELDS = [name for name in ModelPart.model_fields if name not in ("reasons", "device")]
_RUN_FIELDS = {"new_tokens": "--max-new-tokens", "batch_size": "--batch-size", "seed": "--seed"}
_SOFTWARE = ("python", "platform", "cuda", "driver", "commit")


@dataclass(frozen=True)
class Pairing:
    """Which item of the current report is which of the baseline: (baseline's index, current's index).

    lost: ids of the baseline's items that the current report lacks.
    """

    pairs: tuple[tuple[int, int], ...]
    ids: tuple[str, ...]
    lost: tuple[str, ...]


def pair_items(baseline: Report, current: Report) -> Pairing:
    """Items are the same when image and question are, whatever they are called and in whatever order."""
    places = {key: index for index, key in enumerate(_keys(current.workload.items))}
    old = baseline.workload.items
    found = [(index, places.get(key)) for index, key in enumerate(_keys(old))]
    pairs = tuple((index, place) for index, place in found if place is not None)
    lost = tuple(old[index].id for index, place in found if place is None)
    return Pairing(pairs, tuple(old[index].id for index, _ in pairs), lost)


def _keys(items: list[ItemPart]) -> list[tuple[str, int]]:
    """An item's digest, and which of several with that digest it is."""
    seen: Counter[str] = Counter()
    keys = []
    for item in items:
        keys.append((item.digest, seen[item.digest]))
        seen[item.digest] += 1
    return keys


def check_workload(baseline: Report, current: Report, pairing: Pairing) -> None:
    """Raise NotComparable, naming every difference, unless both reports are of the same work.

    Fewer items and fewer arms are no other workload but a loss, which is for the gates to find.
    """
    differences = list(_settings(baseline, current))
    known, items = {index for _, index in pairing.pairs}, current.workload.items
    if added := [item.id for index, item in enumerate(items) if index not in known]:
        differences.append(f"{len(added)} of {len(items)} items are not the baseline's ({some(added)})")
    arms = {arm.name: arm for arm in current.arms}
    for old in baseline.arms:
        new = arms.get(old.name)
        if new and any(
            old.items[i].schedule_digest != new.items[j].schedule_digest for i, j in pairing.pairs
        ):
            amounts = f"{_amount(old)}, now {_amount(new)}"
            differences.append(f"the arm '{old.name}' ran another schedule ({amounts})")
    if differences:
        raise NotComparable(
            f"the reports are of different work: {'; '.join(differences)}; "
            "measure the same again, or make a new baseline"
        )


def check_settings(baseline: Report, new_tokens: int, batch_size: int, seed: int) -> None:
    """Raise NotComparable where a run with these settings will not be the baseline's work."""
    asked = baseline.workload.model_copy(
        update={"new_tokens": new_tokens, "batch_size": batch_size, "seed": seed}
    )
    if differences := list(_settings(baseline, baseline.model_copy(update={"workload": asked}))):
        raise NotComparable(f"the baseline is of different work: {'; '.join(differences)}; give it the same")


def _settings(baseline: Report, current: Report) -> Iterator[str]:
    old, new = baseline.workload, current.workload
    for name in _MODEL_FIELDS:
        before, after = getattr(baseline.model, name), getattr(current.model, name)
        if before != after:
            yield f"the model's {name} was {_short(before)}, now {_short(after)}"
    for name, label in _RUN_FIELDS.items():
        if getattr(old, name) != getattr(new, name):
            yield f"{label} was {getattr(old, name)}, now {getattr(new, name)}"


def _amount(arm: ArmPart) -> str:
    """What an arm was asked for, and what it reached."""
    asked = {"ratio": arm.ratio, "budget": arm.budget}
    words = [f"{name} {value:g}" for name, value in asked.items() if value is not None]
    return " ".join([*words, f"reached {arm.items[0].achieved_ratio:.4g}"])


def check_machine(baseline: Report, current: Report, gate: str) -> None:
    """Raise NotComparable where an absolute time or size is gated across machines."""
    if differences := machine_differences(baseline, current):
        words = [
            f"{part.name} was {_short(part.baseline)}, now {_short(part.current)}" for part in differences
        ]
        raise NotComparable(
            f"the gate {gate} needs both reports from one machine: {'; '.join(words)}; "
            f"gate {gate.partition('.')[0]}.ratio instead, or measure a baseline here"
        )


def check_objectives(baseline: Report, slo: Mapping[str, float]) -> None:
    """Raise NotComparable where goodput is gated under other objectives than the baseline's (seconds)."""
    if baseline.protocol.slo != slo:
        was, now = (_objectives(one) for one in (baseline.protocol.slo, slo))
        raise NotComparable(f"the gate goodput needs the same objectives: --slo was {was}, now {now}")


def _objectives(slo: Mapping[str, float]) -> str:
    return ",".join(f"{name}:{limit:g}s" for name, limit in slo.items()) or "none"


def machine_differences(baseline: Report, current: Report) -> list[Difference]:
    """What keeps two reports from being of the same machine; what a report does not state counts."""
    old, new = _machine(baseline), _machine(current)
    return [
        Difference(name=name, baseline=old[name], current=new[name])
        for name in old
        if old[name] != new[name] or old[name] is None
    ]


def _machine(report: Report) -> dict[str, str | None]:
    cpu = report.environment.get("cpu")
    cpu = cpu if isinstance(cpu, dict) else {}
    gpus, graphics = report.environment.get("gpus"), None
    if isinstance(gpus, list):
        names = [_text(gpu.get("name")) if isinstance(gpu, dict) else None for gpu in gpus]
        graphics = ", ".join(name or "unknown" for name in names) or "none"
    return {
        "device": report.model.device,
        "CPU": _text(cpu.get("model")),
        "cores": _text(cpu.get("cores")),
        "torch threads": _text(cpu.get("torch_threads")),
        "GPUs": graphics,
    }


def environment_differences(baseline: Report, current: Report) -> list[Difference]:
    """Machine and software that differ: shown, never in the way."""
    old, new = _software(baseline.environment), _software(current.environment)
    names = dict.fromkeys([*old, *new])
    software = [
        Difference(name=name, baseline=old.get(name), current=new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    ]
    machine = [part for part in machine_differences(baseline, current) if part.baseline != part.current]
    return [*machine, *software]


def _software(environment: dict[str, Any]) -> dict[str, str | None]:
    packages = environment.get("packages")
    found = {name: _text(environment.get(name)) for name in _SOFTWARE}
    if isinstance(packages, dict):
        found |= {str(name)[:80]: _text(version) for name, version in packages.items()}
    return found


def _text(value: Any) -> str | None:
    """A plain value as short text; None for what is no plain value."""
    return str(value)[:200] if isinstance(value, str | int | float) else None


def _short(value: Any) -> str:
    return "unknown" if value is None else f"'{str(value)[:60]}'"


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"'{name[:60]}'" for name in names[:3]) + more
