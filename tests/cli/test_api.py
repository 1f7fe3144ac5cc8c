"""The library: functions give the records that commands write, print nothing, and fail in one sentence."""

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from PIL import Image

import reroute_cli as reroute
from reroute_cli.console import command_options, keywords, options, study_options
from reroute_cli.records.metrics import METRICS, Kind
from routing import Schedule
from tests.cli import reports

ROOT = Path(__file__).resolve().parents[2]
DESK, MANIFEST = str(ROOT / "samples" / "desk.png"), str(ROOT / "samples" / "manifest.jsonl")
QUESTION = "where is the cup?"
FUNCTIONS = {
    "ask",
    "batch",
    "compare",
    "evaluate",
    "load",
    "plan",
    "profile",
    "read",
    "sweep",
    "trace",
    "tune",
    "view",
}
KINDS = {"BatchAnswers", "CliError", "Failure", "NotComparable", "UsageError"}
GROUPS = {
    keywords.ModelKeywords: {options.ModelOptions},
    keywords.ScheduleKeywords: {options.ScheduleOptions},
    keywords.ArmsKeywords: {options.ArmsOptions},
    keywords.AskKeywords: {options.ScheduleOptions, options.AnswerOptions},
    keywords.BatchKeywords: {options.ScheduleOptions, command_options.BatchRunOptions},
    keywords.TraceKeywords: {command_options.TracedSchedules, options.AnswerOptions},
    keywords.PromptKeywords: {
        options.ScheduleOptions,
        command_options.PromptOptions,
        command_options.ShapeOptions,
    },
    keywords.ProfileKeywords: {
        options.ArmsOptions,
        study_options.ProfileItems,
        study_options.MeasureOptions,
    },
    keywords.QuestionsKeywords: {options.BenchmarkOptions, options.RunOptions},
    keywords.EvaluateKeywords: {study_options.ComparedQuestions, options.RunOptions, options.ArmsOptions},
    keywords.SweepKeywords: {
        study_options.ComparedQuestions,
        options.RunOptions,
        study_options.GridOptions,
        study_options.CostOptions,
    },
    keywords.TuneKeywords: {options.BenchmarkOptions, options.RunOptions, study_options.SearchOptions},
}
BESIDE = {"model", "quiet", "bench", "image", "images", "question"}  # parameters of their own, or none at all
TIMES = {"created", "latency", "memory", "this_run", "throughput", "process", "environment", "wall_s"}
LASTING = {name for name, metric in METRICS.items() if metric.kind is Kind.EXACT}


def lasting(value: Any) -> Any:
    """A record's plain values without times, memory and what the machine is."""
    if isinstance(value, list):
        return [lasting(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        name: lasting(part)
        for name, part in value.items()
        if name not in TIMES and (name not in METRICS or name in LASTING)
    }


@pytest.fixture
def written(run, warm, tmp_path):
    """A function that gives what a command writes with -o, as a record."""

    def write(*words: str, option: str = "-o", code: int = 0) -> Any:
        path = tmp_path / "written.json"
        done = run(*words, option, str(path))
        assert done.exit_code == code, done.stderr
        return reroute.read(path)

    return write


@pytest.fixture
def silent(capfd):
    """Whatever a test calls prints nothing, neither on stdout nor on stderr."""
    capfd.readouterr()
    yield
    assert capfd.readouterr() == ("", "")


def same(one: Any, other: Any) -> None:
    """Two records say the same, but for times."""
    assert type(one) is type(other)
    assert lasting(one.as_dict()) == lasting(other.as_dict())


# what there is


def test_the_members_are_these():
    """The package exports twelve functions, what they return that is no record, and the errors."""
    assert set(reroute.__all__) == FUNCTIONS | KINDS
    assert set(dir(reroute)) >= FUNCTIONS | KINDS
    for name in FUNCTIONS | KINDS:
        member = getattr(reroute, name)
        assert member.__name__ == name
        assert member.__module__.startswith(("reroute_cli.api.", "reroute_cli.console.errors"))
    with pytest.raises(AttributeError, match="no attribute 'asks'"):
        reroute.asks  # noqa: B018


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_explain_themselves(name):
    """Every function says its arguments, what it returns and what it raises, and has a type for each."""
    function = getattr(reroute, name)
    text, signature = inspect.getdoc(function) or "", inspect.signature(function)
    assert all(f"\n{part}:\n" in text for part in ("Args", "Returns", "Raises"))
    assert all(f"    {parameter}:" in text for parameter in signature.parameters)
    hinted = [signature.return_annotation, *(one.annotation for one in signature.parameters.values())]
    assert inspect.Signature.empty not in hinted


@pytest.mark.parametrize("typed", GROUPS, ids=lambda typed: typed.__name__)
def test_keywords_are_the_options(typed):
    """Keywords in Python are those of the option groups, each once and none left out."""
    named = {name for group in GROUPS[typed] for name in group.declared()}
    assert set(get_type_hints(typed)) == named - BESIDE


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        (
            "import reroute_cli",
            {"torch", "transformers", "numpy", "PIL", "pydantic", "typer", "rich", "yaml"},
        ),
        ("import reroute_cli; reroute_cli.ask", {"torch", "transformers", "numpy", "PIL"}),
        (
            "import reroute_cli; reroute_cli.view(reroute_cli.plan('pocket', method='pdrop', ratio=0.6))",
            {"torch", "transformers"},
        ),
    ],
    ids=["package", "function", "plan"],
)
def test_nothing_is_loaded_before_it_is_needed(code, heavy):
    """The package loads nothing, its functions no torch, and a plan works without it."""
    report = f"import sys\n{code}\nprint(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_loaded_model_is_shown_in_a_line(pocket):
    """The weights are no part of how a model is shown."""
    assert len(repr(pocket)) < 1000


