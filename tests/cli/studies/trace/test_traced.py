"""The record of a trace, held to the engine's own trace and to counts made by hand."""

import json
from itertools import pairwise

import pytest
from PIL import Image

import routing
from reroute_cli.console.command_options import TracedSchedules
from reroute_cli.console.errors import UsageError
from reroute_cli.data.images import Picture, open_image
from reroute_cli.data.prompts import build_prompt
from reroute_cli.measure import passes as run
from reroute_cli.records.trace import DEFERRED, KEPT, PRUNED, REENTERED, TraceRecord
from reroute_cli.run.prompts import target_of
from reroute_cli.run.schedules import arms_of
from reroute_cli.studies.trace import Places, stage_parts, trace
from routing import Schedule, Stage
from routing.schedule import VisionStage

QUESTION = "where is the cup?"
CUP = (60.0, 24.0, 106.0, 70.0)
DESK = "samples/desk.png"
LONGEST = 24


@pytest.fixture(scope="module")
def arms():
    """PyramidDrop at one ratio, pruned and rerouted."""
    return arms_of(TracedSchedules("pdrop", None, 0.8, versus=True))


@pytest.fixture(scope="module")
def versus(pocket, arms):
    """A real trace of the embedded model."""
    return trace(pocket, open_image(DESK), QUESTION, arms, LONGEST, CUP)


@pytest.fixture(scope="module")
def engine(pocket, arms):
    """What the engine itself says of the same prompts: for each arm its kept tokens and its scores."""
    prompt = build_prompt(pocket.processor, [open_image(DESK)], QUESTION)
    found = []
    for arm in arms:
        schedule = arm.choice.build(target_of(pocket, 256))
        with routing.route(pocket.model, schedule) as trace:
            pocket.model.generate(**run.on_device(prompt.inputs, pocket.model), max_new_tokens=1)
        found.append([(set(stage.kept[0].tolist()), stage.scores[0]) for stage in trace.stages])
    return found


def tokens(states, letters):
    """Which tokens have one of these states."""
    return {token for token, state in enumerate(states) if state in letters}


def test_kept_tokens_are_those_of_the_engine(versus, engine):
    """Under every arm and at every stage."""
    for arm, stages in zip(versus.arms, engine, strict=True):
        found = [tokens(stage.states, KEPT + REENTERED) for stage in arm.stages]
        assert found == [kept for kept, _ in stages]
        assert [stage.kept for stage in arm.stages] == [len(kept) for kept, _ in stages]


def test_re_entered_tokens_were_deferred_just_before(versus):
    """r is what is kept now and was deferred at the stage before; all else that is kept was kept before."""
    stages = versus.arms[2].stages
    assert stages[0].reentered == 0
    assert sum(stage.reentered for stage in stages) > 0
    for before, now in pairwise(stages):
        kept = tokens(now.states, KEPT + REENTERED)
        assert tokens(now.states, REENTERED) == kept & tokens(before.states, DEFERRED)
        assert now.reentered == len(kept & tokens(before.states, DEFERRED))


def test_pruned_tokens_stay_pruned_and_deferred_ones_need_not(versus):
    """Prune knows k and p, and p never ends; reroute knows no p."""
    pruned = [tokens(stage.states, PRUNED) for stage in versus.arms[1].stages]
    assert all(before < after for before, after in pairwise(pruned))
    assert {state for stage in versus.arms[1].stages for state in stage.states} == {KEPT, PRUNED}
    assert {state for stage in versus.arms[2].stages for state in stage.states} == {KEPT, REENTERED, DEFERRED}


def test_scores_are_those_of_the_engine_to_four_digits(versus, engine):
    """Null where a token was no candidate, which under prune are exactly the tokens pruned before."""
    for arm, stages in zip(versus.arms[1:], engine[1:], strict=True):
        for stage, (_, scores) in zip(arm.stages, stages, strict=True):
            assert [score is None for score in stage.scores] == scores.isinf().tolist()
            known = [
                (one, float(two)) for one, two in zip(stage.scores, scores, strict=True) if one is not None
            ]
            assert all(one == pytest.approx(two, rel=1e-3) for one, two in known)
    first, second = versus.arms[1].stages[:2]
    assert {i for i, score in enumerate(second.scores) if score is None} == tokens(first.states, PRUNED)


def test_never_used_is_what_no_stage_kept(versus, engine):
    """The dense arm uses everything; a rerouted one leaves out what it never took back."""
    used = [set().union(*(kept for kept, _ in stages)) if stages else set(range(256)) for stages in engine]
    assert [arm.never_used for arm in versus.arms] == [256 - len(kept) for kept in used]


