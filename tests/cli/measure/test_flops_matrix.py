"""What the meter counts while tiny models answer, against routing.cost's arithmetic: every part, every FLOP.

The two share nothing: the meter adds up what torch's formulas say of each operator's shapes, cost.py never
sees a tensor.
"""

import pytest
import torch
from transformers import StoppingCriteriaList

import routing
from reroute_cli.measure.flops import FlopMeter
from routing.checks.counting import prompts_of, shape_of
from routing.checks.subjects import ONE, tiny
from routing.cost import cost
from routing.schedule import Action, Schedule, Stage, VisionStage
from tests.routing.test_cost import BATCH, grids_of

NEW = 4
FAMILIES = ("llava", "qwen2_5_vl", "qwen3_vl", "smolvlm")
STAGES = (Stage(2, 0.6), Stage(4, 0.3))
SCHEDULES = {
    "dense": Schedule(),
    "prune": Schedule(STAGES, Action.PRUNE),
    "reroute": Schedule(STAGES, Action.REROUTE),
}
VARIANTS = {
    "early": Schedule((Stage(2, 0.5), Stage(4, 0.3, scored_by=3)), Action.REROUTE),
    "three-rows": Schedule(STAGES, Action.PRUNE, scorer="last_queries_max"),
    "random": Schedule(STAGES, Action.REROUTE, scorer="random"),
}


def counted(subject, schedule, inputs, meter=None):
    """FLOPs of NEW greedy tokens."""
    meter = meter or FlopMeter(subject.model)
    with meter, routing.route(subject.model, schedule):
        subject.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=NEW,
            stopping_criteria=StoppingCriteriaList([meter.first_token]),
        )
    assert meter.flops.unknown == set()
    return meter.flops


def parts(flops):
    """What a count says, in the order of `expected`."""
    return flops.vision, flops.prefill, flops.scoring, flops.decode


def expected(subject, schedule, samples, inputs):
    """What arithmetic says of the same answer."""
    ours = cost(shape_of(subject), schedule, prompts_of(subject, *samples), NEW, 4, grids_of(subject, inputs))
    return (
        ours.vision_flops,
        ours.prefill_flops,
        ours.scoring_flops + ours.anchor_flops,
        ours.decode_flops,
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("samples", [(ONE,), BATCH], ids=["single", "ragged"])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_costs_what_arithmetic_says(family, name, samples, attention):
    """Vision, prefill, scoring and decode to the last FLOP, alone and left-padded, and the same twice."""
    subject, schedule = tiny(family, attention), SCHEDULES[name]
    inputs = subject.inputs(*samples)
    meter = FlopMeter(subject.model)
    first = counted(subject, schedule, inputs, meter)
    assert parts(first) == expected(subject, schedule, samples, inputs)
    assert min(first.vision, first.prefill, first.decode) > 0
    assert (first.scoring > 0) == (name != "dense")
    assert counted(subject, schedule, inputs, meter) == first


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_way_to_rank_costs_what_arithmetic_says(family, name):
    """Scored before the stage's own layer, by three rows, or drawn at random, which costs nothing."""
    subject, schedule = tiny(family), VARIANTS[name]
    inputs = subject.inputs(*BATCH)
    flops = counted(subject, schedule, inputs)
    assert parts(flops) == expected(subject, schedule, BATCH, inputs)
    assert (flops.scoring > 0) == (name != "random")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize(
    ("family", "scorer", "layer"),
    [
        ("llava", "cls", 0),
        ("llava", "column_mean", 0),
        ("qwen2_5_vl", "column_mean", 0),
        ("qwen3_vl", "column_mean", 2),
        ("internvl", "cls", 0),
        ("mistral3", "column_mean", 0),
        ("glm4v", "column_mean", 0),
        ("paligemma", "column_mean", 0),
    ],
)
def test_ranking_at_the_tower_is_scoring_too(family, scorer, layer, action, attention):
    """A vision stage's own work counts as scoring and leaves the vision part what it was."""
    subject = tiny(family, attention)
    schedule = Schedule(STAGES[1:], action, vision=VisionStage(0.5, layer=layer, scorer=scorer))
    inputs = subject.inputs(ONE)
    assert parts(counted(subject, schedule, inputs)) == expected(subject, schedule, (ONE,), inputs)


@pytest.mark.parametrize("family", FAMILIES)
def test_counting_changes_no_answer(family):
    """The tokens are those of the uncounted run."""
    subject = tiny(family)
    inputs = subject.inputs(ONE)
    plain = subject.model.generate(**inputs, do_sample=False, max_new_tokens=NEW)
    with FlopMeter(subject.model):
        watched = subject.model.generate(**inputs, do_sample=False, max_new_tokens=NEW)
    assert torch.equal(plain, watched)
