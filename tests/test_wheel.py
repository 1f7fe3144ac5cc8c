"""What the wheel is built from, as pyproject.toml says it; `.ci/run` looks into the wheel itself."""

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TARGETS = PROJECT["tool"]["hatch"]["build"]["targets"]
DATA = {  # folders with files that a command reads or shows, and the marks of typed packages
    "profiles",
    "profiles/models",
    "profiles/presets",
    "profiles/processors",
    "profiles/published",
    "reroute_cli",
    "reroute_cli/pages/assets",
    "reroute_cli/pocket/weights",
    "routing",
}
MEASURED = "profiles/reports/"


@pytest.fixture
def tracked() -> list[str]:
    """The files of the checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what was built can't be told from the project's files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.split("\0")[:-1]


def test_the_wheel_has_no_files_but_code_and_what_it_reads(tracked: list[str]) -> None:
    """Files of the three packages that are no Python lie in folders that a command reads; measurements of the
    project's own, say, do not.
    """
    wheel = TARGETS["wheel"]
    left_out = tuple(f"{pattern.removeprefix('/')}/" for pattern in wheel.get("exclude", ()))
    packaged = [name for name in tracked if name.split("/")[0] in wheel["packages"]]
    shipped = [name for name in packaged if not name.startswith(left_out)]
    assert {str(Path(name).parent) for name in shipped if not name.endswith(".py")} == DATA
    assert not [name for name in packaged if name.endswith(".py") and name not in shipped]


def test_the_measurements_stay_in_the_checkout_and_the_source_distribution(tracked: list[str]) -> None:
    """README.md shows figures and numbers of profiles/reports, so the sources have them."""
    assert "/profiles" in TARGETS["sdist"]["include"]
    assert "exclude" not in TARGETS["sdist"]
    assert [name for name in tracked if name.startswith(MEASURED)]
