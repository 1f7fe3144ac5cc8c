"""Help: what it says is what was written, whatever Rich would make of it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from typer.main import get_command
from typer.models import ParameterInfo
from typer.testing import CliRunner

from reroute_cli.app import app
from tests.help_snapshot import SNAPSHOT, whole_help

WIDE = {"COLUMNS": "2000"}  # no line is wrapped
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "METHOD[@LAYER+LAYER][:ACTION] reroute[plot] [red]x[/red] [/] :car: \\[a] {b} [link=x]y[/link] c:\\"


def _commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group with the words that it is called by."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from _commands(command, *path, name)


COMMANDS = dict(_commands(get_command(app)))


def _written(command: Any) -> Iterator[str]:
    """Every text that was written for the help of a command: its own, its options' and their panels'."""
    yield command.help
    for hint in get_type_hints(command.callback, include_extras=True).values() if command.callback else ():
        for option in getattr(hint, "__metadata__", ()):
            if isinstance(option, ParameterInfo) and not option.hidden:
                yield from filter(None, (option.help, option.metavar, option.rich_help_panel))


def _flat(text: str) -> str:
    """Text without colours, frames and line ends."""
    return " ".join(COLOURS.sub("", text).replace("│", " ").split())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_every_text_as_it_was_written(path):
    """What a command, its options, their values and panels say is in its help, square brackets and all."""
    shown = _flat(CliRunner().invoke(app, [*path, "--help"], env=WIDE).stdout)
    written = [_flat(text) for text in _written(COMMANDS[path])]
    assert written
    assert [text for text in written if text not in shown] == []


@pytest.mark.parametrize("path", [path for path in COMMANDS if hasattr(COMMANDS[path], "commands")], ids=str)
def test_lists_of_commands_show_every_summary_as_it_was_written(path):
    """A group's help has the first paragraph of each of its commands' own."""
    shown = _flat(CliRunner().invoke(app, [*path, "--help"], env=WIDE).stdout)
    summaries = [_flat(command.help.split("\n\n")[0]) for command in COMMANDS[path].commands.values()]
    assert [summary for summary in summaries if summary not in shown] == []


def test_the_whole_help_is_the_one_that_was_agreed():
    """No option, default, variable or panel comes or goes unseen: `python -m tests.help_snapshot` accepts."""
    assert whole_help() == SNAPSHOT.read_text(encoding="utf-8")


TOY = f"""
from typing import Annotated
import typer
from reroute_cli.console.errors import BoundedGroup

TEXT = {HOSTILE!r}
app = typer.Typer(cls=BoundedGroup, help="root " + TEXT)
inner = typer.Typer(help="group " + TEXT)
app.add_typer(inner, name="inner")

@inner.command("leaf", help="leaf " + TEXT + "\\n\\nmore " + TEXT, epilog="end " + TEXT)
def leaf(
    file: Annotated[str, typer.Argument(help="file " + TEXT)],
    option: Annotated[str, typer.Option(help="option " + TEXT)] = "x",
) -> None: ...

@app.command("other", help="other " + TEXT)
def other() -> None: ...

app()
"""
PLACES = {
    (): ("root", "group", "other"),
    ("other",): ("other",),
    ("inner",): ("group", "leaf"),
    ("inner", "leaf"): ("leaf", "more", "file", "option", "end"),
}


def _toy_help(*path: str, **settings: str) -> str:
    """The help of a small program all of whose texts hold what Rich could take for markup."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", TOY, *path, "--help"],
        capture_output=True,
        text=True,
        env={**kept, "PYTHONIOENCODING": "utf-8", **WIDE, **settings},
    )
    assert done.returncode == 0, done.stderr
    return _flat(done.stdout)


@pytest.mark.parametrize("path", PLACES, ids=str)
@pytest.mark.parametrize("setting", ["_TYPER_FORCE_DISABLE_TERMINAL", "FORCE_COLOR"])
def test_no_text_anywhere_in_help_is_markup(path, setting):
    """Tags, stray closing tags, emoji codes and backslashes stay in every place of help, in a file and on a
    terminal.
    """
    shown = _toy_help(*path, **{setting: "1"})
    assert [place for place in PLACES[path] if f"{place} {HOSTILE}" not in shown] == []


def test_help_without_rich_says_the_same():
    """Where Typer is told to do without Rich, help still shows what was written and nothing beside it."""
    shown = _toy_help("inner", "leaf", TYPER_USE_RICH="0")
    assert [place for place in PLACES["inner", "leaf"] if f"{place} {HOSTILE}" not in shown] == []
