"""`reroute trace`: what it writes, shows and refuses."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from reroute_cli.models import load as models
from reroute_cli.views.write import terminal

DESK, CUP = "samples/desk.png", "where is the cup?"
SCHEDULE = ("--method", "pdrop", "--ratio", "0.8")


@pytest.fixture
def unloaded(monkeypatch):
    """No model may be loaded: what is wrong is found before."""
    monkeypatch.setattr(models, "load", lambda options: pytest.fail("a model was loaded"))


def test_a_picture_is_drawn_and_its_path_is_the_result(run, warm, tmp_path):
    """stdout names the file, stderr holds the numbers, the file is a PNG."""
    path = tmp_path / "out.png"
    result = run("trace", DESK, CUP, *SCHEDULE, "--versus", "-o", str(path))
    assert (result.exit_code, result.stdout) == (0, f"{path}\n"), result.output
    with Image.open(path) as figure:
        assert figure.format == "PNG"
        assert figure.width <= 2000
    for word in ("pdrop prune", "pdrop reroute", "recall", "never used"):
        assert word in result.stderr


def test_the_json_is_the_record_and_its_answers_are_those_of_ask(run, warm, tmp_path):
    """-o FILE.json and --json write the same, and the dense answer is what ask says."""
    path = tmp_path / "out.json"
    result = run("trace", DESK, CUP, *SCHEDULE, "--action", "reroute", "-o", str(path), "--json", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    record = json.loads(result.stdout)
    assert record == json.loads(path.read_text(encoding="utf-8"))
    assert record["schema"] == "reroute.trace/2"
    assert [arm["name"] for arm in record["arms"]] == ["dense", "pdrop-reroute"]
    dense, routed = (arm["answer"] for arm in record["arms"])
    assert run("ask", DESK, CUP, "-q").stdout.strip() == dense
    assert run("ask", DESK, CUP, *SCHEDULE, "--action", "reroute", "-q").stdout.strip() == routed


def test_a_terminal_that_shows_pictures_gets_the_figure(run, warm, monkeypatch):
    """Without -o the figure is shown, and nothing else is on stdout."""
    shown = []
    monkeypatch.setattr(terminal, "shows_images", lambda: True)
    monkeypatch.setattr(terminal, "show_image", shown.append)
    result = run("trace", DESK, CUP, "--method", "fastv", "--ratio", "0.6", "-q")
    assert (result.exit_code, result.stdout) == (0, "")
    (png,) = shown
    assert Image.open(io.BytesIO(png)).format == "PNG"


def test_a_page_is_what_report_makes_of_the_record(run, warm, tmp_path):
    """`-o FILE.html` and `reroute report` on `-o FILE.json` give the same page, but for the file's name."""
    pytest.importorskip("plotly", reason="the extra report")
    for name in ("trace.json", "trace.html"):
        assert run("trace", DESK, CUP, *SCHEDULE, "-o", str(tmp_path / name)).exit_code == 0
    page = tmp_path / "report.html"
    assert run("report", str(tmp_path / "trace.json"), "-o", str(page)).exit_code == 0
    direct, made = ((tmp_path / name).read_text("utf-8") for name in ("trace.html", "report.html"))
    assert direct.replace("trace.html", "trace.json") == made
    assert "data:image/" in direct


def test_a_pipe_is_no_terminal():
    """Here stdout is captured: no picture is shown, whatever is installed."""
    assert terminal.shows_images() is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((DESK, CUP, *SCHEDULE, "-o", "out.svg"), ("out.svg", "FILE.png, FILE.html or FILE.json")),
        ((DESK, CUP, *SCHEDULE, "-o", "out"), ("FILE.png, FILE.html or FILE.json",)),
        ((DESK, CUP, *SCHEDULE), ("nowhere to go", "-o FILE.png")),
        ((DESK, CUP, "-o", "x.png"), ("what a schedule does", "--method pdrop --ratio 0.8")),
        ((DESK, CUP, "--method", "none", "-o", "x.png"), ("what a schedule does",)),
        (
            (DESK, CUP, "-p", "pocket-prune", "--versus", "-o", "x.png"),
            ("--versus", "--method, not --profile"),
        ),
        ((DESK, CUP, *SCHEDULE, "--action", "prune", "--versus", "-o", "x.png"), ("drop --action",)),
        ((DESK, DESK, CUP, *SCHEDULE, "-o", "x.png"), ("one image", "given 2")),
        ((DESK, " ", *SCHEDULE, "-o", "x.png"), ("question is empty",)),
        ((DESK, CUP, *SCHEDULE, "--box", "1,2,3", "-o", "x.png"), ("'1,2,3'", "x1,y1,x2,y2")),
        ((DESK, CUP, *SCHEDULE, "--box", "9,2,3,4", "-o", "x.png"), ("is no box",)),
        ((DESK, CUP, *SCHEDULE, "--box", "nan,2,3,4", "-o", "x.png"), ("is no box",)),
        ((DESK, CUP, *SCHEDULE, "--box", "0,0,225,9", "-o", "x.png"), ("reaches out", "224 × 224")),
        ((DESK, CUP, "--method", "pdrop", "-o", "x.png"), ("needs an amount",)),
    ],
    ids=lambda part: " ".join(part)[-40:],
)
def test_what_makes_no_sense_is_a_usage_error_before_a_model_is_loaded(
    run, unloaded, fails, arguments, words
):
    """One sentence, exit code 2."""
    fails(run("trace", *arguments), 2, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nosuch.png", CUP, *SCHEDULE, "-o", "x.png"), ("nosuch.png", "does not exist")),
        (("pyproject.toml", CUP, *SCHEDULE, "-o", "x.png"), ("not an image",)),
        ((DESK, CUP, *SCHEDULE, "-o", "nosuch/x.png"), ("--output", "nosuch")),
    ],
)
def test_files_that_fail_are_failures_before_a_model_is_loaded(run, unloaded, fails, arguments, words):
    """One sentence, exit code 4."""
    fails(run("trace", *arguments), 4, *words)


def test_a_ratio_out_of_reach_is_a_usage_error(run, warm, fails, tmp_path):
    """The engine's own sentence about the nearest reachable ratio."""
    path = tmp_path / "x.png"
    fails(run("trace", DESK, CUP, "--method", "fastv", "--ratio", "0.999", "-o", str(path)), 2, "ratio")
    assert not path.exists()


def test_hostile_words_are_drawn_as_words(run, warm, tmp_path):
    """Escapes, right-to-left marks and letters that the font lacks in question and file name do no harm."""
    source = tmp_path / "de\x1b[31msk\u202e杯.png"
    source.write_bytes(Path(DESK).read_bytes())
    path = tmp_path / "out.png"
    question = "where \x1b]0;title\x07is the [bold]cup[/bold]\u202e 杯子?"
    result = run("trace", str(source), question, "--method", "fastv", "--ratio", "0.6", "-o", str(path))
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert "characters that its font lacks" in result.stderr
    assert Image.open(path).format == "PNG"


def test_decision_layers_can_be_typed(run, warm, tmp_path):
    """--layers puts the stages where it says."""
    path = tmp_path / "out.json"
    run("trace", DESK, CUP, *SCHEDULE, "--layers", "2,4,7", "-o", str(path))
    record = json.loads(path.read_text(encoding="utf-8"))
    assert [stage["layer"] for stage in record["arms"][1]["stages"]] == [2, 4, 7]
