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
    "reroute_cli/models/pocket/weights",
    "reroute_cli/views/write/assets",
    "routing",
}
MEASURED = "samples/results/"
CARD = "reroute_cli/models/pocket/weights/README.md"


@pytest.fixture
def tracked() -> list[str]:
    """The files of the checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what was built can't be told from the project's files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.split("\0")[:-1]


def test_the_wheel_has_no_files_but_code_and_what_it_reads(tracked: list[str]) -> None:
    """Files of the three packages that are no Python lie in folders that a command reads; no documents."""
    wheel = TARGETS["wheel"]
    left_out = {
        path.relative_to(ROOT).as_posix()
        for pattern in wheel["exclude"]
        for path in ROOT.glob(pattern.removeprefix("/"))
    }
    packaged = [name for name in tracked if name.split("/")[0] in wheel["packages"]]
    data = [name for name in packaged if not name.endswith(".py") and name not in left_out]
    assert {str(Path(name).parent) for name in data} == DATA
    assert [name for name in data if name.endswith(".md")] == [CARD]
    assert {Path(name).name for name in packaged if name in left_out} == {"README.md", "reference.md"}


def test_the_measurements_stay_in_the_checkout_and_the_source_distribution(tracked: list[str]) -> None:
    """The documents show figures and numbers of samples/results: the sources have them, the wheel has not."""
    assert "/samples" in TARGETS["sdist"]["include"]
    assert "exclude" not in TARGETS["sdist"]
    assert [name for name in tracked if name.startswith(MEASURED)]
    shipped = TARGETS["wheel"]["force-include"]
    assert not [name for name in shipped if MEASURED.startswith(f"{name}/") or name.startswith(MEASURED)]
