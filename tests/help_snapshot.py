"""The help of every command at 100 columns, in one file, so that a change of it is seen in a diff.

python -m tests.help_snapshot          writes tests/fixtures/help.txt anew
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

SNAPSHOT = Path(__file__).resolve().parent / "fixtures" / "help.txt"
PLAIN = {"COLUMNS": "100", "NO_COLOR": "1", "_TYPER_FORCE_DISABLE_TERMINAL": "1"}


def whole_help() -> str:
    """What `--help` prints, for the root, every group and every command."""
    from reroute_cli.app import app

    parts = []
    for path in _paths(get_command(app)):
        done = CliRunner().invoke(app, [*path, "--help"], env=PLAIN, prog_name="reroute")
        assert done.exit_code == 0, done.output
        lines = [line.rstrip() for line in done.stdout.splitlines()]
        parts.append("\n".join([f"$ {' '.join(('reroute', *path, '--help'))}", *lines]).rstrip() + "\n")
    return "\n".join(parts)


def _paths(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from _paths(inner, *path, name)


if __name__ == "__main__":
    SNAPSHOT.write_text(whole_help(), encoding="utf-8")
