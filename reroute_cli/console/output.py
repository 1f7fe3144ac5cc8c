"""The one sink: results to stdout, talk to stderr.

Text from models, files and users is untrusted: escape sequences and control characters never reach a
terminal, and nothing is ever interpreted as markup. Does not know what it prints.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as Bar

WIDEST = 100  # columns of a card or table; wider terminals get margins, not longer lines

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement
    r"|\x1b[\]PX^_][^\x1b\x07]*(?:\x1b\\|\x07)?"  # OSC, DCS, SOS, PM, APC: titles, links, payloads
    r"|\x1b[ -/]*[0-~]"  # every other escape sequence
)
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")  # the only sequence that we ourselves send to a terminal
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def clean(text: str, *, one_line: bool = False) -> str:
    """Text without escape sequences, control, bidi-override or surrogate characters; tabs and newlines stay.

    one_line: newlines and tabs become single spaces too, for names and sentences.
    """
    kept = _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))
    return " ".join(kept.split()) if one_line else kept


def shortened(value: object, most: int = 120) -> str:
    """What a sentence quotes of something from outside: at most so many characters, and a … for the rest."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"


def to_json(value: Any) -> str:
    """Strict JSON (no NaN) that is safe to show: what `clean` would drop is written as an escape instead."""
    return _shown(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2))


def to_line(value: Any) -> str:
    """The same on one line, for files of JSON lines."""
    return _shown(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _shown(text: str) -> str:
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write(stream: TextIO, text: str) -> None:
    """Write text to a stream; characters that its encoding lacks become '?'."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


def write_result(stream: TextIO, text: str) -> None:
    """Write text from anywhere as whole lines, without what a terminal would obey."""
    write(stream, clean(text).rstrip("\n") + "\n")


def check_writable(path: Path | None) -> str | None:
    """Why nothing can be written to `path` later, found before the long work; None when it can."""
    if path is None:
        return None
    if path.is_dir():
        return f"'{path}' is a folder: name a file"
    if not path.parent.is_dir():
        return f"the folder '{path.parent}' does not exist: create it first"
    return None if os.access(path.parent, os.W_OK) else f"'{path.parent}' can't be written to: choose another"


def write_file(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: a reader never sees half of it.

    A link stays and its target is written; a device or a pipe (/dev/stdout, /dev/null) is written to, never
    replaced.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    target = Path(os.path.realpath(path))
    draft = target.with_name(f".{os.getpid()}.tmp")
    try:
        draft.write_bytes(data)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def open_streams() -> None:
    """Where the caller closed stdout or stderr (`>&-`), what is written goes nowhere, as to /dev/null."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  for good


class StudyProgress(Protocol):
    """Whoever is told how far a study is; the command line's bar is one."""

    def expect(self, steps: int) -> None:
        """So many steps are to be done."""

    def tell(self, doing: str) -> None:
        """What is going on now, in a few words."""

    def done(self) -> None:
        """One more step is done."""


class Progress:
    """How far a long command is. It is drawn when it is told something, and never by a thread of its own:
    nothing of it happens between two calls, so that nothing of it is timed.
    """

    def __init__(self, bar: Bar | None) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None) if bar is not None else None

    def expect(self, steps: int) -> None:
        """So many steps are to be done."""
        self._draw(total=steps)

    def tell(self, doing: str) -> None:
        """What is going on now, in a few words."""
        self._draw(description=doing)

    def done(self) -> None:
        """One more step is done."""
        self._draw(advance=1)

    def _draw(self, **change: Any) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, refresh=True, **change)


SILENT: StudyProgress = Progress(None)


@dataclass(frozen=True)
class Sink:
    """Where a command's words go. quiet: only the result and errors. verbose: everything there is to say."""

    quiet: bool = False
    verbose: bool = False

    def result(self, text: str) -> None:
        """What the command was asked for, on stdout."""
        write_result(sys.stdout, text)

    def json(self, value: Any) -> None:
        """A result as JSON, on stdout."""
        write(sys.stdout, to_json(value) + "\n")

    def table(self, *parts: RenderableType) -> None:
        """A result to look at, on stdout."""
        write(sys.stdout, draw(parts, sys.stdout))

    def talk(self, sentence: str) -> None:
        """A remark, on stderr."""
        if not self.quiet:
            write(sys.stderr, clean(sentence, one_line=True) + "\n")

    def error(self, sentence: str) -> None:
        """What went wrong with a part of a result, on stderr."""
        write(sys.stderr, f"error: {clean(sentence, one_line=True)}\n")

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A bar on stderr while the block runs: on a terminal, unless quiet; elsewhere nothing is drawn."""
        if self.quiet or not _is_terminal(sys.stderr):
            yield Progress(None)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        console = Console(file=sys.stderr)
        with Bar(
            *columns,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as bar:
            yield Progress(bar)

    def card(self, *parts: RenderableType) -> None:
        """Something to look at beside the result, on stderr."""
        if not self.quiet:
            write(sys.stderr, draw(parts, sys.stderr))


def draw(parts: tuple[RenderableType, ...], stream: TextIO) -> str:
    """Rich renderables as text for this stream: colours only where a terminal reads them."""
    from rich.console import Console

    terminal = _is_terminal(stream) and not os.environ.get("NO_COLOR")
    page, width = StringIO(), Console(file=stream).width
    console = Console(
        file=page,
        width=min(width, WIDEST),
        force_terminal=terminal,
        color_system="standard" if terminal else None,
        markup=False,
        highlight=False,
        emoji=False,
    )
    for part in parts:
        console.print(part, soft_wrap=getattr(part, "no_wrap", None) is True)
    drawn = ""
    for line in page.getvalue().rstrip("\n").split("\n"):  # of what a terminal obeys, our colours alone
        pieces = enumerate(_COLOUR.split(line))
        drawn += "".join(part if index % 2 else clean(part) for index, part in pieces).rstrip() + "\n"
    return drawn


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"
