"""`reroute tune` on the embedded model, from the command line to the profile."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner, Result

import profiles
from reroute_cli.app import app
from reroute_cli.console.options import ModelOptions
from reroute_cli.models import load as models
from reroute_cli.models.load import Loaded
from reroute_cli.records.schema import schema_of
from routing import METHODS

Run = Callable[..., Result]
SMALL = ("--limit", "24", "--answers", "100", "--methods", "fastv", "--quiet")
ROOT = Path(__file__).resolve().parents[3]
HELD_OUT = ROOT / "samples" / "heldout" / "manifest.jsonl"


class Runs:
    """One search at a third of the tokens and what it wrote; `again` is the same command."""

    def __init__(self, folder: Path, loaded: Loaded) -> None:
        self.folder, self._loaded = folder, loaded
        self.records, self.profile, self.report = (folder / name for name in ("r.jsonl", "p.yaml", "t.json"))
        self.first = self.again()
        assert self.first.exit_code == 0, self.first.output
        self.found: dict[str, Any] = json.loads(self.report.read_text())

    def again(self, *more: str) -> Result:
        """The command."""
        files = ("--records", str(self.records), "--write", str(self.profile), "-o", str(self.report))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(models, "load", lambda _options: self._loaded)
            return CliRunner().invoke(app, ["tune", "--ratio", "0.667", *SMALL, *files, *more])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The search, once for all tests of this file."""
    return Runs(tmp_path_factory.mktemp("tune"), models.load(ModelOptions(device="cpu")))


def _records(runs: Runs) -> list[dict[str, Any]]:
    return [json.loads(line) for line in runs.records.read_text().splitlines()]


def test_the_report_is_what_its_schema_says(runs: Runs, unexplained: Callable[[Any], list[str]]) -> None:
    """It has the published schema; its arms are the dense model, the published methods and the found one."""
    jsonschema.validate(runs.found, schema_of("tune"))
    names = [arm["name"] for arm in runs.found["arms"]]
    assert names[:3] == ["dense", "fastv-prune", "fastv-reroute"]
    assert runs.found["found"]["arm"] in names
    assert runs.found["model"]["id"] == "pocket"


def test_the_searched_half_is_never_reported(runs: Runs) -> None:
    """Pictures that the dense model was asked about, which is on the reported half only, are none of those
    that the schedules of the search were asked about; and both are as many as the report says."""
    reported_arms = {arm["made"]["first"]["digest"] for arm in runs.found["arms"]}
    rows = _records(runs)
    dense = {row["image"] for row in rows if row["schedule"]["method"] == "none"}
    searched = {row["image"] for row in rows if row["schedule"]["digest"] not in reported_arms}
    assert len(dense) == runs.found["questions"]["reported"]["images"]
    assert searched
    assert not dense & searched
    assert {arm["scores"]["box_acc_at_05"]["n"] for arm in runs.found["arms"]} == {12}


def test_the_scores_are_those_of_the_kept_answers(runs: Runs) -> None:
    """Worked out anew from the records and the manifest, with an intersection over union of our own, the
    dense arm and the found one have the scores of the report, and so has their difference."""
    truths = {row["id"]: row["box"] for row in map(json.loads, HELD_OUT.read_text().splitlines())}

    def share(arm: dict[str, Any]) -> float:
        digest = arm["made"]["first"]["digest"]
        mine = [
            row for row in _records(runs) if row["schedule"]["digest"] == digest and row["image"] in images
        ]
        assert len(mine) == 12
        return sum(_hit(row["boxes"], truths[row["id"]]) for row in mine) / len(mine)

    images = {row["image"] for row in _records(runs) if row["schedule"]["method"] == "none"}
    arms = {arm["name"]: arm for arm in runs.found["arms"]}
    found = arms[runs.found["found"]["arm"]]
    assert share(arms["dense"]) == arms["dense"]["scores"]["box_acc_at_05"]["value"]
    assert share(found) == found["scores"]["box_acc_at_05"]["value"]
    gap = arms["dense"]["to_found"]["box_acc_at_05"]["value"]
    assert gap == pytest.approx(share(found) - share(arms["dense"]))


def _hit(boxes: list[list[float]], truth: list[float]) -> bool:
    if not boxes:
        return False
    (a, b, c, d), (x, y, z, w) = boxes[0], truth
    inside = max(0.0, min(c, z) - max(a, x)) * max(0.0, min(d, w) - max(b, y))
    return inside / ((c - a) * (d - b) + (z - x) * (w - y) - inside) >= 0.5


