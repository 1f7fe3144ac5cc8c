"""Integer counts that spend a budget."""

import math
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from reroute_cli.studies.tune.plans import spend


@given(
    spans=some.lists(some.integers(1, 9), min_size=1, max_size=4),
    visual=some.integers(4, 300),
    decay=some.sampled_from((0.35, 0.5, 0.7, 1.0, 1.4)),
    share=some.floats(0.02, 1.0),
    falling=some.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_no_more_than_the_budget_and_less_than_a_stage_of_it_unspent(
    spans: list[int], visual: int, decay: float, share: float, falling: bool
) -> None:
    """Counts cost at most the budget, miss it by less than the shortest stage's layers unless all is kept,
    lie within 1 and all tokens, and do not rise where they may not."""
    tokens = round(share * visual * sum(spans))
    weights = [min(1.0, decay) ** index if falling else decay**index for index in range(len(spans))]
    made = spend(tokens, spans, weights, visual, falling=falling)
    if made is None:
        scale = tokens / math.fsum(span * weight for span, weight in zip(spans, weights, strict=True))
        assert scale * max(weights) > visual or scale * min(weights) < 1
        return
    cost = sum(span * count for span, count in zip(spans, made, strict=True))
    assert cost <= tokens
    assert tokens - cost < max(spans)
    assert all(1 <= count <= visual for count in made)
    assert not falling or all(later <= earlier for earlier, later in pairwise(made))


@pytest.mark.parametrize(
    ("tokens", "spans", "weights"),
    [
        (255, (2, 3, 4), (1, 1, 1)),
        (341, (3, 5), (1, 0.5)),
        (97, (1, 2, 5), (1, 0.7, 0.49)),
        (100, (3, 3), (1, 1)),
    ],
)
def test_nothing_nearer_to_the_budget_exists_near_the_shape(
    tokens: int, spans: tuple[int, ...], weights: tuple[float, ...]
) -> None:
    """Of all counts within three tokens of the shape, none spends more of the budget (by trying them all)."""
    made = spend(tokens, spans, weights, 256, falling=False)
    assert made is not None
    scale = tokens / sum(span * weight for span, weight in zip(spans, weights, strict=True))
    around = [range(max(1, int(scale * weight) - 3), int(scale * weight) + 4) for weight in weights]
    costs = [sum(s * c for s, c in zip(spans, counts, strict=True)) for counts in product(*around)]
    best = max(cost for cost in costs if cost <= tokens)
    assert sum(span * count for span, count in zip(spans, made, strict=True)) == best


def test_the_layers_that_issue_four_names_keep_28_of_256_tokens() -> None:
    """Rerouting at layers 3, 5 and 8 of 12 at an average of a third keeps 28, 29 and 28 tokens: 3 dense
    layers of 256 and then 2 * 28 + 3 * 29 + 4 * 28 = 255 of the 1023 layer-tokens."""
    assert spend(1023 - 3 * 256, (2, 3, 4), (1.0, 1.0, 1.0), 256, falling=False) == (28, 29, 28)


def test_a_shape_that_needs_more_tokens_than_there_are_is_refused() -> None:
    """A first stage of more than all tokens, or a last one of none, is no schedule."""
    assert spend(600, (1, 1, 1), (1.0, 0.5, 0.25), 256, falling=True) is None
    assert spend(4, (1, 1, 4), (1.0, 0.35, 0.12), 256, falling=True) is None
