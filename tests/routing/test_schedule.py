"""What a schedule promises: validation, integer counts, averages, and a digest."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from routing.errors import RoutingError, ScheduleError
from routing.schedule import Action, Pool, Rounding, Schedule, Stage, VisionStage

RELEASE = {  # (cut layers, keep ratios) -> counts and true average at 576 tokens, 32 layers
    "fastv192": ((3,), (0.2644,), (152,), 191.75),
    "fastv128": ((3,), (0.1418,), (81,), 127.41),
    "fastv64": ((3,), (0.01916,), (11,), 63.97),
    "pdrop192": ((2, 7, 15, 23), (0.5965, 0.3558, 0.2123, 0.1266), (343, 204, 122, 72), 191.34),
    "pdrop128": ((2, 7, 15, 23), (0.4570, 0.2088, 0.0954, 0.0436), (263, 120, 54, 25), 127.62),
    "pdrop64": ((2, 7, 15, 23), (0.2789, 0.0937, 0.0315, 0.0106), (160, 53, 18, 6), 80.44),
    "pyramid192": ((2, 7, 15, 23), (0.4502, 0.4502, 0.2251, 0.1126), (259, 259, 129, 64), 191.47),
    "pyramid128": ((2, 7, 15, 23), (0.2655, 0.2655, 0.1328, 0.0664), (152, 152, 76, 38), 127.44),
    "pyramid64": ((2, 7, 15, 23), (0.1392, 0.1392, 0.0696, 0.0348), (80, 80, 40, 20), 84.12),
}


def staged(layers: tuple[int, ...], keeps: tuple[float, ...], **options: object) -> Schedule:
    """A schedule from parallel tuples."""
    return Schedule(tuple(map(Stage, layers, keeps)), **options)  # type: ignore[arg-type]


@st.composite
def fitting(
    draw: st.DrawFn,
    action: Action = Action.REROUTE,
    rounding: st.SearchStrategy[Rounding] = st.sampled_from(Rounding),  # noqa: B008
) -> tuple[Schedule, int, int]:
    """A valid schedule with a decoder depth and a token count that it fits."""
    layers = draw(st.integers(1, 48))
    cuts = sorted(draw(st.sets(st.integers(0, layers - 1), max_size=6)))
    keeps = draw(st.lists(st.floats(0.001, 1.0), min_size=len(cuts), max_size=len(cuts)))
    if action is Action.PRUNE:
        keeps.sort(reverse=True)
    schedule = staged(tuple(cuts), tuple(keeps), action=action, rounding=draw(rounding))
    return schedule, draw(st.integers(0, 3000)), layers


@pytest.mark.parametrize("name", RELEASE)
def test_published_ratios_give_the_published_counts_and_their_true_average(name: str) -> None:
    """Floor rounding reproduces the integer counts and the real averages of the release, avg64 included."""
    layers, keeps, counts, average = RELEASE[name]
    schedule = staged(layers, keeps)
    assert schedule.counts(576, 32) == counts
    assert math.isclose(schedule.average_tokens(576, 32), average, abs_tol=0.0051)


def test_the_dense_schedule_keeps_every_token_in_every_layer() -> None:
    """`Schedule()` is the dense model."""
    assert Schedule().tokens_per_layer(7, 3) == (7, 7, 7)
    assert Schedule().counts(7, 3) == ()
    assert Schedule().achieved_ratio(7, 3) == 0.0


def test_tokens_change_at_the_input_of_the_cut_layer() -> None:
    """A stage at layer 2 leaves layers 0 and 1 dense and reduces layer 2 itself."""
    schedule = staged((2, 4), (0.5, 0.25), action="reroute")
    assert schedule.tokens_per_layer(100, 6) == (100, 100, 50, 50, 25, 25)
    assert schedule.average_tokens(100, 6) == pytest.approx(350 / 6)
    assert schedule.achieved_ratio(100, 6) == pytest.approx(1 - 350 / 600)


def test_a_vision_stage_is_the_first_entry() -> None:
    """The vision stage counts from its own layer, before the decoder's stages."""
    schedule = Schedule((Stage(2, 0.1),), vision=VisionStage(0.5, layer=1))
    assert schedule.counts(60, 4) == (30, 6)
    assert schedule.tokens_per_layer(60, 4) == (60, 30, 6, 6)