# each function beside its command


def test_load(silent, pocket):
    """A model that is loaded in Python is the one that a command loads, and nothing is said."""
    found = reroute.load("pocket", device="cpu", dtype="float32", seed=3)
    assert (found.name, found.family, found.config_digest) == (pocket.name, "llava", pocket.config_digest)
    assert found.seed == 3


def test_ask(silent, pocket, written):
    """An answer is that of `ask`, its key too."""
    words = ("--method", "pdrop", "--action", "reroute", "--ratio", "0.6", "--max-new-tokens", "12")
    answer = reroute.ask(
        pocket, DESK, QUESTION, method="pdrop", action="reroute", ratio=0.6, max_new_tokens=12
    )
    same(answer, written("ask", DESK, QUESTION, *words, "-q", "--json"))


def test_pixels_are_answered_like_their_file(silent, pocket):
    """A PIL image, whatever its mode, gives the answer of its file; its key is its own."""
    schedule = {"method": "fastv", "ratio": 0.5, "layers": [2, 4], "action": "reroute"}
    file = reroute.ask(pocket, Path(DESK), QUESTION, **schedule)
    with Image.open(DESK) as opened:
        given = [opened, opened.convert("RGBA"), opened.convert("RGB")]
        found = [reroute.ask(pocket, image, QUESTION, **schedule) for image in given]
    for one in found:
        assert (one.answer, one.boxes, one.tokens) == (file.answer, file.boxes, file.tokens)
        assert one.image.startswith("image of 224 × 224 pixels, SHA-256 ")
    assert len({one.key for one in found}) == 1
    assert found[0].key != file.key


def test_several_images(silent, pocket, written):
    """A list of images is one prompt."""
    both = [DESK, str(ROOT / "samples" / "pets.png")]
    same(reroute.ask(pocket, both, QUESTION), written("ask", *both, QUESTION, "-q", "--json"))


def test_batch(silent, pocket, run, warm, tmp_path):
    """Records and summary are those of `batch`, with a file and without; a file is gone on from."""
    mine, theirs, summary = tmp_path / "mine.jsonl", tmp_path / "theirs.jsonl", tmp_path / "summary.json"
    words = ("--method", "pdrop", "--ratio", "0.8", "--batch-size", "2", "--limit", "4", "-q")
    assert (
        run("batch", "--manifest", MANIFEST, *words, "-o", str(theirs), "--summary", str(summary)).exit_code
        == 0
    )
    keywords = {"method": "pdrop", "ratio": 0.8, "batch_size": 2, "limit": 4}
    found = reroute.batch(pocket, MANIFEST, **keywords, output=mine)
    loose = reroute.batch(pocket, MANIFEST, **keywords)
    again = reroute.batch(pocket, MANIFEST, **keywords, output=mine)
    same(found.summary, reroute.read(summary))
    assert (found.summary.this_run.answered, again.summary.this_run.answered) == (4, 0)
    for records in (found.records, loose.records, again.records, reroute.read(mine)):
        for one, other in zip(records, reroute.read(theirs), strict=True):
            same(one, other)


