"""`reroute eval` given what it should not be: one sentence each, before a model is loaded where it can be."""

import json
import shutil
from pathlib import Path

import pytest

from reroute_cli.models import load as models
from tests.cli.studies.test_eval import checked

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
RIGHT = {"image": "desk.png", "question": "where is the cup?", "box": [60, 24, 106, 70]}
WORDS = {"image": "desk.png", "question": "is there a cup in the image?", "answer": "yes"}
SHORT = ("--max-new-tokens", "11")


@pytest.fixture
def manifest(tmp_path):
    """A function that writes lines to a manifest beside a sample picture."""

    def written(*lines):
        shutil.copy(SAMPLES / "desk.png", tmp_path / "desk.png")
        path = tmp_path / "manifest.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return str(path)

    return written


@pytest.fixture
def no_model(monkeypatch):
    """Loading a model fails the test: what is wrong is known before."""

    def loaded(_options):
        pytest.fail("a model was loaded")

    monkeypatch.setattr(models, "load", loaded)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--bench", "imagenet"), 2, ("'imagenet'", "scenes", "pope", "--manifest FILE")),
        (("--split", "testA"), 2, ("'testA'", "heldout")),
        (("--data", "somebody/data"), 2, ("--data", "comes with the package")),
        (("--manifest", "x.jsonl", "--bench", "scenes"), 2, ("drop --bench",)),
        (("--manifest", "/nowhere/x.jsonl"), 4, ("/nowhere/x.jsonl", "can't be read")),
        (("-o", "/nowhere/o.json"), 4, ("--output", "/nowhere")),
        (("--records", "/nowhere/r.jsonl"), 4, ("--records", "/nowhere")),
        (("--json", "--format", "csv"), 2, ("--json", "--format csv")),
        (("--arms", "pdrop"), 2, ("--ratio",)),
        (("--method", "pdrop"), 2, ("--ratio",)),
        (("--arms", "pdrop", "--ratio", "0.5", "--method", "fastv"), 2, ("drop --method",)),
        (("-p", "no-such-profile"), 2, ("no-such-profile",)),
        (("--limit", "0"), 2, ("--limit", "1 to")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_said_at_once(run, fails, arguments, code, words):
    """With the value that was given and what is allowed."""
    fails(run("eval", "--quiet", *arguments), code, *words)


@pytest.mark.usefixtures("no_model")
def test_a_manifest_without_truth_is_refused(run, fails, manifest):
    """The first line without an answer or a box is named, and how many there are."""
    bare = {"image": "desk.png", "question": "what?"}
    path = manifest(WORDS, bare, bare)
    fails(
        run("eval", "--manifest", path, "--quiet"),
        4,
        "line 2",
        "no 'answer' and no 'box', and 1 more",
        "batch",
    )


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_manifest_is_refused(run, fails, tmp_path, text):
    """It has no line in it."""
    (tmp_path / "m.jsonl").write_text(text)
    fails(run("eval", "--manifest", str(tmp_path / "m.jsonl"), "--quiet"), 4, "no line in it")


@pytest.mark.usefixtures("no_model")
def test_no_two_options_name_one_file(run, fails, manifest, tmp_path):
    """Neither the records and the report, nor either of them and the manifest, though by another way."""
    path, link = manifest(WORDS), tmp_path / "link.jsonl"
    before = Path(path).read_text()
    link.symlink_to(path)
    common = ("eval", "--manifest", path, "--quiet")
    same = str(tmp_path / "o.json")
    fails(run(*common, "-o", same, "--records", same), 2, "--output and --records")
    fails(run(*common, "-o", str(link)), 2, "--output and --manifest")
    fails(run(*common, "--records", path), 2, "--records and --manifest")
    assert Path(path).read_text() == before


@pytest.mark.usefixtures("no_model")
def test_a_file_that_holds_no_records_is_left_alone(run, fails, tmp_path):
    """Somebody's text is refused, before a model is loaded, and stays what it was."""
    (tmp_path / "r.jsonl").write_text("dear diary\n")
    fails(run("eval", "--records", str(tmp_path / "r.jsonl"), "--quiet"), 4, "is no record")
    assert (tmp_path / "r.jsonl").read_text() == "dear diary\n"


@pytest.mark.usefixtures("warm")
def test_a_ratio_that_cannot_be_had_is_refused_before_anything_is_asked(run, fails, manifest, tmp_path):
    """The sentence names the nearest one; no record is written."""
    records = tmp_path / "r.jsonl"
    arguments = ("--method", "nuwa", "--ratio", "0.1", "--records", str(records), "--quiet")
    fails(run("eval", "--manifest", manifest(WORDS), *arguments), 2, "0.1", "nearest")
    assert records.read_text() == ""


@pytest.mark.usefixtures("warm")
def test_one_bad_question_is_left_out_and_told_of(run, manifest, tmp_path):
    """A missing picture, a line that is no JSON and a box outside: errors, exit 4, all else is scored."""
    missing, outside = {**WORDS, "image": "gone.png"}, {**RIGHT, "box": [0, 0, 9999, 9999]}
    path = manifest(RIGHT, missing, WORDS, outside)
    with Path(path).open("a") as file:
        file.write("{not json\n")
    output = tmp_path / "o.json"
    result = run("eval", "--manifest", path, "--method", "pdrop", "--ratio", "0.8", *SHORT, "-o", str(output))
    assert result.exit_code == 4
    assert "6 answers failed, 3 questions left out of every score" in " ".join(result.stdout.split())
    report = checked(output.read_text())
    assert [item["said"]["dense"]["error"] is None for item in report["items"]] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert report["counts"] == {"questions": 5, "answered": 4, "errors": 6, "left_out": 3}
    assert report["arms"][1]["overall"]["scores"]["words_right"]["n"] == 1
    assert "gone.png" in report["first_error"]


@pytest.mark.usefixtures("warm")
def test_where_everything_fails_there_is_a_report_of_that(run, manifest, tmp_path):
    """No score, no crash, exit 4, in every form."""
    path = manifest({**WORDS, "image": "gone.png"}, {**RIGHT, "image": "gone.png"})
    common = ("eval", "--manifest", path, "--method", "pdrop", "--ratio", "0.8", "--quiet")
    for form, words in (
        ("text", "nothing can be compared"),
        ("markdown", "nothing can be compared"),
        ("csv", "arm"),
    ):
        result = run(*common, "--format", form)
        assert (result.exit_code, words in result.stdout) == (4, True), result.output
    report = checked(run(*common, "--json").stdout)
    assert report["arms"][0]["overall"]["scores"] == {}
    assert (report["counts"]["errors"], report["headlines"]) == (4, [])
    assert report["arms"][1]["made"]["first"] is report["arms"][1]["cost"] is None


@pytest.mark.usefixtures("warm")
def test_names_are_text_and_nothing_else(run, manifest):
    """Control characters and markup in ids, kinds and questions reach neither the terminal nor a table."""
    evil = "\x1b[31mred\x07 [bold]x[/bold] |=1+1|"
    lines = [
        {**WORDS, "id": f"{evil} {n}", "kind": f"{evil}{n}", "question": f"is there a cup {evil}?"}
        for n in (1, 2)
    ]
    path = manifest(*lines, {**WORDS, "id": evil, "kind": "=cmd()", "image": f"{evil}.png"})
    for form in ("text", "markdown", "csv", "json"):
        result = run("eval", "--manifest", path, *SHORT, "--quiet", "--format", form)
        assert result.exit_code == 4
        assert not {"\x1b", "\x07"} & set(result.stdout)
    report = checked(result.stdout)
    assert report["items"][0]["id"] == f"{evil} 1"


@pytest.mark.usefixtures("warm")
def test_a_manifest_may_mix_truths(run, manifest):
    """Boxes and words are scored apart; a line with both is a box."""
    both = {**RIGHT, "answer": "[0.1,0.1,0.2,0.2]"}
    report = checked(run("eval", "--manifest", manifest(RIGHT, both, WORDS), *SHORT, "--json").stdout)
    scores = report["arms"][0]["overall"]["scores"]
    assert (scores["box_acc_at_05"]["n"], scores["words_right"]["n"]) == (2, 1)
    assert scores["box_mean_iou"]["low"] is None
    assert "6 images" in scores["box_mean_iou"]["reasons"]["low"]
