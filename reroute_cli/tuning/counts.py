"""Keep counts that spend a whole budget: of one shape, and as near to it as whole tokens allow.

Everything is counted in layer-tokens: one visual token in one decoder layer. Spans are layer counts, the
dense layers before the first entry excluded. Knows integers; not models, methods or scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from operator import mul

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
    found = [(tokens - _cost(made, spans), made) for made in _around(exact, visual, falling=falling)]
    unspent = min((rest for rest, _ in found if rest >= 0), default=None)
    ties = [made for rest, made in found if rest == unspent]
    return min(ties, key=lambda made: (_distance(made, exact), made)) if ties else None


def _around(exact: Sequence[float], visual: int, *, falling: bool) -> Iterator[tuple[int, ...]]:
    """Counts around the exact ones; those rounded down are always among them."""
    floored = [math.floor(count) for count in exact]
    choices = [[c for c in (count + step for step in _STEPS) if 1 <= c <= visual] for count in floored]
    for made in product(*choices):
        if not (falling and any(later > earlier for earlier, later in pairwise(made))):
            yield made


def _distance(made: Sequence[int], exact: Sequence[float]) -> float:
    return math.fsum((count - wanted) ** 2 / wanted for count, wanted in zip(made, exact, strict=True))


def _cost(counts: Sequence[int], spans: Sequence[int]) -> int:
    return sum(map(mul, counts, spans))
