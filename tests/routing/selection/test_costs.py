"""What a choice before the decoder costs, by arithmetic and by torch's own counter."""

from dataclasses import replace

import pytest
import torch

from reroute_cli.measure.flops import FlopMeter
from routing import Schedule, Stage, VisionStage, route
from routing.checks.counting import Counted, prompts_of, shape_of
from routing.checks.subjects import ONE, Sample, Tiny, tiny
from routing.cost import PromptSize, cost
from routing.methods import SELECTIONS
from tests.routing.tiny_vision import IMAGE, llava, noise

ENTRANCE = sorted(name for name, one in SELECTIONS.items() if not one.at_the_tower)
AT_THE_TOWER = sorted(name for name, one in SELECTIONS.items() if one.at_the_tower)


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


SETTINGS: dict[str, list[dict[str, float]]] = {
    "flashvid": [{}, {"alpha": 1}],
    "visionzip": [{}, {"contextual": 0}, {"contextual": 1}],
    "vispruner": [{}, {"important": 0}, {"important": 1}],
    "holov": [{}, {"chunks": 1}, {"chunks": 5}],
}


@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize("family", ["llava cls", "llava column_mean", "qwen2_5_vl column_mean"])
@pytest.mark.parametrize(
    ("selection", "settings"),
    [(name, some) for name in AT_THE_TOWER for some in SETTINGS.get(name, [{}])],
)
def test_a_choice_at_the_tower_costs_what_torch_counts(
    selection: str, settings: dict[str, float], family: str, action: str
) -> None:
    """What is asked of a tower of several layers, and the choosing itself, image by image."""
    name, scorer = family.split()
    if name == "llava":
        model, grids = Tiny(name, llava()), [(1, 6, 6), (1, 6, 6)]
        inputs = {"input_ids": torch.tensor([[5, *[IMAGE] * 72, 6, 7]]), "pixel_values": noise(2, 3, 24, 24)}
        prompts = [PromptSize(3, 72, 2)]
    else:
        model, grids = tiny(name), [(1, 6, 10)]
        sample: Sample = (4, (3, 5), 7)
        inputs, prompts = model.inputs(sample), prompts_of(model, sample)
    vision = VisionStage(0.5, scorer=scorer, selection=selection, settings=settings)
    schedule = Schedule((Stage(1, 0.5),) if action == "reroute" else (), action=action, vision=vision)
    with route(model.model, schedule):
        counted = Counted(model, inputs)
    shape = shape_of(model)
    assert shape.tower is not None
    shape = replace(shape, tower=replace(shape.tower, heads=2))  # both, whatever is read of configs
    ours = cost(shape, schedule, prompts, grids=grids)
    assert ours.anchor_flops
    assert ours.vision_flops
    assert counted.scoring == ours.scoring_flops + ours.anchor_flops
    assert counted.total == ours.prefill_flops + ours.vision_flops + counted.scoring


@pytest.mark.parametrize("selection", [*ENTRANCE, *AT_THE_TOWER])
def test_no_product_of_a_choice_is_empty(selection: str) -> None:
    """One that counts nothing would be taken for a kernel without a formula, and no FLOPs be told at all."""
    model = llava()
    meter, schedule = FlopMeter(model), Schedule(vision=VisionStage(0.5, selection=selection))
    ids = torch.tensor([[5, *[IMAGE] * 36, 6, 7]])
    with route(model, schedule), meter:
        model.generate(
            input_ids=ids,
            pixel_values=noise(1, 3, 24, 24),
            max_new_tokens=1,
            stopping_criteria=[meter.first_token],
        )
    assert meter.flops.scoring > 0
    assert meter.flops.unknown == set()


def test_choosing_among_pairs_costs_two_flops_a_product() -> None:
    """By hand: 36 x 36 cosines of the decoder's width, and nothing where all 36 are kept."""
    shape = shape_of(tiny("llava"))
    for ratio, pairs in ((0.5, 36 * 36), (1.0, 0)):
        schedule = Schedule(vision=VisionStage(ratio, selection="divprune"))
        assert cost(shape, schedule, [PromptSize(8, 36)]).anchor_flops == 2 * pairs * shape.hidden