def test_at_least_one_token_stays() -> None:
    """A keep ratio below one token keeps one, and a prompt without pictures keeps none."""
    assert staged((1,), (0.001,)).counts(10, 2) == (1,)
    assert staged((1,), (0.001,)).counts(0, 2) == (0,)
    assert staged((1,), (0.5,)).achieved_ratio(0, 2) == 0.0


@settings(max_examples=60, deadline=None)
@given(fitting(rounding=st.just(Rounding.BUDGET)))
def test_budget_rounding_spends_the_budget(case: tuple[Schedule, int, int]) -> None:
    """The exact total is not exceeded (unless one token each already does) and the rest buys nothing."""
    schedule, visual, layers = case
    assume(schedule.stages and visual)
    edges = [stage.layer for stage in schedule.stages] + [layers]
    spans = [end - start for start, end in pairwise(edges)]
    ratios = [stage.keep_ratio for stage in schedule.stages]
    counts = schedule.counts(visual, layers)
    exact = round(sum(span * ratio * visual for span, ratio in zip(spans, ratios, strict=True)))
    spent = sum(span * count for span, count in zip(spans, counts, strict=True))
    assert spent <= exact or min(ratios) * visual < 1
    assert exact - spent < spans[0] or counts[0] == visual, "the first stage can always take one more"


@settings(max_examples=60, deadline=None)
@given(fitting())
def test_every_count_lies_between_one_and_all(case: tuple[Schedule, int, int]) -> None:
    """Counts never leave 1..V, are at least the floor, and the per-layer list is as long as the decoder."""
    schedule, visual, layers = case
    counts = schedule.counts(visual, layers)
    for (_, ratio), count in zip(schedule.entries, counts, strict=True):
        assert min(1, visual) <= count <= visual
        assert count >= math.floor(visual * ratio)
    assert len(schedule.tokens_per_layer(visual, layers)) == layers


@settings(max_examples=60, deadline=None)
@given(fitting(action=Action.PRUNE))
def test_pruned_counts_never_rise(case: tuple[Schedule, int, int]) -> None:
    """What was pruned stays pruned, under either rounding."""
    schedule, visual, layers = case
    per_layer = schedule.tokens_per_layer(visual, layers)
    assert list(per_layer) == sorted(per_layer, reverse=True)


def test_budget_rounding_returns_what_flooring_lost() -> None:
    """PyramidDrop at 192 averages 191.34 when floored and 191.88 when the lost tokens are handed out."""
    floored = staged(*RELEASE["pdrop192"][:2])
    spent = staged(*RELEASE["pdrop192"][:2], rounding="budget")
    assert floored.average_tokens(576, 32) == pytest.approx(191.34375)
    assert spent.counts(576, 32) == (343, 205, 122, 73)
    assert spent.average_tokens(576, 32) == pytest.approx(191.875)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Stage(-1, 0.5), "layer"),
        (lambda: Stage(True, 0.5), "layer"),
        (lambda: Stage(1.0, 0.5), "layer"),  # type: ignore[arg-type]
        (lambda: Stage(1, 0.0), "keep_ratio"),
        (lambda: Stage(1, 1.01), "keep_ratio"),
        (lambda: Stage(1, math.nan), "keep_ratio"),
        (lambda: Stage(1, 10**400), "keep_ratio"),
        (lambda: VisionStage(0.5, tau=10**400), "tau"),
        (lambda: Stage(1, "0.5"), "keep_ratio"),  # type: ignore[arg-type]
        (lambda: Stage(1, 0.5, scored_by=2), "scored by"),
        (lambda: VisionStage(0.5, tau=0.0), "tau"),
        (lambda: VisionStage(0.5, protect=1.5), "protect"),
        (lambda: staged((3, 3), (0.5, 0.5)), "increasing"),
        (lambda: staged((3, 2), (0.5, 0.5)), "increasing"),
        (lambda: staged((1, 2), (0.5, 0.6)), "rise"),
        (lambda: Schedule((Stage(1, 0.6),), vision=VisionStage(0.5)), "rise"),
        (lambda: Schedule((Stage(0, 0.5),), vision=VisionStage(0.5)), "increasing"),
        (lambda: Schedule((Stage(4, 0.5), Stage(8, 0.5, scored_by=3))), "scored by"),
        (
            lambda: Schedule((Stage(1, 0.6),), "reroute", vision=VisionStage(0.5), pool="anchors"),  # type: ignore[arg-type]
            "anchors",
        ),
        (lambda: Schedule(action="drop"), "prune, reroute"),  # type: ignore[arg-type]
        (lambda: Schedule(rounding="ceil"), "floor, budget"),  # type: ignore[arg-type]
        (lambda: Schedule(stages=(3,)), "Stage"),  # type: ignore[arg-type]
        (lambda: Schedule(scorer=""), "scorer"),
    ],
)
def test_a_schedule_that_contradicts_itself_cannot_be_built(build: object, says: str) -> None:
    """Every contradiction is a ScheduleError (a RoutingError and a ValueError) that names what is wrong."""
    with pytest.raises(ScheduleError, match=says) as caught:
        build()  # type: ignore[operator]
    assert isinstance(caught.value, RoutingError | ValueError)


