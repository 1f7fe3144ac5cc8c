"""`reroute batch`: one record an item whatever the items are, and a truthful summary."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from reroute_cli.records.answer import AnyAnswer
from reroute_cli.records.batch import BatchSummary
from reroute_cli.records.schema import schema_of

QUESTION = "where is the cup?"
SHORT = ("--max-new-tokens", "2")
SAMPLES = Path(__file__).resolve().parents[3] / "samples"

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture
def folder(tmp_path, drawn):
    """Three pictures in a folder and one in it."""
    place = tmp_path / "pictures"
    (place / "inner").mkdir(parents=True)
    for index, name in enumerate(["a.png", "b.png", "c.png", "inner/d.png"]):
        drawn((100 + 20 * index, 120)).save(place / name)
    return place


@pytest.fixture
def manifest(tmp_path):
    """A function that writes lines to a manifest beside the sample pictures' copies."""

    def written(*lines):
        shutil.copy(SAMPLES / "desk.png", tmp_path / "desk.png")
        path = tmp_path / "manifest.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return str(path)

    return written


def read(path):
    """The records of a file."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_a_folder_gives_a_record_for_each_picture(run, folder, tmp_path, unexplained):
    """In the order of their names, each valid and complete; nothing on stdout, the summary on stderr."""
    result = run("batch", str(folder), "-Q", QUESTION, "--batch-size", "2", "-o", str(tmp_path / "o"), *SHORT)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "4 items · 4 answered" in result.stderr
    found = read(tmp_path / "o")
    assert [record["id"] for record in found] == ["a.png", "b.png", "c.png", "inner/d.png"]
    for record in found:
        jsonschema.validate(record, schema_of("answer"))
        assert AnyAnswer.model_validate(record).root.as_dict() == record
        assert [name for name in unexplained(record) if name not in ("error", "schedule.profile")] == []


def test_without_an_output_records_are_lines_on_stdout(run, folder):
    """One JSON object a line, and the summary beside them on stderr unless --quiet."""
    result = run("batch", str(folder), "-Q", QUESTION, "--quiet", *SHORT)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()][-1] == "inner/d.png"


def test_a_bad_picture_is_an_error_record_and_exit_4(run, folder, tmp_path, unexplained):
    """The others are answered; the bad one says why, has nothing else, and is valid all the same."""
    (folder / "b.png").write_bytes(b"")
    result = run("batch", str(folder), "-Q", QUESTION, "--batch-size", "3", "-o", str(tmp_path / "o"), *SHORT)
    assert result.exit_code == 4
    assert "4 items · 3 answered · 1 error" in result.stderr
    assert "b.png: 'pictures/b.png' is empty" in " ".join(
        result.stderr.replace(str(tmp_path) + "/", "").split()
    )
    assert "tried again by the same command" in " ".join(result.stderr.split())
    found = read(tmp_path / "o")
    assert [record["id"] for record in found] == ["a.png", "b.png", "c.png", "inner/d.png"]
    assert [record["error"] is None for record in found] == [True, False, True, True]
    assert "empty (0 bytes)" in found[1]["error"]
    assert (found[1]["answer"], found[1]["tokens"]) == ("", None)
    jsonschema.validate(found[1], schema_of("answer"))
    assert unexplained(found[1]) == []


def test_a_mended_picture_takes_the_place_of_its_error(run, folder, tmp_path, drawn):
    """The same command again answers what failed, there where the error stood, and nothing else."""
    arguments = ("batch", str(folder), "-Q", QUESTION, "-o", str(tmp_path / "o"), *SHORT)
    (folder / "b.png").write_bytes(b"no picture")
    assert run(*arguments).exit_code == 4
    first = read(tmp_path / "o")
    drawn((90, 90)).save(folder / "b.png")
    result = run(*arguments)
    assert result.exit_code == 0
    assert "4 items · 4 answered, 3 of them before" in result.stderr
    again = read(tmp_path / "o")
    assert [record["id"] for record in again] == [record["id"] for record in first]
    assert [again[index] for index in (0, 2, 3)] == [first[index] for index in (0, 2, 3)]
    assert again[1]["error"] is None


def test_what_is_done_is_not_asked_again(run, folder, tmp_path, monkeypatch):
    """A second run calls the model not once, and leaves every byte as it was."""
    arguments = ("batch", str(folder), "-Q", QUESTION, "-o", str(tmp_path / "o"), *SHORT)
    run(*arguments)
    before = (tmp_path / "o").read_bytes()
    monkeypatch.setattr("reroute_cli.measure.passes.timed_rows", lambda *_: pytest.fail("the model ran"))
    result = run(*arguments)
    assert (result.exit_code, (tmp_path / "o").read_bytes()) == (0, before)
    assert "4 answered, 4 of them before" in result.stderr


@pytest.mark.parametrize(
    "change",
    [
        ("--max-new-tokens", "3"),
        ("-Q", "what is this?"),
        ("--method", "fastv", "--ratio", "0.5"),
        ("--dtype", "bfloat16"),
    ],
    ids=lambda change: change[0],
)
def test_another_setting_is_another_answer(run, folder, tmp_path, change):
    """A record counts as done only for the very question, model, schedule and length."""
    arguments = ("batch", str(folder), "-Q", QUESTION, "-o", str(tmp_path / "o"), "--limit", "1", *SHORT)
    run(*arguments)
    result = run(*arguments, *change)
    assert result.exit_code == 0
    assert "1 item · 1 answered" in result.stderr
    assert "before" not in result.stderr
    assert len({record["key"] for record in read(tmp_path / "o")}) == 2


def test_a_moved_folder_and_another_batch_size_are_the_same_work(run, folder, tmp_path):
    """Keys are made of content: neither the place of the pictures nor the batch size is in them."""
    out = ("-o", str(tmp_path / "o"), *SHORT)
    run("batch", str(folder), "-Q", QUESTION, *out)
    moved = folder.rename(tmp_path / "moved")
    result = run("batch", str(moved), "-Q", QUESTION, "--batch-size", "2", "--seed", "5", *out)
    assert "4 answered, 4 of them before" in result.stderr


def test_a_profile_is_known_by_its_content(run, folder, tmp_path):
    """A profile that changed under its name is another schedule; a copy under another name is the same."""
    profile = tmp_path / "mine.yaml"
    arguments = ("batch", str(folder), "-Q", QUESTION, "-o", str(tmp_path / "o"), *SHORT, "-p")
    profile.write_text("title: mine\nstages:\n- {layer: 3, keep_ratio: 0.25}\n")
    run(*arguments, str(profile))
    copy = shutil.copy(profile, tmp_path / "copy.yaml")
    assert "4 of them before" in run(*arguments, str(copy)).stderr
    profile.write_text("title: mine\nstages:\n- {layer: 3, keep_ratio: 0.5}\n")
    assert "before" not in run(*arguments, str(profile)).stderr


def test_copies_of_a_picture_have_a_record_each(run, folder, tmp_path):
    """Three equal files are three records with three keys, and all of them are done the next time."""
    for name in ("b.png", "c.png"):
        shutil.copy(folder / "a.png", folder / name)
    arguments = ("batch", str(folder), "-Q", QUESTION, "-o", str(tmp_path / "o"), *SHORT)
    run(*arguments)
    found = read(tmp_path / "o")
    assert [record["id"] for record in found] == ["a.png", "b.png", "c.png", "inner/d.png"]
    assert len({record["key"] for record in found}) == 4
    assert len({record["answer"] for record in found[:3]}) == 1
    assert "4 answered, 4 of them before" in run(*arguments).stderr


def test_truth_makes_accuracy(run, manifest, tmp_path):
    """Right and wrong truths give exactly the shares that were put in; items without one do not count."""
    at = {"image": "desk.png"}
    exists = "is there a cup in the image?"
    path = manifest(
        {**at, "question": exists, "answer": " YES. "},
        {**at, "question": exists, "answer": "no"},
        {**at, "question": QUESTION, "answer": "[0.27,0.11,0.47,0.31]", "box": [60, 24, 106, 70]},
        {**at, "question": QUESTION, "box": [150, 150, 200, 200]},
        {**at, "question": exists},
    )
    result = run("batch", "--manifest", path, "--batch-size", "3", "--summary", str(tmp_path / "s"))
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "s").read_text())
    jsonschema.validate(found, schema_of("batch"))
    assert BatchSummary.model_validate(found).as_dict() == found
    words, boxes = found["accuracy"]["words"], found["accuracy"]["boxes"]
    assert (words["value"], words["n"]) == (0.5, 2)
    assert (boxes["acc_at_05"]["value"], boxes["centre_in_box"]["value"]) == (0.5, 0.5)
    assert 0.25 < boxes["mean_iou"] <= 0.5


def test_the_summary_is_the_mean_of_the_records(run, folder, tmp_path, unexplained):
    """Tokens, FLOPs, KV bytes and throughput of the summary follow from the lines by plain arithmetic."""
    out, summary = tmp_path / "o", tmp_path / "s"
    routed = ("--method", "pdrop", "--ratio", "0.6", "--max-new-tokens", "8")
    sizes = ("--batch-size", "3", "-o", str(out), "--summary", str(summary))
    run("batch", str(folder), "-Q", QUESTION, *routed, *sizes)
    lines, found = read(out), json.loads(summary.read_text())
    total = [
        line["flops"]["vision_flops"] + line["flops"]["prefill_flops"] + line["flops"]["decode_flops"]
        for line in lines
    ]
    assert found["means"]["total_flops"] == sum(total) / 4
    assert found["means"]["kv_end_bytes"] == sum(line["kv_cache"]["kv_end_bytes"] for line in lines) / 4
    seconds = lines[0]["latency"]["pass_s"] + lines[3]["latency"]["pass_s"]  # of three items, and of one
    assert found["throughput"]["passes_s"] == pytest.approx(seconds)
    assert found["throughput"]["samples_per_s"] == pytest.approx(4 / seconds)
    new = sum(line["tokens"]["new_tokens"] for line in lines)
    assert found["throughput"]["output_tokens_per_s"] == pytest.approx(new / seconds)
    plain = {"first_error", *(f"choice.{name}" for name in ("method", "ratio", "budget", "profile"))}
    assert set(unexplained(found)) <= plain | {"model.revision"}


def test_totals_are_of_the_whole_file(run, folder, tmp_path):
    """A run that finished what another began sums up both."""
    arguments = ("batch", str(folder), "-Q", QUESTION, "-o", str(tmp_path / "o"), *SHORT)
    (folder / "c.png").rename(tmp_path / "later.png")
    run(*arguments)
    (tmp_path / "later.png").rename(folder / "c.png")
    run(*arguments, "--summary", str(tmp_path / "s"))
    found = json.loads((tmp_path / "s").read_text())
    assert found["counts"] == {
        "items": 4, "answered": 4, "errors": 0, "resumed": 3, "skipped": 0, "halved": 0,
        "reused_vision": 0,
    }  # fmt: skip
    assert found["this_run"]["answered"] == 1


def test_records_of_other_work_in_the_file_do_not_count(run, folder, tmp_path):
    """The summary is of this run's items; what else the file holds stays in it untouched."""
    run("batch", str(folder), "-Q", "what is this?", "-o", str(tmp_path / "o"), *SHORT)
    result = run("batch", str(folder), "-Q", QUESTION, "-o", str(tmp_path / "o"), *SHORT)
    assert "4 items · 4 answered\n" in result.stderr
    assert len(read(tmp_path / "o")) == 8


