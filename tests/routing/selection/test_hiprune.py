"""HiPrune's choice by its definition, written as loops over the cells of a grid: no code published a case."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from routing import VisionStage
from routing.methods.hiprune import choose, with_neighbours
from routing.methods.selection import Seen
from tests.routing.tiny_vision import choose_one, noise


def _cross(token: int, grid: tuple[int, int]) -> list[int]:
    """The token's neighbours inside the grid."""
    row, column = divmod(token, grid[1])
    cells = [(row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column)]
    return [r * grid[1] + c for r, c in cells if 0 <= r < grid[0] and 0 <= c < grid[1]]


def _by_the_text(
    shallow: list[float], deep: list[float], grid: tuple[int, int], count: int, alpha: float
) -> list[int]:
    """Anchors, their neighbours as far as there is room, the best of the others."""
    tokens = range(len(deep))
    best = sorted(tokens, key=lambda token: -deep[token])
    chosen = sorted(tokens, key=lambda token: -shallow[token])[: round(alpha * count / 5)]
    near = {neighbour for anchor in chosen for neighbour in _cross(anchor, grid)}
    for group in (near, set(tokens)):
        chosen += [token for token in best if token in group and token not in chosen]
    return sorted(chosen[:count])


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 7)).filter(lambda grid: grid[0] * grid[1] > 1),
    st.data(),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_the_choice_is_the_one_of_the_text(grid: tuple[int, int], data: st.DataObject, alpha: float) -> None:
    """Any grid, any count below its tokens, rankings with ties."""
    tokens = grid[0] * grid[1]
    count = data.draw(st.integers(1, tokens - 1))
    ranking = st.lists(st.integers(0, 9), min_size=tokens, max_size=tokens)
    shallow, deep = data.draw(ranking), data.draw(ranking)
    seen = Seen(
        torch.zeros(tokens, 1),
        grid,
        received=torch.tensor(deep, dtype=torch.float32),
        shallow=torch.tensor(shallow, dtype=torch.float32),
    )
    stage = VisionStage(0.5, selection="hiprune", settings={"alpha": alpha})
    truth = _by_the_text(list(map(float, shallow)), list(map(float, deep)), grid, count, alpha)
    assert choose_one(choose, seen, count, stage).kept.tolist() == truth


@pytest.mark.parametrize(("count", "anchors"), [(192, 4), (128, 3), (64, 1)])
def test_the_published_budgets_have_their_anchors(count: int, anchors: int) -> None:
    """At the published alpha of 0.1: round(T / 50) anchors of 576 tokens, which the late layer ranks last."""
    shallow = noise(576)
    deep = torch.zeros(576).index_fill(0, shallow.topk(anchors + 1).indices, -1.0)
    seen = Seen(noise(576, 1), (24, 24), received=deep, shallow=shallow)
    kept = choose_one(choose, seen, count, VisionStage(0.5, selection="hiprune")).kept.tolist()
    assert [token in kept for token in shallow.topk(anchors + 1).indices.tolist()] == [True] * anchors + [
        False
    ]


def test_the_end_of_a_row_has_no_neighbour_in_the_next() -> None:
    """The last cell of the first row brings the one before it and the one below it."""
    marked = torch.zeros(3, 4, dtype=torch.bool)
    marked[0, 3] = True
    assert with_neighbours(marked).nonzero().tolist() == [[0, 2], [0, 3], [1, 3]]
