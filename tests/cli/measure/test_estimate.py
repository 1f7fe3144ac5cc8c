"""The arithmetic of one sample: the grids of its images are worked out once, for it and for what is dense."""

from reroute_cli.measure import estimate
from reroute_cli.measure.estimate import CostModel, Sample
from reroute_cli.models.load import Loaded
from routing import Schedule, Stage
from routing.cost import PromptSize, cost
from routing.model_shape import ModelShape


def test_grids_are_counted_once_an_answer(pocket: Loaded, monkeypatch) -> None:
    """One count for the routed and the dense sample, with the FLOPs of `routing.cost` on these grids."""
    counted, count = [], estimate.count_image_tokens

    def noted(*arguments):
        counted.append(count(*arguments))
        return counted[-1]

    monkeypatch.setattr(estimate, "count_image_tokens", noted)
    sample, schedule = Sample(PromptSize(20, 256, 8), [(224, 168)]), Schedule((Stage(3, 0.25),))
    found = CostModel.of(pocket).flops(schedule, sample, 4, Sample(sample.prompt, [(224, 168)]))
    (made,) = counted
    shape = ModelShape.from_config(pocket.model.config.to_dict())
    routed, dense = (
        cost(shape, one, [sample.prompt], new_tokens=4, grids=made.grids) for one in (schedule, Schedule())
    )
    assert (found.vision_flops, found.dense_vision_flops) == (routed.vision_flops, dense.vision_flops)
    assert found.decode_flops == routed.decode_flops
    assert found.dense_prefill_flops == dense.prefill_flops