def test_the_profile_is_the_schedule_that_was_reported(
    runs: Runs, run: Run, warm: Loaded, picture: str
) -> None:
    """The file is valid, shows and loads as the very schedule, and `ask -p` runs it at the average tokens of
    the report, which are no more than the budget."""
    made = profiles.load(runs.profile)
    assert made.schedule(12, 256).digest() == runs.found["found"]["schedule_digest"]
    assert run("profiles", "validate", str(runs.profile)).exit_code == 0
    shown = run("profiles", "show", str(runs.profile))
    assert shown.stdout == runs.profile.read_text()
    asked = json.loads(run("ask", picture, "where is the box?", "-p", str(runs.profile), "--json").stdout)
    assert asked["tokens"]["visual_tokens_per_layer"] == runs.found["found"]["visual_tokens_per_layer"]
    assert (
        asked["tokens"]["visual_tokens_per_layer"]
        <= runs.found["budget"]["visual_tokens_per_layer"]
        <= (1 - 0.667) * 256 + 0.05
    )
    kept = [stage["kept"] for stage in asked["schedule"]["stages"]]
    assert kept == [stage["kept"] for stage in runs.found["found"]["stages"]]


def test_the_profile_says_where_it_comes_from(runs: Runs) -> None:
    """Model, questions, score on the reported half, budget and seed stand in the file as in the report."""
    said = profiles.load(runs.profile).provenance
    arms = {arm["name"]: arm["scores"]["box_acc_at_05"]["value"] for arm in runs.found["arms"]}
    assert said["model"] == "pocket"
    assert said["config_digest"] == runs.found["model"]["config_digest"]
    assert said["questions_digest"] == runs.found["questions"]["reported"]["digest"]
    assert said["value"] == pytest.approx(arms[runs.found["found"]["arm"]], abs=1e-6)
    assert said["dense_value"] == pytest.approx(arms["dense"], abs=1e-6)
    assert (said["asked_ratio"], said["seed"], said["searched_pictures"]) == (0.667, 0, 12)


def test_the_same_command_asks_nothing_again(runs: Runs) -> None:
    """With the same records nothing is asked, and the report is the same but for what belongs to the run."""
    before = len(_records(runs))
    assert runs.again().exit_code == 0
    found = json.loads(runs.report.read_text())
    assert found["this_run"]["answered"] == 0
    assert len(_records(runs)) == before
    changed = {name for name in found if found[name] != runs.found[name]}
    assert changed <= {"created", "this_run", "environment"}


