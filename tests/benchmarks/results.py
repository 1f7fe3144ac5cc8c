"""From seconds to shares of the two limits, as plain values and as a table.

Shares are taken within a round, between calls that ran next to each other, then their median over the rounds.
Knows no torch and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.benchmarks.limits import Arm, Workload, flops_share, lengths, median, scored

PARTS = ("routed", "compact", "floor", "extra", "deciding")  # see `arm_result`
COLUMNS = (
    "method, action",
    "ratio",
    "routed",
    "limit A",
    "share of A",
    "limit B",
    "floor",
    "share of B + floor",
    "deciding",
)


def arm_result(
    arm: Arm, work: Workload, dense: Sequence[float], raw: dict[str, Sequence[float]]
) -> dict[str, Any]:
    """One arm's seconds and shares.

    raw, per round: routed: the prefill. compact: the layers alone on the same lengths (limit B). floor: keys
    of all candidates and one query row a decision. extra: the same for keys that no layer uses itself.
    deciding: of `routed`, what the engine does before deciding layers; missing where it can't be told.
    """
    schedule = arm.schedule(len(work.shape.layers))
    share = flops_share(work, schedule)
    rows = list(zip(dense, raw["routed"], raw["compact"], raw["floor"], raw["extra"], strict=True))
    shares = {
        "of_limit_a": [share * full / routed for full, routed, *_ in rows],
        "of_limit_b": [compact / routed for _, routed, compact, *_ in rows],
        "of_limit_b_and_floor": [(compact + floor) / routed for _, routed, compact, floor, _ in rows],
        "of_limit_b_and_extra": [(compact + extra) / routed for _, routed, compact, _, extra in rows],
    }
    return {
        "method": arm.method,
        "action": str(arm.action),
        "ratio": arm.ratio,
        "achieved_ratio": schedule.achieved_ratio(work.visual, len(work.shape.layers)),
        "lengths": lengths(work, schedule),
        "decisions": scored(work, schedule),
        "flops_share": share,
        "limit_a_s": asdict(median([share * full for full in dense])),
        "seconds": {part: summary(raw[part]) for part in PARTS if raw.get(part)},
        "shares": {name: asdict(median(values)) for name, values in shares.items()},
    }


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, interval, fastest, and every value."""
    return {**asdict(median(seconds)), "min": min(seconds), "raw": list(seconds)}


def table(arms: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown rows: milliseconds (medians), shares (medians with their intervals)."""
    return [f"| {' | '.join(COLUMNS)} |", f"|---{'|--:' * (len(COLUMNS) - 1)}|", *map(_row, arms)]


def _row(arm: dict[str, Any]) -> str:
    seconds, shares = arm["seconds"], arm["shares"]
    cells = [
        f"{arm['method']}, {arm['action']}",
        f"{arm['ratio']:.3f}",
        _milliseconds(seconds["routed"]),
        _milliseconds(arm["limit_a_s"]),
        _share(shares["of_limit_a"]),
        _milliseconds(seconds["compact"]),
        _milliseconds(seconds["floor"]),
        _share(shares["of_limit_b_and_floor"]),
        _milliseconds(seconds.get("deciding")),
    ]
    return f"| {' | '.join(cells)} |"


def _milliseconds(seconds: dict[str, Any] | None) -> str:
    return "unknown" if seconds is None else f"{1000 * seconds['median']:.1f} ms"


def _share(share: dict[str, float]) -> str:
    return f"{share['median']:.3f} ({share['low']:.3f}–{share['high']:.3f})"