def test_recall_counts_the_tokens_centred_in_the_box(versus, engine):
    """Pocket sees 224 pixels as 16 x 16 tokens of 14: the cup's box holds the centres of rows 2 to 4 and
    columns 4 to 7 but those at 60 and 106, worked out here from the pixels alone.
    """
    inside = {
        row * 16 + column
        for row in range(16)
        for column in range(16)
        if CUP[0] <= column * 14 + 7 < CUP[2] and CUP[1] <= row * 14 + 7 < CUP[3]
    }
    assert (
        set(versus.target.tokens)
        == inside
        == {row * 16 + column for row in (2, 3, 4) for column in (4, 5, 6, 7)}
        - {row * 16 + 7 for row in (2, 3, 4) if 7 * 14 + 7 >= 106}
    )
    for arm, stages in zip(versus.arms, engine, strict=True):
        shares = [len(kept & inside) / len(inside) for kept, _ in stages]
        assert [stage.recall for stage in arm.stages] == pytest.approx(shares)


def test_average_tokens_are_those_of_the_layers(versus):
    """Layers before the first stage see all tokens, later ones what the last stage before them kept."""
    for arm in versus.arms:
        seen = 256.0
        layers = []
        for layer in range(12):
            seen = next((stage.kept for stage in arm.stages if stage.layer == layer), seen)
            layers.append(seen)
        assert arm.visual_tokens_per_layer == pytest.approx(sum(layers) / 12)
    assert abs(versus.arms[1].visual_tokens_per_layer - versus.arms[2].visual_tokens_per_layer) < 256 * 0.01


def test_without_a_box_recall_says_why_it_is_unknown(pocket):
    """The answer 'yes' has no box: the record says so and does not invent a recall."""
    arms = arms_of(TracedSchedules("fastv", None, 0.6))
    record = trace(pocket, open_image(DESK), "is there a cup in the image?", arms, 8)
    assert record.target.boxes is None
    assert "no box" in record.target.reasons["tokens"]
    (stage,) = record.arms[1].stages
    assert stage.recall is None
    assert "no box" in stage.reasons["recall"]


def test_a_reduction_at_the_vision_tower_is_a_stage_of_its_own(pocket):
    """Nuwa's first stage: anchors are kept, the rest is pruned, and its scores are the tower's."""
    arms = arms_of(TracedSchedules("nuwa", None, 0.8))
    first, second = trace(pocket, open_image(DESK), QUESTION, arms, 8).arms[1].stages
    assert (first.where, second.where) == ("vision", "decoder")
    assert all(score is not None for score in first.scores)
    assert tokens(second.states, KEPT) <= tokens(first.states, KEPT)


def test_what_only_anchors_may_replace_is_pruned_under_reroute(pocket):
    """Where only anchors are candidates, the others can't come back and are not called deferred."""
    schedule = Schedule(
        (Stage(4, 0.1), Stage(7, 0.1)),
        "reroute",
        vision=VisionStage(0.5, scorer="column_mean"),
        pool="anchors",
    )
    prompt = build_prompt(pocket.processor, [open_image(DESK)], QUESTION)
    _, traced = run.traced_pass(run.make_job(pocket, prompt, schedule, 2), 2)
    parts = stage_parts(schedule, traced, Places(256, frozenset(), None, "no box"))
    gone = tokens(parts[0].states, PRUNED)
    assert len(gone) == 128
    assert all(tokens(part.states, PRUNED) == gone for part in parts)
    assert tokens(parts[1].states, DEFERRED) == tokens(parts[0].states, KEPT) - tokens(parts[1].states, KEPT)


def test_the_record_can_be_read_back(versus):
    """The JSON is the record: nothing is lost, and no null is without its reason."""
    assert TraceRecord.model_validate_json(json.dumps(versus.as_dict())) == versus


def test_a_record_that_does_not_add_up_can_not_be_built(versus):
    """A stage with a count that its states do not show is refused."""
    plain = versus.as_dict()
    plain["arms"][1]["stages"][0]["kept"] += 1
    with pytest.raises(ValueError, match="counts other tokens"):
        TraceRecord.model_validate(plain)
    plain = versus.as_dict()
    plain["visual_tokens"] = 255
    with pytest.raises(ValueError, match="does not tell of 255"):
        TraceRecord.model_validate(plain)


def test_a_schedule_that_leaves_nothing_out_is_a_usage_error(pocket):
    """Ratio 0 keeps every token: there is nothing to trace."""
    arms = arms_of(TracedSchedules("fastv", None, 0.0))
    picture = Picture("x", Image.new("RGB", (50, 50)), "d")
    with pytest.raises(UsageError, match="keeps all 256 visual tokens"):
        trace(pocket, picture, "what?", arms, 2)
