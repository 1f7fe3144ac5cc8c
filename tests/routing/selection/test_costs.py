"""What a choice where features enter the decoder costs, by arithmetic and by torch's own counter."""

import pytest

from routing import Schedule, Stage, VisionStage, route
from routing.checks.counting import Counted, prompts_of, shape_of
from routing.checks.subjects import ONE, tiny
from routing.cost import PromptSize, cost
from routing.methods import SELECTIONS

ENTRANCE = sorted(name for name, one in SELECTIONS.items() if not one.at_the_tower)


@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize(("name", "layer"), [("llava", 0), ("qwen2_5_vl", 0), ("qwen3_vl", 2)])
@pytest.mark.parametrize("selection", ENTRANCE)
def test_a_choice_at_the_entrance_costs_what_torch_counts(
    selection: str, name: str, layer: int, action: str
) -> None:
    """Prefill and choosing, to the last FLOP, without knowing the images."""
    model = tiny(name)
    stages = (Stage(4, 0.5),) if action == "reroute" else ()
    schedule = Schedule(stages, action=action, vision=VisionStage(0.5, layer=layer, selection=selection))
    inputs = model.inputs(ONE)
    with route(model.model, schedule):
        counted = Counted(model, inputs)
    ours = cost(shape_of(model), schedule, prompts_of(model, ONE))
    assert ours.anchor_flops
    assert counted.scoring == ours.scoring_flops + ours.anchor_flops
    assert counted.total == ours.prefill_flops + counted.vision + counted.scoring


def test_choosing_among_pairs_costs_two_flops_a_product() -> None:
    """By hand: 36 x 36 cosines of the decoder's width, and nothing where all 36 are kept."""
    shape = shape_of(tiny("llava"))
    for ratio, pairs in ((0.5, 36 * 36), (1.0, 0)):
        schedule = Schedule(vision=VisionStage(ratio, selection="divprune"))
        assert cost(shape, schedule, [PromptSize(8, 36)]).anchor_flops == 2 * pairs * shape.hidden
