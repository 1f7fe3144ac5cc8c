"""What the README's generated blocks must say, each made by running or reading the project's own code."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence

from tests import readme

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "NO_COLOR": "1",
    "COLUMNS": "100",
    "OMP_NUM_THREADS": "1",
    "_TYPER_FORCE_DISABLE_TERMINAL": "1",
}


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines
    )


def _session(*commands: Sequence[str]) -> str:
    """A console block: each command and everything it prints, standard output first."""
    shown = "".join(f"$ {_spelled(command)}\n{_printed(command)}" for command in commands)
    return f"```console\n{shown}```\n"


def _spelled(command: Sequence[str]) -> str:
    return " ".join(f'"{word}"' if " " in word else word for word in command)


def _printed(command: Sequence[str]) -> str:
    program = [sys.executable, "-m", "reroute_cli", *command[1:]]
    done = subprocess.run(program, cwd=readme.ROOT, env=os.environ | QUIET, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{_spelled(command)} exited {done.returncode}: {done.stderr}")
    return done.stdout + done.stderr


def ask() -> str:
    """The README's first command, dense."""
    return _session(("reroute", "ask", *readme.question()))


def routed() -> str:
    """The same question at an average of a third of the visual tokens, pruned and rerouted."""
    options = ("--method", "fastv", "--ratio", "0.667", "--action")
    return _session(
        *(("reroute", "ask", *readme.question(), *options, action) for action in ("prune", "reroute"))
    )


def methods() -> str:
    """The registry of methods."""
    import routing

    rows = (
        (
            f"`{method.name}`",
            f"[{method.title}]({method.paper})" if method.paper else method.title,
            method.year or "",
            method.summary,
            method.scored,
            "; ".join(f"{action} {_layers(cuts)}" for action, cuts in method.published.items()),
        )
        for method in routing.METHODS.values()
    )
    return _table(
        ("method", "source", "year", "what it does", "scored by", "layers of 32 where it decides"), rows
    )


def _layers(cuts: Sequence[int]) -> str:
    return ", ".join(str(cut) for cut in cuts) or "none"


def models() -> str:
    """The families that can be routed, aliases of one family together."""
    import routing

    types: dict[str, list[str]] = {}
    for model_type, family in routing.FAMILIES.items():
        types.setdefault(family.title, []).append(f"`{model_type}`")
    return _table(("family", "`model_type`"), ((title, ", ".join(names)) for title, names in types.items()))


def refused() -> str:
    """The families that cannot be routed, by reason."""
    import routing

    types: dict[str, list[str]] = {}
    for model_type, reason in routing.REFUSED.items():
        types.setdefault(reason, []).append(f"`{model_type}`")
    return _table(
        ("`model_type`", "why not"), ((", ".join(names), reason) for reason, names in types.items())
    )


def python() -> str:
    """The README's Python example and what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.chdir(readme.ROOT):
        exec(compile(readme.fences("python")[0], "README.md", "exec"), {})
    return f"```text\n{printed.getvalue()}```\n"


GENERATED: dict[str, Callable[[], str]] = {
    "ask": ask,
    "routed": routed,
    "methods": methods,
    "models": models,
    "refused": refused,
    "python": python,
}
