"""README.md against the code: the blocks that the code writes, and the commands that readers are told to run.

    python -m tests.readme update         rewrites every generated block
    python -m tests.readme show WHAT      prints test-command, quick-command, picture, question or answer

A generated block stands between `<!-- generated: NAME -->` and `<!-- /generated -->`. `show` needs no
package, so that the gate can ask for the test command before anything is installed.
"""

from __future__ import annotations

import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(<!-- /generated -->)", re.DOTALL)
FENCE = re.compile(r"^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)


def text() -> str:
    """README.md as it is."""
    return README.read_text(encoding="utf-8")


def blocks() -> dict[str, str]:
    """Name -> body of each generated block in the README."""
    return {match["name"]: match["body"] for match in BLOCK.finditer(text())}


def fences(kind: str) -> list[str]:
    """Bodies of the README's code blocks of one kind."""
    return [match["body"] for match in FENCE.finditer(text()) if match["kind"] == kind]


def _command(start: str, end: str) -> str:
    lines = [line.strip() for line in "".join(fences("sh")).splitlines()]
    found = [line for line in lines if line.startswith(start) and line.endswith(end)]
    if not found:
        raise SystemExit(f"README.md has no command '{start} ... {end}' in a sh block")
    return found[0]


def test_command() -> str:
    """The README's own command that installs and tests."""
    return _command("pip install ", "&& pytest")


def quick_command() -> str:
    """The README's own command that installs and asks."""
    return _command("pip install . && reroute ask ", '"')


def question() -> tuple[str, str]:
    """Picture and question of the quick command."""
    words = shlex.split(quick_command().split("&&")[1])
    return words[2], words[3]


def answer() -> str:
    """The answer that the README shows for the quick command."""
    lines = blocks()["ask"].splitlines()
    return lines[next(number for number, line in enumerate(lines) if line.startswith("$ reroute ask")) + 1]


SHOWN = {
    "test-command": test_command,
    "quick-command": quick_command,
    "picture": lambda: question()[0],
    "question": lambda: question()[1],
    "answer": answer,
}


def update() -> None:
    """Rewrite every generated block of README.md from the code; what needs an absent extra stays."""
    from tests import readme_blocks, readme_extras

    here = {name: make for name, (package, make) in readme_extras.GENERATED.items() if find_spec(package)}
    makers = readme_blocks.GENERATED | here

    def written(match: re.Match[str]) -> str:
        name = match["name"]
        return match[1] + (makers[name]() if name in makers else match["body"]) + match[4]

    README.write_text(BLOCK.sub(written, text()), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["update"]:
        update()
    elif len(sys.argv) == 3 and sys.argv[1] == "show" and sys.argv[2] in SHOWN:
        print(SHOWN[sys.argv[2]]())
    else:
        raise SystemExit(f"usage: python -m tests.readme update | show {'|'.join(SHOWN)}")