def test_batch_of_pairs_and_of_a_folder(silent, pocket, tmp_path):
    """Pairs, images under one question, and a folder are asked alike; a failed item is a record."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "desk.png").write_bytes(Path(DESK).read_bytes())
    pairs = reroute.batch(pocket, [(DESK, QUESTION), ("nowhere.png", QUESTION), ([DESK], " ")])
    listed = reroute.batch(pocket, [DESK, Image.open(DESK)], QUESTION)
    folder = reroute.batch(pocket, tmp_path / "photos", QUESTION)
    good, missing, empty = pairs.records
    assert {good.answer} == {one.answer for one in (*listed.records, *folder.records)}
    assert [one.id for one in pairs.records] == ["desk.png", "nowhere.png", "desk.png#2"]
    assert missing.error == "'nowhere.png' does not exist: check the path"
    assert "the question is empty" in empty.error
    assert pairs.summary.counts.errors == 2


def test_profile(silent, pocket, written):
    """A report is that of `profile`; progress is told of every answer."""
    words = ("--arms", "pdrop:prune,fastv@3:reroute", "--ratio", "0.5", "--limit", "1")
    rounds = ("--warmup", "0", "--repeat", "1", "--max-new-tokens", "3")

    class Noting:
        """Whoever is told, and what."""

        expected = steps = 0

        def expect(self, steps):
            """So many are announced."""
            self.expected += steps

        def tell(self, doing):
            """What is going on."""

        def done(self):
            """One more."""
            self.steps += 1

    noted = Noting()
    report = reroute.profile(
        pocket,
        arms=["pdrop:prune", "fastv@3:reroute"],
        ratio=0.5,
        limit=1,
        warmup=0,
        repeat=1,
        max_new_tokens=3,
        progress=noted,
    )
    same(report, written("profile", *words, *rounds, "-q"))
    assert noted.expected == noted.steps == 3 * 4
    images = reroute.profile(pocket, DESK, QUESTION, warmup=0, repeat=1, max_new_tokens=3)
    assert [item.images for item in images.workload.items] == [[DESK]]


def test_evaluate(silent, pocket, written):
    """An evaluation is that of `eval`."""
    words = (
        "--arms",
        "pdrop",
        "--ratio",
        "0.8",
        "--limit",
        "4",
        "--batch-size",
        "4",
        "--max-new-tokens",
        "12",
    )
    found = reroute.evaluate(
        pocket, manifest=MANIFEST, arms="pdrop", ratio=0.8, limit=4, batch_size=4, max_new_tokens=12
    )
    same(found, written("eval", "--manifest", MANIFEST, *words, "-q"))


def test_sweep(silent, pocket, written, tmp_path):
    """A sweep is that of `sweep`; answers that the library asked are known to the command."""
    kept = tmp_path / "kept.jsonl"
    words = ("--arms", "pdrop", "--ratios", "0.6,0.8", "--limit", "4", "--cost-items", "0")
    found = reroute.sweep(
        pocket, manifest=MANIFEST, arms="pdrop", ratios=[0.6, 0.8], limit=4, cost_items=0, records=kept
    )
    theirs = written("sweep", "--manifest", MANIFEST, *words, "-q", "--records", str(kept))
    same(found, theirs)
    assert theirs.this_run.answered == 0


def test_tune(silent, pocket, written, tmp_path):
    """A search is that of `tune`, and what it found is a profile and a schedule."""
    kept, profile = tmp_path / "kept.jsonl", tmp_path / "mine.yaml"
    words = ("--ratio", "0.667", "--answers", "100", "--methods", "fastv", "--actions", "reroute")
    report = reroute.tune(
        pocket,
        manifest=MANIFEST,
        ratio=0.667,
        answers=100,
        methods=["fastv"],
        actions="reroute",
        max_new_tokens=8,
        records=kept,
    )
    theirs = written(
        "tune", "--manifest", MANIFEST, *words, "--max-new-tokens", "8", "-q", "--records", str(kept)
    )
    same(report, theirs)
    profile.write_text(reroute.view(report, "profile"), encoding="utf-8")
    schedule = Schedule.from_dict(report.found.schedule)
    assert schedule.digest() == report.found.schedule_digest
    answer = reroute.ask(pocket, DESK, QUESTION, profile=profile, max_new_tokens=4)
    assert answer.schedule.digest == report.found.schedule_digest


def test_trace(silent, pocket, written):
    """A trace is that of `trace`."""
    words = ("--method", "pdrop", "--layers", "3,5,8", "--ratio", "0.6", "--versus", "--box", "70,20,110,70")
    found = reroute.trace(
        pocket,
        DESK,
        QUESTION,
        method="pdrop",
        layers=[3, 5, 8],
        ratio=0.6,
        versus=True,
        box=(70, 20, 110, 70),
    )
    same(found, written("trace", DESK, QUESTION, *words, "-q"))


def test_plan(silent, written):
    """A plan is that of `plan`, also for the size of an image."""
    words = ("--method", "pdrop", "--budget", "64", "--text-tokens", "32")
    found = reroute.plan("llava-1.5-7b", method="pdrop", budget=64, text_tokens=32)
    same(found, written("plan", "-m", "llava-1.5-7b", *words))
    sized = reroute.plan("llava-next-mistral-7b", images=Image.open(DESK))
    same(sized, written("plan", "-m", "llava-next-mistral-7b", "--image", DESK))


def test_compare(silent, run, tmp_path):
    """A comparison is that of `compare`, of files and of records."""
    paths = [tmp_path / "baseline.json", tmp_path / "current.json"]
    slower = reports.make()
    slower["arms"][1]["items"][0]["answer"] = "another"
    for path, plain in zip(paths, (reports.make(), slower), strict=True):
        path.write_text(json.dumps(plain), encoding="utf-8")
    done = run("compare", *map(str, paths), "--gate", "ttft:5%", "--format", "json")
    assert done.exit_code == 3
    found = reroute.compare(*paths, gates="ttft:5%")
    assert found == reroute.read(done.stdout.encode())
    assert not found.passed
    loose = reroute.compare(*map(reroute.read, paths), gates=["ttft:5%"])
    assert (loose.rows, loose.baseline.path, loose.accept) == (found.rows, None, None)


# read


def test_read_takes_what_view_gives(silent, pocket, tmp_path):
    """A record goes through JSON unchanged, alone and in lines."""
    answer = reroute.ask(pocket, DESK, QUESTION, max_new_tokens=4)
    planned = reroute.plan("pocket", method="pdrop", ratio=0.5)
    for record in (answer, planned):
        path = tmp_path / "record.json"
        path.write_text(reroute.view(record, "json"), encoding="utf-8")
        assert reroute.read(path) == reroute.read(str(path)) == record
    lines = reroute.view([answer, planned], "json").encode()
    assert reroute.read(lines) == [answer, planned]
    (tmp_path / "one.jsonl").write_text(reroute.view([answer], "json"), encoding="utf-8")
    assert reroute.read(tmp_path / "one.jsonl") == [answer]


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "fixtures" / "records").rglob("*.json*")), ids=str)
def test_read_takes_every_kind_and_version(silent, path):
    """What any release wrote is read as this one writes it."""
    found = reroute.read(path)
    for record in found if isinstance(found, list) else [found]:
        assert reroute.read(reroute.view(record, "json").encode()) == record


def test_a_torn_last_line_is_left_out(silent, pocket):
    """What a killed writer left behind is no record, and whatever stands before it is one."""
    line = reroute.view([reroute.ask(pocket, DESK, QUESTION, max_new_tokens=1)], "json").encode()
    assert len(reroute.read(line + line[:50])) == 1
    with pytest.raises(reroute.Failure, match="line 2"):
        reroute.read(line + line[:50] + b"\n")


HOSTILE = {
    "empty": b"",
    "no JSON": b"\x00\xff\xfe",
    "cut off": b'{"schema": "reroute.report/2", ',
    "no object": b"[1, 2, 3]",
    "no schema": b'{"answer": "42"}',
    "no text": b'{"schema": 7}',
    "another's": b'{"schema": "reroute.answer/99"}',
    "a path": b'{"schema": "reroute.../../../etc/passwd/2"}',
    "unknown": b'{"schema": "reroute.nothing/2"}',
    "fields": b'{"schema": "reroute.plan/2", "model": null}',
    "an answer's error": b'{"schema": "reroute.answer/2", "error": {"a": []}}',
    "version 1": b'{"schema": "reroute.sweep/1", "arms": 7, "fronts": {"a": [null]}}',
    "not a number": b'{"schema": "reroute.report/2", "arms": [NaN]}',
    "endless number": b'{"schema": "reroute.report/2", "x": 1' + b"0" * 5000 + b"}",
    "twice": b'{"schema": "reroute.report/2", "schema": "reroute.plan/2"}',
    "deep": b"[" * 100_000,
    "deep record": b'{"schema": "reroute.env/1", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "lines": b'{"schema": "reroute.plan/2"}\n{"schema": "reroute.plan/2"}\n',
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_record_is_one_sentence(silent, tmp_path, content):
    """Whatever a file or its bytes hold, `read` gives a record or raises Failure with one line."""
    path = tmp_path / "hostile.json"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(reroute.Failure) as caught:
            reroute.read(source)
        assert len(str(caught.value)) < 1000
        assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(silent, tmp_path):
    """A folder, a missing file, a pipe and too many bytes are refused unread."""
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 300 << 20)
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "pipe", tmp_path / "huge", "a\0b"):
        with pytest.raises(reroute.Failure):
            reroute.read(path)


# view


def test_view_is_what_commands_write(pocket, run, warm, tmp_path):
    """Text, Markdown, CSV and the formats of other tools are those that commands write."""
    path, kept = tmp_path / "report.json", tmp_path / "kept.jsonl"
    path.write_text(json.dumps(reports.make()), encoding="utf-8")
    comparison = reroute.compare(path, path)
    for form in ("text", "markdown", "json", "junit"):
        assert run("compare", str(path), str(path), "--format", form).stdout == reroute.view(comparison, form)
    for form in ("github-action-benchmark", "github-action-benchmark-bigger", "bencher"):
        shown = reroute.view(reroute.read(path), form)
        assert run("compare", str(path), str(path), "--format", form).stdout == shown
    words = ("eval", "--manifest", MANIFEST, "--limit", "2", "-q", "--records", str(kept))
    reroute.evaluate(pocket, manifest=MANIFEST, limit=2, records=kept)
    found = reroute.evaluate(pocket, manifest=MANIFEST, limit=2, records=kept)
    for form in ("markdown", "csv"):
        assert run(*words, "--format", form).stdout == reroute.view(found, form)
    planned = reroute.plan("llava-1.5-7b", method="pdrop", ratio=0.5)
    typed = run("plan", "-m", "llava-1.5-7b", "--method", "pdrop", "--ratio", "0.5").stdout
    assert " ".join(typed.split()) == " ".join(reroute.view(planned).split())


def test_view_of_several_answers(silent, pocket):
    """Answers are one table."""
    records = reroute.batch(pocket, [DESK], QUESTION).records
    records += reroute.batch(pocket, [DESK], QUESTION, method="pdrop", ratio=0.8).records
    assert "2 answers to 1 item under 2 schedules" in reroute.view(records)
    assert reroute.view(records, "csv").startswith("schedule,answers,")


def test_view_as_a_page(silent, pocket):
    """A record, or several, are a page that needs nothing else."""
    pytest.importorskip("plotly")
    answer = reroute.ask(pocket, DESK, QUESTION, max_new_tokens=12)
    page = reroute.view([answer, reroute.read(json.dumps(reports.make()).encode())], "html")
    assert page.startswith("<!doctype html>")
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "data:image/" in page


@pytest.mark.parametrize(
    ("record", "form", "words"),
    [
        ("answer", "pdf", "give one of text, markdown"),
        ("answer", "junit", "reroute.comparison alone"),
        ("answer", "bencher", "reroute.report alone"),
        ("answer", "profile", "reroute.tune alone"),
        ("none", "text", "give a record"),
        ("mixed", "text", "where all are answers"),
    ],
)
def test_a_format_that_does_not_fit(silent, pocket, record, form, words):
    """A format that there is not, or that is not of this record, is a UsageError."""
    planned = reroute.plan("pocket")
    given = {"answer": planned, "none": [], "mixed": [planned, planned]}[record]
    with pytest.raises(reroute.UsageError, match=words):
        reroute.view(given, form)


def test_notebooks_show_records_as_html(silent):
    """What a notebook shows of a record is its document as HTML."""
    shown = reroute.plan("pocket", method="pdrop", ratio=0.5)._repr_html_()
    assert shown.startswith("<div>")
    assert "<table>" in shown


# errors


def test_errors_are_the_packages(silent, pocket, tmp_path):
    """What a command would end with is raised, with one sentence; none of it is a SystemExit."""
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        (reroute.Failure, "nope.png", lambda: reroute.ask(pocket, "nope.png", QUESTION)),
        (reroute.UsageError, "the question is empty", lambda: reroute.ask(pocket, DESK, " ")),
        (reroute.UsageError, "no image is given", lambda: reroute.ask(pocket, [], QUESTION)),
        (reroute.UsageError, "--ratio 2", lambda: reroute.ask(pocket, DESK, QUESTION, ratio=2)),
        (reroute.UsageError, "--ratio half is no number", lambda: reroute.plan(method="pdrop", ratio="half")),
        (reroute.UsageError, "no method 'x'", lambda: reroute.plan(method="x", ratio=0.5)),
        (
            reroute.UsageError,
            "rising numbers",
            lambda: reroute.plan(method="pdrop", ratio=0.5, layers=[5, 3]),
        ),
        (reroute.UsageError, "reach", lambda: reroute.plan(method="pdrop", ratio=0.9, layers=[8])),
        (reroute.UsageError, "no profile", lambda: reroute.plan(profile="nothing")),
        (reroute.UsageError, "add --method", lambda: reroute.trace(pocket, DESK, QUESTION)),
        (
            reroute.UsageError,
            "--image and --visual-tokens",
            lambda: reroute.plan(images=DESK, visual_tokens=9),
        ),
        (
            reroute.UsageError,
            "--max-new-tokens 0",
            lambda: reroute.ask(pocket, DESK, QUESTION, max_new_tokens=0),
        ),
        (reroute.Failure, "there is no image in", lambda: reroute.batch(pocket, empty, QUESTION)),
        (reroute.Failure, "empty", lambda: reroute.batch(pocket, [])),
        (reroute.UsageError, "needs exactly one", lambda: reroute.tune(pocket)),
        (reroute.UsageError, "no split", lambda: reroute.evaluate(pocket, split="no")),
        (reroute.UsageError, "--gate", lambda: reroute.compare("a", "b", gates="ttft")),
        (reroute.Failure, "there is no report", lambda: reroute.compare("a", "b")),
        (reroute.Failure, "no model folder", lambda: reroute.load("./nothing")),
        (reroute.UsageError, "--device", lambda: reroute.load(device="tpu")),
        (reroute.UsageError, "template", lambda: reroute.load(chat_template=tmp_path)),
    ]
    for kind, words, call in cases:
        with pytest.raises(reroute.CliError, match=words) as caught:
            call()
        assert type(caught.value) is kind, words
        assert "\n" not in str(caught.value)


def test_reports_of_other_work_do_not_compare(silent):
    """Two reports that may not be compared are NotComparable."""
    other = reports.make(items=("lamp",))
    one, two = (reroute.read(json.dumps(plain).encode()) for plain in (reports.make(), other))
    with pytest.raises(reroute.NotComparable):
        reroute.compare(one, two)


def test_an_unknown_keyword_is_a_type_error(silent, pocket):
    """A keyword that no option has is a mistake of the program's, as with any function."""
    with pytest.raises(TypeError, match="no keyword 'methd': choose from method"):
        reroute.ask(pocket, DESK, QUESTION, methd="pdrop")


