"""The methods' closed forms reproduce the constants and counts worked out from the publications."""

from __future__ import annotations

import pytest

from routing.methods import METHODS
from routing.methods.method import scaled
from routing.schedule import Action, Pool, Schedule
from routing.solve import ratio_for_budget, solve

DEPTH = {"llava": 32, "qwen": 28}
SOLVED = [  # model, tokens of 576, FastV's r, PyramidDrop's first keep ratio, the pyramid's
    ("llava", 192, ".26437", ".5965", ".4502"),
    ("llava", 128, ".14176", ".4570", ".2655"),
    ("llava", 64, ".01916", ".2162", ".0808"),
    ("qwen", 192, ".25333", ".5949", ".4444"),
    ("qwen", 128, ".12889", ".4522", ".2559"),
    ("qwen", 64, ".00444", ".1952", ".0673"),
]


def at_budget(method: str, action: str, tokens: int, layers: int, **options: object) -> Schedule:
    """A schedule for `tokens` of 576."""
    return solve(method, action=action, ratio=ratio_for_budget(tokens, 576), layers=layers, **options)  # type: ignore[arg-type]


def first_keep(method: str, action: str, tokens: int, model: str, digits: int) -> str:
    """The first keep ratio as the tables print it."""
    keep = at_budget(method, action, tokens, DEPTH[model]).stages[0].keep_ratio
    return f"{keep:.{digits}f}".removeprefix("0")


@pytest.mark.parametrize(("model", "tokens", "fastv", "pdrop", "pyramid"), SOLVED)
def test_the_solved_constants_come_out_to_the_printed_digits(
    model: str, tokens: int, fastv: str, pdrop: str, pyramid: str
) -> None:
    """FastV's r, PyramidDrop's factor and the pyramid's height, at three budgets and two depths."""
    assert first_keep("fastv", "prune", tokens, model, 5) == fastv
    assert first_keep("fastv", "reroute", tokens, model, 5) == fastv
    assert first_keep("pdrop", "prune", tokens, model, 4) == pdrop
    assert first_keep("pdrop", "reroute", tokens, model, 4) == pyramid


@pytest.mark.parametrize(
    ("method", "action", "tokens", "counts"),
    [
        ("fastv", "prune", 192, (152,)),
        ("fastv", "reroute", 128, (81, 81, 81, 81)),
        ("fastv", "prune", 64, (11,)),
        ("pdrop", "prune", 192, (343, 204, 122, 72)),
        ("pdrop", "prune", 128, (263, 120, 54, 25)),
        ("pdrop", "prune", 64, (124, 26, 5, 1)),
        ("pdrop", "reroute", 192, (259, 259, 129, 64)),
        ("pdrop", "reroute", 128, (152, 152, 76, 38)),
        ("pdrop", "reroute", 64, (46, 46, 23, 11)),
        ("nuwa", "prune", 192, (336, 48)),
        ("nuwa", "prune", 128, (224, 32)),
        ("nuwa", "prune", 64, (112, 16)),
        ("nuwa", "reroute", 192, (336, 48, 48, 48, 48)),
    ],
)
def test_counts_for_llava_are_the_published_ones(
    method: str, action: str, tokens: int, counts: tuple[int, ...]
) -> None:
    """Floored counts at 576 tokens, 32 layers; at 64 the exact pyramids, not the release's."""
    assert at_budget(method, action, tokens, 32).counts(576, 32) == counts


@pytest.mark.parametrize(
    ("method", "action", "layers", "cuts"),
    [
        ("fastv", "prune", 32, (3,)),
        ("fastv", "reroute", 32, (3, 7, 15, 23)),
        ("fastv", "reroute", 28, (3, 6, 13, 20)),
        ("pdrop", "prune", 28, (2, 6, 13, 20)),
        ("pdrop", "reroute", 32, (2, 7, 15, 23)),
        ("nuwa", "prune", 32, (16,)),
        ("nuwa", "reroute", 32, (16, 20, 24, 28)),
        ("fastv", "prune", 12, (1,)),
        ("none", "prune", 32, ()),
    ],
)
def test_default_cuts_stand_at_the_published_depths(
    method: str, action: str, layers: int, cuts: tuple[int, ...]
) -> None:
    """Layers scale with depth and give the release's own layers for 32 and for 28."""
    assert METHODS[method].stages(action, layers) == cuts


