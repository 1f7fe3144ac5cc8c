"""The sink: what reaches a terminal, and what JSON and files hold."""

import io
import json
import math
import os

import pytest

from reroute_cli.console.output import Progress, Sink, clean, draw, to_json, write, write_file
from reroute_cli.views.document import Cell, Column, Document, Table
from reroute_cli.views.write.terminal import page, plain


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;new title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP payload \x1b\\after", "after"),
        ("\x9b31mx", "31mx"),
        ("a\x00b\x07c\x08d\x7fe", "abcde"),
        ("left\u202eright\u061c", "leftright"),
        ("line\r\nnext\tcolumn", "line\nnext\tcolumn"),
        ("\udcff\ud800name", "name"),
        ("[red]markup[/red] :smile:", "[red]markup[/red] :smile:"),
        ("über 日本 🙂", "über 日本 🙂"),
    ],
)
def test_control_sequences_are_removed_and_text_stays(hostile, shown):
    """Escape sequences, control, bidi and surrogate characters go; markup and letters of any script stay."""
    assert clean(hostile) == shown


def test_one_line_text_has_no_newline():
    """Names and sentences stay on their line."""
    assert clean(" a\n\nb\tc ", one_line=True) == "a b c"


def test_json_keeps_every_character_and_shows_none_that_acts():
    """Decoding gives the very text back, while the bytes hold no control character."""
    text = "\x1b[31m \x07 \x9b \u202e \ud800 日本 [red]"
    encoded = to_json({"answer": text})
    assert json.loads(encoded) == {"answer": text}
    assert clean(encoded) == encoded
    assert "日本" in encoded


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_is_no_number(number):
    """NaN and infinity are not JSON."""
    with pytest.raises(ValueError, match="JSON"):
        to_json({"x": number})


def test_a_stream_without_the_characters_gets_question_marks():
    """An ASCII terminal never makes the program fail."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write(stream, "0.41× · 日")
    assert raw.getvalue() == b"0.41? ? ?"


def test_quiet_says_only_the_result(capsys):
    """-q leaves stdout and silences remarks and cards."""
    sink = Sink(quiet=True)
    sink.result("answer")
    sink.talk("remark")
    sink.card(plain("card"))
    assert capsys.readouterr() == ("answer\n", "")


def test_markup_in_a_table_is_text():
    """Rich draws brackets and emoji codes as they are."""
    table = Table("", (Column("name", "name"),), ({"name": Cell("[red]x[/red] :smile: \x1b[31m")},))
    drawn = draw(tuple(page(Document("x", (table,)))), io.StringIO())
    assert "[red]x[/red] :smile:" in drawn
    assert "\x1b" not in drawn


def test_a_file_is_written_whole_and_alone(tmp_path):
    """The file holds the text, and no draft is left beside it."""
    target = tmp_path / "out.json"
    target.write_text("old")
    write_file(target, "new")
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    """When the disk is full the old file is still there, and no draft."""
    target = tmp_path / "out.json"
    target.write_text("old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_file(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_link_stays_and_its_target_is_written(tmp_path):
    """-o LINK writes where the link points."""
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    write_file(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_pipe_is_written_to_and_never_replaced(tmp_path):
    """-o FIFO, as -o /dev/null or /dev/stdout, leaves the thing what it is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)
    assert pipe.is_fifo()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Make stderr a terminal that understands colours; called in the test, for pytest sets its own before."""

    def switch(stream=None, term="xterm"):
        stream = stream or Terminal()
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("TERM", term)
        monkeypatch.delenv("NO_COLOR", raising=False)
        return stream

    return switch


def test_progress_is_drawn_on_a_terminal_and_leaves_nothing_behind(terminal, capsys):
    """What it is told shows on stderr at once; at the end the bar is wiped out; stdout is never touched."""
    stream = terminal()
    with Sink().progress() as progress:
        progress.expect(4)
        progress.tell("round 1 of 2")
        progress.done()
        shown = stream.getvalue()
    assert "round 1 of 2" in shown
    assert "1/4" in shown
    assert stream.getvalue().endswith(("\x1b[2K", "\x1b[?25h", "\x1b[1A"))
    assert capsys.readouterr().out == ""


def test_progress_draws_only_when_it_is_told(terminal):
    """No thread of its own: between two calls not a byte is written."""
    import threading
    import time

    stream, before = terminal(), threading.active_count()
    with Sink().progress() as progress:
        progress.tell("measuring")
        shown = stream.getvalue()
        assert "measuring" in shown
        assert threading.active_count() == before
        time.sleep(0.3)
        assert stream.getvalue() == shown


@pytest.mark.parametrize("why", ["quiet", "no terminal", "dumb terminal"])
def test_progress_is_silent_where_nobody_looks(terminal, why):
    """--quiet, a pipe and a dumb terminal get no bar, and the calls do nothing."""
    stream = terminal(
        io.StringIO() if why == "no terminal" else None, "dumb" if why == "dumb terminal" else "xterm"
    )
    with Sink(quiet=why == "quiet").progress() as progress:
        assert isinstance(progress, Progress)
        progress.expect(2)
        progress.tell("measuring")
        progress.done()
    assert stream.getvalue() == ""


def test_progress_gives_the_cursor_back_when_interrupted(terminal):
    """Ctrl-C passes through, and the terminal is as before."""
    stream = terminal()

    def interrupted():
        with Sink().progress() as progress:
            progress.tell("measuring")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    hidden, shown = (stream.getvalue().rfind(code) for code in ("\x1b[?25l", "\x1b[?25h"))
    assert shown > hidden >= 0
