"""VisPruner's and FasterVLM's choices, against the published code and by their definition."""

import pytest
import torch

from routing import VisionStage
from routing.methods import fastervlm, vispruner
from routing.methods.selection import Seen
from tests.routing.selection.published import Published, cases
from tests.routing.tiny_vision import choose_one, noise


@cases("vispruner")
def test_the_published_choice_is_reproduced(case: Published) -> None:
    """The tokens that the released code keeps, important ones of 0.5, 0.75 and 1.0."""
    attention = case.given["cls_attention"].sum(dim=0)
    stage = VisionStage(0.5, selection="vispruner", settings={"important": case.params["important_ratio"]})
    chosen = choose_one(
        vispruner.choose, Seen(case.given["features"], attention=attention), case.params["keep"], stage
    )
    assert chosen.kept.tolist() == case.answer["kept"].tolist()


def test_fastervlm_keeps_the_tokens_of_most_attention() -> None:
    """What VisPruner keeps with important = 1: the best of a sorted list."""
    seen = Seen(noise(20, 4), attention=noise(20, seed=1).abs())
    assert seen.attention is not None
    chosen = choose_one(fastervlm.choose, seen, 7, VisionStage(0.5, selection="fastervlm"))
    assert chosen.kept.tolist() == sorted(sorted(range(20), key=lambda i: -float(seen.attention[i]))[:7])
    whole = VisionStage(0.5, selection="vispruner", settings={"important": 1})
    assert torch.equal(chosen.kept, choose_one(vispruner.choose, seen, 7, whole).kept)


@pytest.mark.parametrize(("tokens", "count"), [(9, 4), (13, 1), (31, 2), (20, 19), (10, 1), (2, 1)])
def test_odd_numbers_of_tokens_lose_their_likest_too(tokens: int, count: int) -> None:
    """By the definition, as a loop over lists, for numbers on which the released code breaks off."""
    features = noise(tokens, 5, seed=tokens)
    unit = features / features.norm(dim=1, keepdim=True)
    alike = unit @ unit.T
    left = list(range(tokens))
    while len(left) > count:
        half, others = left[::2], left[1::2]
        half.sort(key=lambda token: -max(float(alike[token, other]) for other in others))
        left = half[min(8, len(left) - count, len(half)) :] + others
    (found,) = vispruner.thinned(alike[None], [tokens], [count])
    assert found.tolist() == left