@pytest.mark.parametrize("layers", range(1, 20))
@pytest.mark.parametrize("first", [0, 2])
def test_scaled_cuts_are_strictly_increasing_and_inside_the_decoder(layers: int, first: int) -> None:
    """However shallow the model, cuts collide nowhere, respect the first layer and stay in range."""
    cuts = scaled((2, 7, 15, 23), layers, first)
    assert list(cuts) == sorted(set(cuts))
    assert all(first <= cut < layers for cut in cuts)
    assert bool(cuts) == (layers > first)


def test_fastv_as_its_authors_run_it_scores_one_layer_earlier() -> None:
    """scored_by="previous" ranks with layer K-1 and still removes at the input of layer K."""
    (stage,) = solve("fastv", ratio=0.5, layers=32, scored_by="previous").stages
    assert (stage.layer, stage.scored_by) == (3, 2)
    (stage,) = solve("fastv", ratio=0.5, layers=32).stages
    assert (stage.layer, stage.scored_by) == (3, None)


def test_a_ranking_layer_comes_after_deepstack_too() -> None:
    """Ranked by the layer before, a deepstack model is cut one layer later, so that layer 3 can rank."""
    (stage,) = solve("fastv", ratio=0.8, layers=36, first_layer=3, scored_by="previous").stages
    assert (stage.layer, stage.scored_by) == (4, 3)


def test_pdrop_as_its_authors_run_it_halves_at_each_cut() -> None:
    """Cuts after 8, 16 and 24 layers at an average of 0.46875 keep 1/2, 1/4, 1/8 (288, 144, 72 tokens)."""
    schedule = solve("pdrop", ratio=0.53125, layers=32, cuts=(8, 16, 24))
    assert schedule.counts(576, 32) == (288, 144, 72)


def test_random_has_fastvs_stages_and_its_own_scorer() -> None:
    """The control differs from FastV in nothing but the choice of tokens."""
    control = solve("random", action="reroute", ratio=0.6, layers=32, seed=7)
    fastv = solve("fastv", action="reroute", ratio=0.6, layers=32)
    assert control.stages == fastv.stages
    assert (control.scorer, control.seed, fastv.scorer) == ("random", 7, "last_query")


def test_nuwa_reduces_at_the_vision_tower_first() -> None:
    """The vision stage keeps seven times the decoder stage's tokens and acts from the first allowed layer."""
    schedule = solve("nuwa", ratio=2 / 3, layers=32)
    assert schedule.vision is not None
    assert (schedule.vision.layer, schedule.vision.scorer) == (0, "cls")
    assert schedule.vision.keep_ratio / schedule.stages[0].keep_ratio == pytest.approx(7)
    late = solve("nuwa", ratio=0.8, layers=36, first_layer=3)
    assert late.vision is not None
    assert late.vision.layer == 3


def test_nuwa_for_the_larger_llava_keeps_a_tenth() -> None:
    """rho = 0.1 gives LLaVA-NeXT's first-stage counts of 2880 tokens, rounded down."""
    counts = [
        solve("nuwa", ratio=ratio_for_budget(tokens, 2880), layers=32, rho=0.1).counts(2880, 32)
        for tokens in (160, 320, 640)
    ]
    assert counts == [(290, 29), (581, 58), (1163, 116)]


def test_nuwa_for_towers_without_a_cls_token_ranks_by_columns_and_three_queries() -> None:
    """vision_scorer="column_mean" switches both stages; pool says what rerouting may choose from."""
    schedule = solve(
        "nuwa", action="reroute", ratio=0.7, layers=28, vision_scorer="column_mean", pool="anchors"
    )
    assert schedule.vision is not None
    assert (schedule.vision.scorer, schedule.scorer, schedule.pool) == (
        "column_mean",
        "last_queries_max",
        Pool.ANCHORS,
    )


@pytest.mark.parametrize("name", METHODS)
def test_the_registry_describes_each_method(name: str) -> None:
    """A method is listed under its name with a line; it can do both actions, or none where it resizes."""
    method = METHODS[name]
    assert method.name == name
    assert method.actions == (() if method.resizes else (Action.PRUNE, Action.REROUTE))
    assert method.scored in {"language", "vision", "vision+language", "none"}
    assert method.summary
    assert not method.paper or method.paper.startswith("https://arxiv.org/abs/")
