"""What `tune` searches: every method that has a schedule, by what it ranks by; smaller images as they are."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import Result

import reroute_cli as reroute
from reroute_cli.console.errors import UsageError
from reroute_cli.console.options import ModelOptions
from reroute_cli.console.study_options import SearchOptions
from reroute_cli.models import load as models
from reroute_cli.models.load import Loaded
from reroute_cli.run.schedules import ScheduleChoice
from reroute_cli.studies.tune.moves import defaults, neighbours, starters
from reroute_cli.studies.tune.plans import Candidate, SearchSpace, candidate
from reroute_cli.studies.tune.request import tune_request
from reroute_cli.studies.tune.search import Effort, search
from routing import METHODS, Action, solve
from routing.solve import Target
from tests.cli.conftest import draw_picture
from tests.cli.tuning_world import World, space

TARGETS = [Target(12, 0, 256, "clip_vision_model"), Target(32, 0, 576, "siglip_vision_model")]
SEARCHED = [name for name, method in METHODS.items() if method.published]


def _space(target: Target, method: str, action: str, **settings: tuple[str, ...]) -> SearchSpace:
    tokens = target.layers * target.visual // 3
    return SearchSpace(target, tokens, (method,), (action,), settings)  # type: ignore[arg-type]


def _found(here: SearchSpace) -> list[Candidate]:
    """The published schedule, plans that a search begins with, and neighbours of all of these."""
    amount = ScheduleChoice("fastv", "prune", ratio=here.ratio)
    begun = [*defaults(here, amount)[0], *islice(starters(here, Random(0)), 8)]
    plans = [plan for one in begun if one.plan for plan in neighbours(one.plan, here, Random(1))]
    return [*begun, *(one for plan in plans if (one := candidate(plan, here, "neighbour")))]


@pytest.mark.parametrize("target", TARGETS, ids=["cls", "no-cls"])
@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize("method", [name for name in SEARCHED if name != "none"])
def test_every_method_is_searched_at_the_budget(method: str, action: str, target: Target) -> None:
    """Its published schedule is the one that `solve` makes, and all plans around it keep what it chooses by
    before the decoder, spend no more than the budget and miss it by less than a token in each layer."""
    here = _space(target, method, action)
    found = _found(here)
    more = {"vision_scorer": target.vision_scorer} if "vision_scorer" in METHODS[method].options else {}
    own = solve(method, action=action, ratio=here.ratio, layers=target.layers, visual=target.visual, **more)
    assert found[0].schedule == own
    mine = [one for one in found if one.plan is not None and one.plan.method == method]
    assert len({one.identity for one in mine}) > 8
    for one in mine:
        assert (one.schedule.vision is None) == (own.vision is None)
        if own.vision is not None and one.schedule.vision is not None:
            assert replace(one.schedule.vision, keep_ratio=own.vision.keep_ratio) == own.vision
        spent = sum(one.schedule.tokens_per_layer(target.visual, target.layers))
        assert here.tokens - target.layers < spent <= here.tokens


@pytest.mark.parametrize(
    ("method", "action", "scorers"),
    [
        ("sparsevlm", "prune", {"recycled_raters"}),
        ("sparsevlm", "reroute", {"raters"}),
        ("dart", "prune", {"unlike_pivots"}),
        ("random", "reroute", {"random"}),
        ("fastv", "reroute", {"last_query", "last_queries_max"}),
        ("flashvid", "prune", {"last_query", "last_queries_max"}),
    ],
)
def test_a_ranking_of_its_own_stays(method: str, action: str, scorers: set[str]) -> None:
    """No plan ranks by what only another method has; attention of the last tokens may be that of any."""
    assert {one.schedule.scorer for one in _found(_space(TARGETS[0], method, action))} == scorers


def test_turning_the_action_leaves_recycling_to_pruning() -> None:
    """A neighbour of three pruned drops that reroutes them waits with its own states, and the other way."""
    here = SearchSpace(TARGETS[0], 12 * 85, ("sparsevlm",), ("prune", "reroute"))
    for one in _found(here):
        recycles = one.schedule.scorer == "recycled_raters"
        assert recycles == (one.schedule.action is Action.PRUNE)


def test_methods_lead_to_one_another() -> None:
    """From plans without a choice before the decoder a search reaches every method, and back from those that
    rank by what is their own."""
    names = tuple(name for name in SEARCHED if name != "none")
    here = SearchSpace(TARGETS[0], 12 * 85, names, ("reroute",))
    made = {one.name: one for one in defaults(here, ScheduleChoice("fastv", ratio=here.ratio))[0]}

    def reached(name: str) -> set[str]:
        plan = made[f"{name}-reroute"].plan
        assert plan is not None
        found = (candidate(one, here, "") for one in neighbours(plan, here, Random(0)))
        return {one.plan.method for one in found if one is not None and one.plan is not None}

    assert reached("fastv") == set(names)
    assert reached("dart") >= {"dart", "fastv", "sparsevlm", "flashvid"}


def test_settings_stay_in_every_plan() -> None:
    """What was set of a method is in its published schedule and in all that the search makes of it."""
    version = _found(_space(TARGETS[0], "sparsevlm", "prune", sparsevlm=("version=2", "scored_by=own")))
    assert {one.schedule.scorer for one in version} == {"level_raters"}
    assert version[0].schedule.stages[0].scored_by == version[0].schedule.stages[0].layer
    assert version[0].name == "sparsevlm:version=2:scored_by=own-prune"
    shares = _found(_space(TARGETS[0], "flashvid", "reroute", flashvid=("alpha=0.5",)))
    visions = {one.schedule.vision for one in shares}
    assert {dict(one.settings)["alpha"] for one in visions if one is not None} == {0.5}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"methods": "downsample"},
            "downsample has no schedule to search: name --methods that have one, too",
        ),
        ({"methods": "none"}, "--methods has 'none' in it"),
        ({"methods": "fastv:version=2"}, "fastv has no setting 'version': it has scored_by"),
        ({"methods": "sparsevlm,sparsevlm:version=2"}, "sparsevlm twice"),
        ({"methods": "all", "answers": 200}, "too few for 29 published schedules alone: give at least 232"),
    ],
)
def test_what_can_not_be_searched_is_said(options: dict[str, Any], words: str) -> None:
    """One sentence, before a model is loaded."""
    with pytest.raises(UsageError, match=words):
        tune_request(SearchOptions(ratio=0.5, **options))


def test_all_is_every_method_but_the_dense_one() -> None:
    """Those with a schedule are searched, and smaller images are asked as they are."""
    request = tune_request(SearchOptions(ratio=0.5, methods="all"))
    assert set(request.typed) == set(METHODS) - {"none"}
    assert request.resizing == ("downsample",)


def test_smaller_images_win_where_they_are_better() -> None:
    """A search in which nothing is as good ends with them, and looks for no neighbours of them."""
    here = replace(space(24), resizing=("downsample",))
    for true, best in ((0.95, True), (0.05, False)):
        world = World(lambda one, true=true: true if one.plan is None else 0.5)  # type: ignore[misc]
        given = defaults(here, ScheduleChoice("fastv", ratio=here.ratio))[0]
        found = search(here, world, Effort(600, 40), 0, given=given).best
        assert found is not None
        assert (found.candidate.plan is None) == best


@pytest.fixture(scope="module")
def qwen(tiny_qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Qwen2.5-VL of random weights, and 14 images of 224 x 168: 48 visual tokens."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, set_seed

    set_seed(3)
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_pretrained(tiny_qwen))
    folder = tmp_path_factory.mktemp("qwen")
    shutil.copytree(tiny_qwen, folder, dirs_exist_ok=True)
    model.save_pretrained(folder)
    (folder / "images").mkdir()
    for number in range(14):
        draw_picture((224, 168)).rotate(7 * number).save(folder / "images" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def tuned(qwen: Path) -> dict[str, Any]:
    """A search whose true answers are what the model says of smaller images, and what it said."""
    model = reroute.load(str(qwen))
    said, _ = reroute.batch(
        model, str(qwen / "images"), "where is the cup ?", method="downsample", ratio=0.667, max_new_tokens=16
    )
    lines = [
        {"image": f"images/{Path(one.image).name}", "question": one.question, "answer": one.answer}
        for one in said
    ]
    manifest = qwen / "manifest.jsonl"
    manifest.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    report = reroute.tune(
        model,
        manifest=manifest,
        ratio=0.667,
        methods="fastv,downsample",
        score="right",
        answers=100,
        max_new_tokens=16,
    )
    return {"report": report, "manifest": manifest, "said": said}


def test_smaller_images_are_reported_with_their_true_average(tuned: dict[str, Any]) -> None:
    """The winner is no schedule: it has the visual tokens that its answers had, and is right every time."""
    report, said = tuned["report"], tuned["said"]
    assert (report.found.arm, report.found.action, report.found.published) == ("downsample", "resize", True)
    assert (report.found.schedule, report.found.scorer, report.found.stages) == (None, None, [])
    (average,) = {one.tokens.visual_tokens_per_layer for one in said}
    assert report.found.visual_tokens_per_layer == average
    assert report.arm("downsample").cost.visual_tokens_per_layer == average
    assert report.arm("downsample").scores["right"].value == 1
    assert "downsample, images made smaller" in reroute.view(report)


def test_there_is_no_profile_of_smaller_images(
    tuned: dict[str, Any], qwen: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    """`--write` says so after the report, in one sentence and with the exit code of what can't be done."""
    words = "there is no schedule to write: none that was tried is better than downsample"
    with pytest.raises(reroute.Failure, match=words):
        reroute.view(tuned["report"], "profile")
    written = tmp_path / "p.yaml"
    given = ("-m", str(qwen), "--manifest", str(tuned["manifest"]), "--ratio", "0.667", "--score", "right")
    more = ("--methods", "fastv,downsample", "--answers", "100", "--max-new-tokens", "16", "-q")
    done = run("tune", *given, *more, "--write", str(written))
    assert done.exit_code == 4
    assert "downsample, images made smaller" in done.stdout
    assert words in done.stderr
    assert not written.exists()


def test_smaller_images_that_save_nothing_are_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded model's tower makes every size the same: no candidate is above the budget."""
    loaded: Loaded = models.load(ModelOptions(device="cpu"))
    report = reroute.tune(
        loaded, ratio=0.667, methods="fastv,downsample", actions="prune", answers=100, limit=24
    )
    assert report.unreachable == {
        "downsample": "smaller images have 256.0 visual tokens per layer, and 85.2 were asked for"
    }
    assert "downsample" not in [arm.name for arm in report.arms]
    (tried,) = [one for one in report.course.tried if one.method == "downsample"]
    assert (tried.value, tried.visual_tokens_per_layer) == (None, 256)
