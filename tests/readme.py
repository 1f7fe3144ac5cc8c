"""The documents against the code: blocks that the code writes, and commands that readers are told to run.

    python -m tests.readme update [NAME...]   rewrites generated blocks in every document, or those named
    python -m tests.readme show WHAT          prints test-command, quick-command, picture, question or answer

A generated block stands between `<!-- generated: NAME -->` and `<!-- /generated -->`, in any Markdown file of
the project; one name may stand in several. `update` leaves a block alone where only times differ: empty it to
have it measured again. `show` needs no package, so that the gate can ask for the test command before anything
is installed.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
FOLDERS = ("profiles", "reroute_cli", "routing", "samples", "tests")
BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(<!-- /generated -->)", re.DOTALL)
FENCE = re.compile(r"^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
TIME = re.compile(r"\d+(?:\.\d+)? (?:ms|s|items/s|new tokens/s)\b")


def documents() -> list[Path]:
    """Every Markdown file of the project: those at the top, then those in its five folders."""
    below = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))
    return [*sorted(ROOT.glob("*.md")), *sorted(below)]


def text(path: Path = README) -> str:
    """A document as it is."""
    return path.read_text(encoding="utf-8")


def blocks(path: Path = README) -> dict[str, str]:
    """Name -> body of each generated block in a document."""
    return {match["name"]: match["body"] for match in BLOCK.finditer(text(path))}


def fences(kind: str, path: Path = README) -> list[str]:
    """Bodies of a document's code blocks of one kind."""
    return [match["body"] for match in FENCE.finditer(text(path)) if match["kind"] == kind]


def commands(path: Path = README, *kinds: str) -> list[list[str]]:
    """The `reroute` commands of a document's code blocks, in words, without comments and redirections."""
    joined = re.sub(r"\\\n\s*", "", "".join(body for kind in kinds for body in fences(kind, path)))
    # `reroute compare: ...` is no command but what one says
    found = re.findall(r"^(?:\$ |.*&& |\s+)?(reroute (?!\w+:)[^>\n]+)", joined, re.MULTILINE)
    return [shlex.split(command, comments=True) for command in found]


def steady(body: str) -> str:
    """A block without what differs from run to run: times, and the widths of columns that hold them."""
    return re.sub(r" +|─+", " ", TIME.sub("(time)", body))


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
    """Image and question of the quick command."""
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


def update(names: Sequence[str] = ()) -> None:
    """Rewrite the generated blocks that the code would write otherwise; what needs an absent extra stays.

    All are made before a document is read again, so that one can be edited while commands run.
    """
    from tests import readme_blocks, readme_extras

    here = {name: make for name, (package, make) in readme_extras.GENERATED.items() if find_spec(package)}
    makers = readme_blocks.GENERATED | here
    if unknown := set(names) - set(makers):
        raise SystemExit(f"no such block: {', '.join(sorted(unknown))}; there are {', '.join(makers)}")
    made = {name: makers[name]() for name in names or makers}

    def written(match: re.Match[str]) -> str:
        new = made.get(match["name"], match["body"])
        return match[1] + (match["body"] if steady(new) == steady(match["body"]) else new) + match[4]

    for path in documents():
        path.write_text(BLOCK.sub(written, text(path)), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["update"]:
        update(sys.argv[2:])
    elif len(sys.argv) == 3 and sys.argv[1] == "show" and sys.argv[2] in SHOWN:
        print(SHOWN[sys.argv[2]]())
    else:
        raise SystemExit(f"usage: python -m tests.readme update [NAME...] | show {'|'.join(SHOWN)}")