def test_a_schedule_deeper_than_the_decoder_is_refused() -> None:
    """Layer 12 of a 12-layer decoder does not exist, and negative token counts neither."""
    with pytest.raises(ScheduleError, match=r"0\.\.11"):
        staged((12,), (0.5,)).counts(10, 12)
    with pytest.raises(ScheduleError, match="visual"):
        Schedule().counts(-1, 12)


def test_rerouting_may_keep_more_later() -> None:
    """Deferred tokens are candidates again, so keep ratios may rise under reroute."""
    assert staged((3, 5, 8), (0.27, 0.39, 0.56), action="reroute").counts(28, 12) == (7, 10, 15)


def test_strings_are_accepted_for_the_enums() -> None:
    """Callers may write the plain words; equal schedules are equal and share a digest."""
    spelled = Schedule((Stage(3, 0.5),), action="reroute", pool="anchors", rounding="budget")  # type: ignore[arg-type]
    typed = Schedule((Stage(3, 0.5),), action=Action.REROUTE, pool=Pool.ANCHORS, rounding=Rounding.BUDGET)
    assert spelled == typed
    assert spelled.digest() == typed.digest()


def test_the_digest_depends_on_every_field() -> None:
    """Changing any part of a schedule changes its digest; writing 1 for 1.0 does not."""
    base = Schedule((Stage(3, 0.5),))
    others = [
        Schedule((Stage(4, 0.5),)),
        Schedule((Stage(3, 0.25),)),
        Schedule((Stage(3, 0.5, scored_by=2),)),
        Schedule((Stage(3, 0.5),), action=Action.REROUTE),
        Schedule((Stage(3, 0.5),), scorer="random"),
        Schedule((Stage(3, 0.5),), scorer="random", seed=1),
        Schedule((Stage(3, 0.5),), vision=VisionStage(0.5)),
        Schedule((Stage(3, 0.5),), rounding=Rounding.BUDGET),
    ]
    assert len({schedule.digest() for schedule in [base, *others]}) == len(others) + 1
    assert Schedule((Stage(3, 1),)).digest() == Schedule((Stage(3, 1.0),)).digest()
    assert len(base.digest()) == 64


def test_settings_of_a_selection_are_pairs_in_order_and_come_back_from_json() -> None:
    """A mapping in any order is the same stage, and what JSON holds of it makes it again."""
    stage = VisionStage(0.5, selection="mine", settings={"b": 2, "a": 0.5})
    assert stage.settings == (("a", 0.5), ("b", 2))
    assert stage == VisionStage(0.5, selection="mine", settings={"a": 0.5, "b": 2})
    schedule = Schedule(vision=stage)
    assert Schedule.from_dict(json.loads(json.dumps(schedule.as_dict()))) == schedule
    assert schedule.digest() != Schedule(vision=VisionStage(0.5, selection="mine")).digest()


def test_a_schedule_of_nuwa_is_written_as_before_there_were_other_selections() -> None:
    """So that what refers to one by its digest still does."""
    plain = Schedule(vision=VisionStage(0.5)).as_dict()["vision"]
    assert plain == {"keep_ratio": 0.5, "layer": 0, "scorer": "cls", "tau": None, "protect": None}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"a": "x"}, "the setting a must be a number, got 'x'"),
        ({"a": True}, "must be a number"),
        ({"a": float("nan")}, "must be a number"),
        ({"": 1}, "a setting must be a name"),
        (3, "settings must be numbers by name, got 3"),
        ("ab", "settings must be numbers by name"),
    ],
)
def test_settings_that_are_none_are_refused(settings: Any, message: str) -> None:
    """One sentence says what they must be."""
    with pytest.raises(ScheduleError, match=message):
        VisionStage(0.5, settings=settings)
