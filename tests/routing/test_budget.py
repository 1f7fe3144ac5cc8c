"""Budgets: solved schedules hit the ratio asked for, or say which ratio can be hit."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.errors import BudgetError, ScheduleError
from routing.solve import ratio_for_budget, solve

SHALLOWEST = {("pdrop", "reroute"): 0.45, ("nuwa", "prune"): 0.5, ("nuwa", "reroute"): 0.5}
ARMS = [
    (method, action) for method in ("random", "fastv", "pdrop", "nuwa") for action in ("prune", "reroute")
]


def exact_average(schedule: object, layers: int) -> float:
    """Average kept fraction per layer, from the keep ratios themselves and no rounding."""
    entries = [(0, 1.0), *schedule.entries, (layers, 0.0)]  # type: ignore[attr-defined]
    spans = [later[0] - earlier[0] for earlier, later in pairwise(entries)]
    return sum(span * keep for span, (_, keep) in zip(spans, entries, strict=False)) / layers


@pytest.mark.parametrize(("method", "action"), ARMS)
@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.05, 0.95), layers=st.integers(12, 80))
def test_the_solved_average_is_the_one_asked_for(method: str, action: str, share: float, layers: int) -> None:
    """Before rounding, the average over all layers equals (1 - ratio) wherever the method reaches it."""
    ratio = SHALLOWEST.get((method, action), 0.0)
    ratio += (0.97 - ratio) * (1 - share)
    schedule = solve(method, action=action, ratio=ratio, layers=layers)
    assert exact_average(schedule, layers) == pytest.approx(1 - ratio, abs=1e-9)


@pytest.mark.parametrize(("method", "action"), ARMS)
@settings(max_examples=25, deadline=None)
@given(ratio=st.floats(0.5, 0.95), visual=st.integers(300, 3000))
def test_budget_rounding_hits_the_ratio_within_a_token(
    method: str, action: str, ratio: float, visual: int
) -> None:
    """With budget rounding the achieved average is within one visual token per layer of the budget."""
    schedule = solve(method, action=action, ratio=ratio, layers=32, visual=visual, rounding="budget")
    assert abs(schedule.average_tokens(visual, 32) - (1 - ratio) * visual) < 1.0


@pytest.mark.parametrize(("method", "action"), ARMS)
@settings(max_examples=25, deadline=None)
@given(ratio=st.floats(0.0, 0.9999), first=st.integers(0, 4), layers=st.integers(5, 40))
def test_the_nearest_ratio_an_error_names_is_really_reached(
    method: str, action: str, ratio: float, first: int, layers: int
) -> None:
    """What the error calls reachable can be asked for next and works."""
    ask = partial(solve, method, action=action, layers=layers, first_layer=first)
    with suppress(BudgetError):
        ask(ratio=ratio)
        return
    with pytest.raises(BudgetError) as caught:
        ask(ratio=ratio)
    nearest = caught.value.nearest
    assert nearest is not None
    assert f"{nearest:g}" in str(caught.value)
    ask(ratio=nearest)


@pytest.mark.parametrize(("method", "action"), ARMS)
def test_no_layer_before_the_first_allowed_one_is_reduced(method: str, action: str) -> None:
    """Deepstack models keep their first layers dense, and the average accounts for that."""
    schedule = solve(method, action=action, ratio=0.8, layers=36, first_layer=3)
    assert schedule.entries[0][0] >= 3
    assert exact_average(schedule, 36) == pytest.approx(0.2, abs=1e-9)


def test_default_cuts_move_up_front_only_as_far_as_the_ratio_needs() -> None:
    """A 32-layer FastV at 0.95 cannot keep three dense layers (3/32 > 0.05), so it cuts at layer 1."""
    assert solve("fastv", ratio=0.90, layers=32).stages[0].layer == 3
    assert solve("fastv", ratio=0.95, layers=32).stages[0].layer == 1
    assert solve("fastv", ratio=0.98, layers=32).stages[0].layer == 0
    moved = solve("pdrop", action="reroute", ratio=0.95, layers=32)
    assert [stage.layer for stage in moved.stages] == [1, 7, 15, 23]


def test_explicit_cuts_are_never_moved() -> None:
    """With cuts=(3,) the same ratio is refused, naming what layer 3 reaches and which layer would do."""
    with pytest.raises(BudgetError, match="layer 1 or earlier") as caught:
        solve("fastv", ratio=0.95, layers=32, cuts=(3,))
    assert caught.value.nearest == pytest.approx(1 - 3 / 32, abs=0.002)


def test_a_deepstack_model_says_why_a_ratio_is_out_of_reach() -> None:
    """The error names the layer before which nothing may be cut."""
    with pytest.raises(BudgetError, match="before layer 3"):
        solve("fastv", ratio=0.95, layers=36, first_layer=3)


@pytest.mark.parametrize(
    ("method", "action", "nearest"),
    [("pdrop", "reroute", 0.3360), ("nuwa", "prune", 0.4286), ("none", "prune", 0.0)],
)
def test_a_ratio_too_small_for_a_methods_shape_is_refused(method: str, action: str, nearest: float) -> None:
    """A pyramid cannot keep more than everything in its first stages; Nuwa not more than all anchors."""
    with pytest.raises(BudgetError) as caught:
        solve(method, action=action, ratio=0.1, layers=32)
    assert caught.value.nearest == pytest.approx(nearest, abs=1e-4)


def test_knowing_the_visual_tokens_sharpens_what_is_reachable() -> None:
    """Ten tokens cannot average one and a half per layer with a tenth of the layers dense."""
    solve("fastv", ratio=0.9, layers=32, visual=576)
    with pytest.raises(BudgetError):
        solve("fastv", ratio=0.9, layers=32, visual=10, cuts=(3,))


def test_every_method_is_dense_at_ratio_zero_if_it_reaches_it() -> None:
    """Ratio 0 keeps every token at every stage of FastV and PyramidDrop, and `none` has no stage at all."""
    assert solve("none", ratio=0, layers=12).stages == ()
    for method in ("fastv", "pdrop", "random"):
        assert {stage.keep_ratio for stage in solve(method, ratio=0.0, layers=12).stages} == {1.0}


@pytest.mark.parametrize("ratio", [1, 1.0, -0.1, float("nan"), float("inf"), "0.5", True])
def test_a_ratio_outside_zero_to_one_is_refused(ratio: object) -> None:
    """Only ratios from 0 up to but not including 1 mean anything."""
    with pytest.raises(BudgetError, match="at least 0 and below 1"):
        solve("fastv", ratio=ratio, layers=32)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("fastvv", {}, "none, random, fastv, pdrop, nuwa"),
        ("fastv", {"action": "drop"}, "prune, reroute"),
        ("fastv", {"layers": 0}, "layers"),
        ("fastv", {"first_layer": 32}, "leaves nothing"),
        ("fastv", {"rounding": "ceil"}, "floor, budget"),
        ("fastv", {"rho": 0.1}, "it takes cuts, scored_by"),
        ("none", {"cuts": (1,)}, "no options"),
        ("fastv", {"cuts": (3, 7)}, "one cut layer"),
        ("fastv", {"cuts": (32,)}, r"0\.\.31"),
        ("fastv", {"cuts": ()}, "increasing"),
        ("fastv", {"cuts": "3"}, "layer numbers"),
        ("fastv", {"scored_by": "next"}, "own, previous"),
        ("fastv", {"scored_by": "previous", "cuts": (0,)}, r"1\.\.31"),
        ("pdrop", {"cuts": (7, 2)}, "increasing"),
        ("pdrop", {"cuts": (1, 7), "first_layer": 2}, r"2\.\.31"),
        ("nuwa", {"rho": 0}, "rho"),
        ("nuwa", {"cuts": (0,)}, r"1\.\.31"),
        ("nuwa", {"cuts": (8, 16)}, "one cut layer"),
        ("nuwa", {"pool": "some"}, "all, anchors"),
        ("random", {"seed": -1}, "seed"),
    ],
)
def test_a_wrong_request_is_a_sentence_that_names_what_is_allowed(
    method: str, options: dict[str, object], says: str
) -> None:
    """Unknown methods, actions, options and layers are ScheduleErrors that name the choices."""
    with pytest.raises(ScheduleError, match=says):
        solve(method, **{"ratio": 0.7, "layers": 32, **options})  # type: ignore[arg-type]


def test_a_token_budget_is_a_ratio_of_the_samples_tokens() -> None:
    """192 of 576 tokens is a reduction ratio of two thirds; all of them is 0."""
    assert ratio_for_budget(192, 576) == pytest.approx(2 / 3)
    assert ratio_for_budget(576, 576) == 0.0


@pytest.mark.parametrize("budget", [0, -1, 577, 10**400, float("nan"), "64", True])
def test_an_impossible_token_budget_is_refused(budget: object) -> None:
    """A budget is above 0 and at most the tokens there are."""
    with pytest.raises(BudgetError, match="budget"):
        ratio_for_budget(budget, 576)  # type: ignore[arg-type]