def test_bugs_and_interrupts_pass(monkeypatch, pocket):
    """What nobody foresaw stays what it is, and so does Ctrl-C."""
    from reroute_cli.run import answer

    for error in (ZeroDivisionError("a bug"), KeyboardInterrupt()):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(answer, "answer", fail)
        with pytest.raises(type(error)):
            reroute.ask(pocket, DESK, QUESTION)


def test_memory_that_is_not_there_is_a_failure(monkeypatch, pocket):
    """Want of memory is told as the command line tells it, with what was raised behind it."""
    from reroute_cli.run import answer

    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(answer, "answer", fail)
    with pytest.raises(reroute.Failure, match="out of memory: no room") as caught:
        reroute.ask(pocket, DESK, QUESTION)
    assert isinstance(caught.value.__cause__, MemoryError)


def test_seeds_of_random_weights_are_in_keys(silent, pocket):
    """Answers of random weights are known by the seed of these weights, whatever that of the schedule is."""
    from dataclasses import replace

    from reroute_cli.run.answer import settings_of
    from reroute_cli.run.schedules import ScheduleChoice

    made = [replace(pocket, random=True, seed=seed) for seed in (0, 1)]
    settings = [settings_of(one, ScheduleChoice(), 4)["model"]["weights"] for one in made]
    assert settings == ["random 0", "random 1"]
    arm = reroute.ask(replace(pocket, seed=5), DESK, QUESTION, method="random", ratio=0.5, max_new_tokens=1)
    typed = reroute.ask(pocket, DESK, QUESTION, method="random", ratio=0.5, max_new_tokens=1, seed=5)
    assert arm.key == typed.key
