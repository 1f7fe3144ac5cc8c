"""The rounds before the timed ones: a number of them, or as many as it takes until the last ones agree.

A first run compiles, fills caches and raises clocks, and takes longer for it. How long that lasts is the
machine's affair, so `--warmup auto` looks: warm-up ends as soon as the last three rounds of every arm lie
within 5% of the fastest of them, and after ten rounds in any case. A series that still falls by more goes on;
a noisy one goes on to the end, and the report says that it did not agree. Knows seconds; not what ran.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reroute_cli.records.report import WarmupPart

LAST = 3  # rounds that must agree
WITHIN = 0.05  # the slowest of them over the fastest, minus 1
MOST = 10  # rounds after which it ends, whether they agree or not


def warm_up(
    run_round: Callable[[], list[float]], most: int, *, until_steady: bool, tell: Callable[[str], None]
) -> list[list[float]]:
    """Run rounds, and return the seconds of each under every arm.

    Args:
        run_round: runs one, and says its seconds under each arm.
        most: how many rounds; at most, where `until_steady` ends them as soon as the last ones agree.
        until_steady: whether to look.
        tell: told which round is next.
    """
    rounds: list[list[float]] = []
    while len(rounds) < most and not (until_steady and agree(rounds)):
        tell(f"warm-up {len(rounds) + 1} of {'at most ' * until_steady}{most}")
        rounds.append(run_round())
    return rounds


def agree(rounds: Sequence[Sequence[float]]) -> bool:
    """Whether the last rounds of every arm took the same time, within the share that is allowed.

    rounds: seconds of every round so far, under each arm. Fewer than three rounds agree on nothing.
    """
    last = rounds[-LAST:]
    return len(last) == LAST and all(
        max(seconds) <= (1 + WITHIN) * min(seconds) for seconds in zip(*last, strict=True)
    )


def warmup_part(rounds: list[list[float]]) -> WarmupPart:
    """How a warm-up of these rounds ended, with the rule that it was held to."""
    return WarmupPart(agreed=agree(rounds), last=LAST, within=WITHIN, most=MOST, seconds=rounds)
