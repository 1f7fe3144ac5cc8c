"""Keep counts that spend a whole budget: of one shape, and as near to it as whole tokens allow.

Everything is counted in layer-tokens: one visual token in one decoder layer. Spans are layer counts, the
dense layers before the first entry excluded. Knows integers; not models, methods or scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product

_STEPS = (-1, 0, 1, 2)  # tokens by which a count may differ from its shape, rounded down
_MOST_ENTRIES = 6  # so that all combinations of steps are a few thousand


def spend(
    tokens: int, spans: Sequence[int], weights: Sequence[float], visual: int, *, falling: bool
) -> tuple[int, ...] | None:
    """How many of `visual` tokens each entry keeps, in proportion to `weights` and for at most `tokens` in
    all layers of the spans.

    What rounding down leaves over is handed out so that as little as possible stays unspent; among equals
    the counts nearest to the shape win. falling: no entry keeps more than the one before it, as pruning
    demands. None where the shape needs more tokens than there are, or an entry would keep none.
    """
    assert len(spans) == len(weights) <= _MOST_ENTRIES
    scale = tokens / math.fsum(span * weight for span, weight in zip(spans, weights, strict=True))
    exact = [scale * weight for weight in weights]
    if max(exact) > visual or min(exact) < 1:
        return None
    best = min(
        _candidates(exact, visual, falling=falling), key=lambda made: _rank(made, exact, spans, tokens)
    )
    return best if _cost(best, spans) <= tokens else None


def _candidates(exact: Sequence[float], visual: int, *, falling: bool) -> Iterator[tuple[int, ...]]:
    """Counts around the exact ones; those rounded down are always among them."""
    floored = [math.floor(count) for count in exact]
    for steps in product(_STEPS, repeat=len(floored)):
        made = tuple(count + step for count, step in zip(floored, steps, strict=True))
        inside = min(made) >= 1 and max(made) <= visual
        if inside and not (falling and any(later > earlier for earlier, later in pairwise(made))):
            yield made


def _rank(
    made: tuple[int, ...], exact: Sequence[float], spans: Sequence[int], tokens: int
) -> tuple[bool, int, float, tuple[int, ...]]:
    """Affordable ones first, then by what stays unspent, then by the distance from the shape."""
    unspent = tokens - _cost(made, spans)
    distance = math.fsum((count - wanted) ** 2 / wanted for count, wanted in zip(made, exact, strict=True))
    return unspent < 0, abs(unspent), distance, made


def _cost(counts: Sequence[int], spans: Sequence[int]) -> int:
    return sum(count * span for count, span in zip(counts, spans, strict=True))
