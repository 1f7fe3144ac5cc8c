"""A release of transformers is admitted only where its proof passes, and then everywhere."""

import re
import sys
import tomllib

import pytest

from routing.host import PROVEN
from tests.raise_bound import HOST, PROJECT, README, ROOT, raise_bound, with_bound, with_needed, with_proven

PASSES, FAILS = [sys.executable, "-c", "pass"], [sys.executable, "-c", "raise SystemExit(1)"]


@pytest.fixture
def copies(tmp_path):
    """A folder with the files that are written."""
    for path in (HOST, PROJECT, README):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text((ROOT / path).read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def _texts(root):
    return [(root / path).read_text(encoding="utf-8") for path in (HOST, PROJECT, README)]


def test_a_proven_release_is_admitted(copies):
    """It joins the list of proven ones, and the bound is the minor behind it."""
    assert raise_bound("5.99.0", copies, [PASSES, PASSES]) is None
    host, project, readme = _texts(copies)
    namespace = {}
    exec(re.search(r"PROVEN.*?\n}\n", host, re.DOTALL)[0], namespace)  # our own file
    assert namespace["PROVEN"] == {**PROVEN, "transformers": (*PROVEN["transformers"], "5.99.0")}
    needs = tomllib.loads(project)["project"]["dependencies"]
    assert [need for need in needs if need.startswith("transformers")] == ["transformers>=5.17,<5.100"]
    assert "transformers 5.17 to 5.99." in readme


def test_a_release_that_fails_changes_nothing(copies):
    """The command that failed is named, and no file is touched."""
    before = _texts(copies)
    assert raise_bound("5.99.0", copies, [PASSES, FAILS]) == " ".join(FAILS)
    assert _texts(copies) == before


def test_admitting_twice_or_a_patch_release_lowers_no_bound():
    """A patch of an older minor joins the list in order; the bound stays."""
    host, project, readme = _texts(ROOT)
    newest = PROVEN["transformers"][-1]
    assert with_proven(host, newest) == host
    assert with_bound(project, newest) == project
    assert '"5.17.0", "5.17.1", ' in with_proven(host, "5.17.1")
    assert with_bound(project, "5.17.1") == project
    assert with_needed(readme, "5.17.1") == with_needed(readme, newest) == readme


def test_the_bound_is_the_minor_behind_the_newest_proven_release():
    """pyproject.toml admits what was proven, and nothing newer."""
    needs = tomllib.loads((ROOT / PROJECT).read_text(encoding="utf-8"))["project"]["dependencies"]
    major, minor, _ = map(int, PROVEN["transformers"][-1].split("."))
    oldest = ".".join(PROVEN["transformers"][0].split(".")[:2])
    assert f"transformers>={oldest},<{major}.{minor + 1}" in needs
