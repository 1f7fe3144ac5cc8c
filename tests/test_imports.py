"""What starting the command line costs: nothing at import, and no torch where none is needed."""

import subprocess
import sys

import pytest

WATCHED = {"torch", "transformers", "numpy", "PIL", "pynvml", "jinja2", "huggingface_hub"}
REPORT = """
import sys
{code}
print("HEAVY", sorted({watched!r} & set(sys.modules)))
"""


def _heavy_after(code: str) -> str:
    """Heavy packages that are loaded once `code` ran in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(code=code, watched=WATCHED)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def _running(*arguments: str) -> str:
    return f"""
sys.argv = ["reroute", *{arguments!r}]
from reroute_cli.app import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("ask", "--help"),
        ("profile", "--help"),
        ("trace", "--help"),
        ("sweep", "--help"),
        ("report", "--help"),
        ("eval", "--help"),
        ("methods",),
        ("methods", "nuwa"),
        ("profiles", "list"),
    ],
    ids=" ".join,
)
def test_the_command_line_starts_without_torch(arguments: tuple[str, ...]) -> None:
    """Help, version and the lists answer without loading torch, transformers or an image library."""
    assert _heavy_after(_running(*arguments)) == "HEAVY []"


@pytest.mark.parametrize(
    "module", ["routing.schedule", "routing.solve", "routing.methods", "routing.cost", "profiles"]
)
def test_arithmetic_needs_no_torch(module: str) -> None:
    """Schedules, budgets, methods, costs and profiles are importable without torch."""
    assert _heavy_after(f"import {module}") == "HEAVY []"


def test_the_engine_needs_no_command_line() -> None:
    """Using the engine loads neither the command line nor the profiles, nor what they draw with."""
    _heavy_after(
        "import routing; routing.route\n"
        "loaded = {'typer', 'rich', 'reroute_cli', 'profiles'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