def test_a_question_that_would_be_a_control_token_is_one_items_error(run, manifest):
    """A hostile line of a manifest does not stop the others."""
    at = {"image": "desk.png"}
    result = run(
        "batch", "--manifest", manifest({**at, "question": "<image> x"}, {**at, "question": "hi"}), *SHORT
    )
    assert result.exit_code == 4
    errors = [json.loads(line)["error"] for line in result.stdout.splitlines()]
    assert "control token" in errors[0]
    assert errors[1] is None


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "there is nothing to ask about"),
        (("--batch-size", "0", "-Q", "x"), 2, "0 is no whole number from 1 to 4096"),
        (("-o", "missing/x.jsonl", "-Q", "x", "."), 4, "--output"),
        (("--summary", ".", "-Q", "x", "."), 4, "--summary"),
        (("-o", "same", "--summary", "same", "-Q", "x", "."), 4, "two files"),
        (("-p", "no-such-profile", "-Q", "x", "."), 2, "no-such-profile"),
    ],
    ids=["nothing", "no batch", "no folder", "a folder", "the same", "no profile"],
)
def test_what_makes_no_sense_is_said_before_a_model_is_loaded(
    run, fails, monkeypatch, arguments, code, words
):
    """One sentence, and nothing was run."""
    monkeypatch.setattr("reroute_cli.models.load.load", lambda *_: pytest.fail("loaded"))
    fails(run("batch", *arguments), code, words)


def test_a_second_run_on_the_same_file_is_refused(run, fails, folder, tmp_path, monkeypatch):
    """While one process writes a file, another one gets a sentence before it loads a model."""
    from reroute_cli.records.store import RecordFile

    monkeypatch.setattr("reroute_cli.models.load.load", lambda *_: pytest.fail("loaded"))
    with RecordFile(tmp_path / "o"):
        result = run("batch", str(folder), "-Q", QUESTION, "-o", str(tmp_path / "o"))
    fails(result, 4, "another process is writing")
