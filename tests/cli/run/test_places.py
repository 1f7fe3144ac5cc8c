"""Where a reduction takes place: one word in all records of one schedule, the same words on all pages."""

import json
from pathlib import Path

import pytest
from PIL import Image

from reroute_cli.records.trace import TraceRecord
from reroute_cli.views.write.figure.canvas import FigureCanvas
from reroute_cli.views.write.figure.page import draw_trace

DESK = Path(__file__).resolve().parents[3] / "samples" / "desk.png"
ASKED = (str(DESK), "where is the cup?", "--max-new-tokens", "2")
PLACES = [("nuwa", "vision", "vision tower"), ("divprune", "entrance", "decoder entrance")]


@pytest.fixture(params=PLACES, ids=[place for _, place, _ in PLACES])
def asked(request, run):
    """A schedule that chooses before the decoder and decides in it, with its word, and how it is shown."""
    method, place, shown = request.param
    return (run, ("--method", method, "--action", "reroute", "--ratio", "0.75"), place, shown)


def test_records_of_one_schedule_agree_on_where_it_chooses(asked):
    """A plan, an answer and a trace: first before the decoder, then inside of it."""
    run, schedule, place, _ = asked
    planned = json.loads(run("plan", *schedule, "--json").stdout)["schedule"]["stages"]
    answered = json.loads(run("ask", *ASKED, *schedule, "--json").stdout)["schedule"]["stages"]
    traced = json.loads(run("trace", *ASKED, *schedule, "--json").stdout)["arms"][1]["stages"]
    for stages in (planned, answered, traced):
        assert [stage["where"] for stage in stages] == [place, *["decoder"] * 4]


def test_pages_say_in_plain_words_where_it_chooses(asked, tmp_path):
    """In a plan's table, in the notes of an answer, in the stages of a trace."""
    run, schedule, place, shown = asked
    assert f"at the {shown}" in run("plan", *schedule).stdout
    assert f"kept of 256 from {shown}: " in " ".join(run("ask", *ASKED, *schedule).stderr.split())
    traced = run("trace", *ASKED, *schedule, "-o", str(tmp_path / "trace.json")).stderr
    assert any(place in line.split() for line in traced.splitlines())


def test_the_figure_says_in_plain_words_where_it_chooses(asked, monkeypatch):
    """Above the map of the stage."""
    run, schedule, _, shown = asked
    record = TraceRecord.model_validate_json(run("trace", *ASKED, *schedule, "--json").stdout)
    written, text = [], FigureCanvas.text

    def listening(canvas, at, words, *more, **how):
        written.append(words)
        return text(canvas, at, words, *more, **how)

    monkeypatch.setattr(FigureCanvas, "text", listening)
    with Image.open(DESK) as image:
        draw_trace(record, image.convert("RGB"))
    assert shown in written
