"""Published configurations by name, with their true averages, and profiles of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import profiles
from routing.errors import BudgetError, ScheduleError
from routing.schedule import Action, Rounding, Schedule, Stage, VisionStage

TIERS = (192, 128, 64)
VARIANTS = ("fastv", "fastv-reroute", "pdrop", "pdrop-reroute", "nuwa", "nuwa-reroute")
LLAVA_COUNTS = {
    "llava15-avg192-fastv": (152,),
    "llava15-avg128-fastv-reroute": (81, 81, 81, 81),
    "llava15-avg64-fastv": (11,),
    "llava15-avg192-pdrop": (343, 204, 122, 72),
    "llava15-avg128-pdrop": (263, 120, 54, 25),
    "llava15-avg64-pdrop": (160, 53, 18, 6),
    "llava15-avg192-pdrop-reroute": (259, 259, 129, 64),
    "llava15-avg128-pdrop-reroute": (152, 152, 76, 38),
    "llava15-avg64-pdrop-reroute": (80, 80, 40, 20),
    "llava15-avg192-nuwa": (336, 48),
    "llava15-avg128-nuwa": (224, 32),
    "llava15-avg64-nuwa": (112, 16),
    "llava15-avg64-pdrop-exact": (124, 27, 6, 1),
    "llava15-avg64-sparsevlm": (82, 32, 18),
    "llava15-avg64-sparsevlm-2": (66, 34, 20),
    "llava15-avg192-dart": (124,),
}
TRUE_AVERAGES = {  # worked out from the published numbers, at 576 visual tokens
    "llava15-avg192-fastv": 191.75,
    "llava15-avg128-fastv": 127.41,
    "llava15-avg64-fastv": 63.97,
    "llava15-avg192-pdrop": 191.34,
    "llava15-avg128-pdrop": 127.62,
    "llava15-avg64-pdrop": 80.44,
    "llava15-avg192-pdrop-reroute": 191.47,
    "llava15-avg128-pdrop-reroute": 127.44,
    "llava15-avg64-pdrop-reroute": 84.12,
    "llava15-avg192-sparsevlm": 206.5,
    "llava15-avg128-sparsevlm": 145.41,
    "llava15-avg96-sparsevlm": 114.09,
    "llava15-avg64-sparsevlm": 82.25,
    "llava15-avg192-sparsevlm-2": 206.75,
    "llava15-avg128-sparsevlm-2": 144.12,
    "llava15-avg96-sparsevlm-2": 113.94,
    "llava15-avg64-sparsevlm-2": 81.81,
    "llava15-avg192-dart": 194.62,
    "qwen25vl-avg192-fastv": 197.43,
    "qwen25vl-avg128-fastv": 134.04,
    "qwen25vl-avg64-fastv": 71.54,
    "qwen25vl-avg192-pdrop": 192.21,
    "qwen25vl-avg128-pdrop": 129.36,
    "qwen25vl-avg64-pdrop": 83.46,
    "qwen25vl-avg192-pdrop-reroute": 193.43,
    "qwen25vl-avg128-pdrop-reroute": 130.71,
    "qwen25vl-avg64-pdrop-reroute": 88.29,
}
BEFORE_THE_DECODER = [  # published counts of 576 visual tokens
    *(("visionzip", tokens) for tokens in (192, 128, 64)),
    *(("hiprune", tokens) for tokens in (192, 128, 64)),
    *(("cdpruner", tokens) for tokens in (128, 64, 32)),
    ("vispruner", 128),
    ("holov", 64),
    ("divprune", 56),  # 0.098 of 576 is 56.4
]
STAGED = """
title: three decisions
model_family: llava
source: measured here
action: reroute
layers: 12
visual: 256
rounding: budget
seed: 3
scorer: random
pool: anchors
vision: {keep_ratio: 0.9, layer: 1, scorer: column_mean, tau: 3.5, protect: 0.2}
stages:
  - {layer: 3, keep_ratio: 0.27}
  - {layer: 5, keep_ratio: 0.39, scored_by: 4}