def test_a_run_that_was_cut_off_comes_to_the_same_end(runs: Runs) -> None:
    """With the records of a killed run, its last line torn, the rest is asked and nothing else changes."""
    whole = runs.records.read_bytes()
    lines = whole.splitlines(keepends=True)
    try:
        runs.records.write_bytes(b"".join(lines[: len(lines) * 2 // 3]) + lines[-1][:100])
        assert runs.again().exit_code == 0
        found = json.loads(runs.report.read_text())
        assert found["this_run"]["answered"] == len(lines) - len(lines) * 2 // 3
        for part in ("found", "arms", "course"):
            assert _answers_only(found[part]) == _answers_only(runs.found[part])
    finally:
        runs.records.write_bytes(whole)


def _answers_only(part: Any) -> Any:
    """Without what answers took, which is measured anew."""
    if isinstance(part, list):
        return [_answers_only(one) for one in part]
    if isinstance(part, dict):
        return {name: _answers_only(one) for name, one in part.items() if name != "cost"}
    return part


def test_the_course_is_marked_as_searched(runs: Runs) -> None:
    """Every schedule that was tried is listed with its score on the searched half, none above the budget,
    and the answers are no more than were allowed."""
    course = runs.found["course"]
    assert course["half"] == "searched"
    assert course["answers"] <= 100
    assert all(
        one["visual_tokens_per_layer"] <= runs.found["budget"]["visual_tokens_per_layer"]
        for one in course["tried"]
    )
    assert len({one["identity"] for one in course["tried"]}) == len(course["tried"])


def test_the_page_fits_eighty_columns(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headline, the stages, every arm with its difference and the course under -v, in 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = runs.again("-v").stdout
    assert max(map(len, shown.splitlines())) <= 80
    for words in (
        "visual tokens/layer",
        "ranked by",
        "fastv reroute",
        "tuned minus this",
        "tried on the searched",
    ):
        assert words in shown, shown


def test_a_floor_is_reported_as_it_is(warm: Loaded, run: Run, tmp_path: Path) -> None:
    """The cheapest schedule above a share of the dense score: the exit code says whether the score of the
    reported half is above that share of the dense model's score there."""
    path, written = tmp_path / "t.json", tmp_path / "p.yaml"
    done = run(
        "tune", "--floor", "50%", *SMALL, "--actions", "reroute", "-o", str(path), "--write", str(written)
    )
    found = json.loads(path.read_text())
    scores = {arm["name"]: arm["scores"]["box_acc_at_05"]["value"] for arm in found["arms"]}
    holds = scores[found["found"]["arm"]] >= 0.5 * scores["dense"]
    assert found["floor"]["holds"] == holds
    assert done.exit_code == (0 if holds else 3)
    assert ("the floor does not hold" in done.stdout) == (not holds)
    assert found["found"]["visual_tokens_per_layer"] < 256
    assert profiles.load(written).provenance["floor_holds"] == ("yes" if holds else "no")
    budgets = {one["layer_tokens"] for one in found["course"]["rungs"]}
    assert len(budgets) > 2


def test_a_floor_above_the_dense_model_is_said_at_once(
    warm: Loaded, run: Run, fails: Callable[..., None], tmp_path: Path
) -> None:
    """Nothing can be better than asked for where the dense model is not: only that is asked, and said."""
    records = tmp_path / "r.jsonl"
    done = run("tune", "--floor", "1.01", *SMALL, "--records", str(records))
    fails(done, 4, "--floor 1.01 is above the dense model itself, which has")
    asked = [json.loads(line)["schedule"]["method"] for line in records.read_text().splitlines()]
    assert set(asked) == {"none"}


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (("--budget", "0.4"), ("0.4 tokens per layer is out of reach", "the nearest is --budget 1.0")),
        (("--budget", "256"), ("256 tokens per layer is out of reach", "--ratio 0.0003")),
        (("--ratio", "0.9999"), ("ratio 0.9999 is out of reach", "--ratio 0.9961")),
    ],
)
def test_a_budget_out_of_reach_names_the_nearest(
    warm: Loaded, run: Run, fails: Callable[..., None], amount: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Less than one token in each layer, or all of them, is no budget; the nearest that is one is named."""
    fails(run("tune", *amount, *SMALL), 2, *words)


@pytest.fixture
def few(tmp_path: Path, drawn: Callable[..., Any]) -> Callable[..., str]:
    """A manifest of this many pictures, with so many questions about each."""

    def made(pictures: int, questions: int = 1, **more: object) -> str:
        lines = []
        for number in range(pictures):
            drawn((64 + number, 64)).save(tmp_path / f"{number}.png")
            line = {"image": f"{number}.png", "question": "where is the box?"} | more
            lines += [json.dumps(line)] * questions
        (tmp_path / "manifest.jsonl").write_text("\n".join(lines) + "\n")
        return str(tmp_path / "manifest.jsonl")

    return made


def test_too_few_pictures_are_refused_before_the_model_is_loaded(
    run: Run, fails: Callable[..., None], few: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest of five pictures, or of many questions about one, is refused in one sentence."""
    monkeypatch.setattr(models, "load", lambda _options: pytest.fail("the model was loaded"))
    for pictures, questions in ((5, 1), (1, 30)):
        manifest = few(pictures, questions, box=[1, 1, 20, 20])
        fails(run("tune", "--manifest", manifest, "--ratio", "0.5"), 4, "12 images at least")
    fails(run("tune", "--manifest", few(12), "--ratio", "0.5"), 4, "no 'answer' and no 'box'")


def test_files_are_checked_before_anything_else(
    run: Run, fails: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that does not exist, a name that -p would not take, one file for two things."""
    monkeypatch.setattr(models, "load", lambda _options: pytest.fail("the model was loaded"))
    gone, same = str(tmp_path / "gone" / "p.yaml"), str(tmp_path / "same.yaml")
    fails(run("tune", "--ratio", "0.5", "--write", gone), 4, "--write", "does not exist")
    fails(run("tune", "--ratio", "0.5", "--write", str(tmp_path / "p.json")), 2, "let it end in .yaml")
    fails(run("tune", "--ratio", "0.5", "--write", same, "-o", same), 2, "both name")
    fails(run("tune", "--ratio", "0.5", "--answers", "99"), 2, "99 is no whole number from 100")


def test_methods_that_are_searched_are_methods() -> None:
    """Every shape that can be searched is the name of a method, so that records know it."""
    from reroute_cli.studies.tune.request import ACTIONS
    from routing.methods import SEARCHED as SHAPES

    assert set(SHAPES) <= set(METHODS)
    assert all({action.value for action in METHODS[name].actions} >= set(ACTIONS) for name in SHAPES)
