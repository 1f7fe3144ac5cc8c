"""DivPrune's choice, against the published code and by its definition."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from routing import VisionStage
from routing.methods.diversity import farthest_first
from routing.methods.divprune import choose
from routing.methods.selection import Seen
from tests.routing.selection.published import Published, cases
from tests.routing.tiny_vision import choose_one

STAGE = VisionStage(0.5, selection="divprune")


@cases("divprune")
def test_the_published_choice_is_reproduced(case: Published) -> None:
    """The tokens that the released code keeps, in the order in which it finds them."""
    chosen = choose_one(choose, Seen(case.given["features"]), case.params["kept"], STAGE)
    assert chosen.kept.tolist() == case.answer["kept"].tolist()
    order = chosen.scores.argsort(descending=True)[: case.params["kept"]]
    assert order.tolist() == case.answer["chosen_in_order"].tolist()


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 12).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size - 1))), st.data())
def test_each_choice_is_the_farthest_of_those_left(sizes: tuple[int, int], data: st.DataObject) -> None:
    """By the definition, written as a loop over small integer distances with many ties."""
    size, count = sizes
    values = data.draw(st.lists(st.integers(0, 5), min_size=size * size, max_size=size * size))
    distances = torch.tensor(values, dtype=torch.float32).view(size, size)
    distances = (distances + distances.T).fill_diagonal_(0)
    ((order, nearest),) = farthest_first(distances[None], [size], [count])
    chosen = [int(order[0])]
    assert distances[chosen[0]].sort().values[1] == distances.sort(dim=1).values[:, 1].max()
    for index in order.tolist()[1:]:
        left = [token for token in range(size) if token not in chosen]
        apart = {token: min(float(distances[token, other]) for other in chosen) for token in left}
        assert apart[index] == max(apart.values())
        assert index == min(token for token in left if apart[token] == apart[index])
        chosen.append(index)
    assert nearest.tolist() == [min(float(distances[t, c]) for c in chosen) for t in range(size)]


def test_equal_tokens_are_never_chosen_twice() -> None:
    """Of five equal tokens three different ones are kept."""
    chosen = choose_one(choose, Seen(torch.ones(5, 4)), 3, STAGE)
    assert len(set(chosen.kept.tolist())) == 3