"""


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    """A profile file with this text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("model", ["llava15", "qwen25vl"])
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_published_configuration_has_a_name_and_an_exact_one_beside_it(
    model: str, tier: int, variant: str
) -> None:
    """Two models, three tiers, six variants; the exact one is under its tier by less than a token."""
    verbatim = profiles.load(f"{model}-avg{tier}-{variant}")
    exact = profiles.load(f"{model}-avg{tier}-{variant}-exact")
    assert verbatim.origin in ("release", "solved")
    assert (exact.origin, exact.rounding) == ("exact", Rounding.BUDGET)
    assert exact.average is not None
    assert tier - 1 < exact.average <= tier
    assert (
        verbatim.schedule(verbatim.layers or 0, 576).action == exact.schedule(exact.layers or 0, 576).action
    )
    assert verbatim.source


@pytest.mark.parametrize("name", TRUE_AVERAGES)
def test_a_release_profile_states_its_true_average(name: str) -> None:
    """An avg64 that averages 84.1 tokens says so, in its number and in its title."""
    profile = profiles.load(name)
    assert profile.average == pytest.approx(TRUE_AVERAGES[name], abs=0.0051)
    assert f"averages {TRUE_AVERAGES[name]:.1f}" in profile.title
    assert profile.origin == "release"


@pytest.mark.parametrize("name", LLAVA_COUNTS)
def test_llava_profiles_keep_the_published_counts(name: str) -> None:
    """Integer counts at 576 visual tokens, as the released code computes them."""
    assert profiles.load(name).schedule(32, 576).counts(576, 32) == LLAVA_COUNTS[name]


@pytest.mark.parametrize(("variant", "tokens"), BEFORE_THE_DECODER)
def test_a_choice_before_the_decoder_keeps_its_published_count_in_every_layer(
    variant: str, tokens: int
) -> None:
    """The release's average is its count, so that the exact profile is the same schedule."""
    release = profiles.load(f"llava15-avg{tokens}-{variant}")
    exact = profiles.load(f"llava15-avg{tokens}-{variant}-exact")
    assert (release.origin, release.average, exact.average) == ("release", tokens, tokens)
    schedule = release.schedule(32, 576)
    assert schedule.tokens_per_layer(576, 32) == (tokens,) * 32
    assert schedule.vision is not None
    assert schedule.vision.selection == variant
    assert exact.schedule(32, 576).counts(576, 32) == schedule.counts(576, 32)
    assert exact.schedule(40, 2880).average_tokens(2880, 40) == 5 * tokens


@pytest.mark.parametrize("name", profiles.names())
def test_every_listed_profile_resolves_for_its_model(name: str) -> None:
    """Whatever is listed loads, fits the depth it was made for, and keeps the action it is named for."""
    profile = profiles.load(name)
    assert profile.name == name
    assert profile.layers
    schedule = profile.schedule(profile.layers, profile.visual)
    assert len(schedule.counts(profile.visual or 0, profile.layers)) == len(schedule.entries) > 0
    assert (schedule.action is Action.REROUTE) == ("reroute" in name)


def test_nuwa_scores_the_decoder_stage_one_layer_early_as_published() -> None:
    """Nuwa ranks with layer 15 and removes at the input of 16; its Qwen variant with 14 for 15."""
    (stage,) = profiles.load("llava15-avg64-nuwa").schedule(32, 576).stages
    assert (stage.layer, stage.scored_by) == (16, 15)
    qwen = profiles.load("qwen25vl-avg64-nuwa").schedule(28, 576)
    assert (qwen.stages[0].layer, qwen.stages[0].scored_by) == (15, 14)
    assert qwen.vision is not None
    assert (qwen.vision.scorer, qwen.scorer) == ("column_mean", "last_queries_max")


def test_a_release_profile_has_its_methods_own_ranking() -> None:
    """SparseVLM ranks by raters, a layer early, and merges in version 1; DART by pivots."""
    first, second = (profiles.load(f"llava15-avg64-sparsevlm{v}").schedule(32, 576) for v in ("", "-2"))
    assert [stage.scored_by for stage in first.stages] == [2, 6, 15]
    assert (first.scorer, second.scorer) == ("recycled_raters", "level_raters")
    assert profiles.load("llava15-avg192-dart").schedule(32, 576).scorer == "unlike_pivots"


def test_an_exact_profile_fits_a_model_of_another_depth() -> None:
    """At 40 layers the method's own cuts are used and the average is still a third of the tokens."""
    schedule = profiles.load("llava15-avg192-pdrop-exact").schedule(40, 576)
    assert [stage.layer for stage in schedule.stages] == [2, 9, 19, 29]
    assert schedule.average_tokens(576, 40) == pytest.approx(192, abs=1)


def test_a_release_profile_refuses_a_model_without_its_layers() -> None:
    """Verbatim means verbatim: layer 23 does not exist in 12 layers."""
    with pytest.raises(ScheduleError, match="23"):
        profiles.load("llava15-avg192-pdrop").schedule(12, 576).counts(576, 12)


def test_a_file_of_ones_own_may_list_its_stages(tmp_path: Path) -> None:
    """Every field of a schedule can be written down."""
    profile = profiles.load(written(tmp_path, STAGED))
    assert (profile.name, profile.title, profile.origin) == ("mine", "three decisions", "user")
    assert (profile.model_family, profile.source) == ("llava", "measured here")
    assert profile.schedule(12) == Schedule(
        (Stage(3, 0.27), Stage(5, 0.39, scored_by=4)),
        action=Action.REROUTE,
        scorer="random",
        vision=VisionStage(0.9, layer=1, scorer="column_mean", tau=3.5, protect=0.2),
        pool="anchors",  # type: ignore[arg-type]
        rounding=Rounding.BUDGET,
        seed=3,
    )


def test_a_file_of_ones_own_may_name_a_method_and_an_amount(tmp_path: Path) -> None:
    """A ratio is solved for the model at hand; a budget in tokens needs the prompt's visual tokens too."""
    text = "method: pdrop\naction: reroute\nratio: 0.6\noptions: {cuts: [2, 4]}\n"
    by_ratio = profiles.load(written(tmp_path, text))
    assert [stage.layer for stage in by_ratio.schedule(12).stages] == [2, 4]
    assert [stage.layer for stage in by_ratio.schedule(24).stages] == [2, 4]
    by_budget = profiles.load(written(tmp_path, "method: fastv\nbudget: 64\n", "budget.yaml"))
    assert by_budget.schedule(32, 576).average_tokens(576, 32) == pytest.approx(64, abs=1)
    assert by_budget.schedule(32, 0) == Schedule()
    with pytest.raises(ScheduleError, match="number of visual tokens"):
        by_budget.schedule(32)


def test_an_amount_out_of_reach_is_the_solvers_own_error(tmp_path: Path) -> None:
    """The nearest reachable ratio is named when the profile meets the model."""
    profile = profiles.load(written(tmp_path, "method: fastv\nratio: 0.95\noptions: {cuts: [3]}\n"))
    with pytest.raises(BudgetError, match="nearest"):
        profile.schedule(32)


def test_deepstack_models_are_respected(tmp_path: Path) -> None:
    """A method profile starts no earlier than the first layer it is given."""
    profile = profiles.load(written(tmp_path, "method: nuwa\nratio: 0.8\n"))
    assert profile.schedule(36, 576, first_layer=3).entries[0][0] == 3


ratios = st.floats(0.001, 1.0)


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.sets(st.integers(1, 40), max_size=5),
    keeps=st.lists(ratios, min_size=5, max_size=5),
    vision=st.none()
    | st.builds(VisionStage, ratios, tau=st.none() | st.floats(0.1, 9), protect=st.none() | ratios)
    | st.builds(
        VisionStage,
        ratios,
        selection=st.just("divprune"),
        settings=st.dictionaries(st.sampled_from(("alpha", "chunks")), ratios),
    ),
    rounding=st.sampled_from(Rounding),
    seed=st.integers(0, 9),
)
def test_a_dumped_schedule_loads_as_itself(
    tmp_path_factory: pytest.TempPathFactory,
    cuts: set[int],
    keeps: list[float],
    vision: VisionStage | None,
    rounding: Rounding,
    seed: int,
) -> None:
    """Writing a schedule and reading it gives an equal one."""
    stages = tuple(map(Stage, sorted(cuts), keeps))
    schedule = Schedule(stages, action=Action.REROUTE, vision=vision, rounding=rounding, seed=seed)
    text = profiles.dump(schedule, title="tuned: for [this] model", layers=48, visual=100)
    profile = profiles.load(written(tmp_path_factory.mktemp("dump"), text))
    assert profile.schedule(48) == schedule
    assert profile.title == "tuned: for [this] model"
