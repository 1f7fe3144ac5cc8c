"""Profiles that say how they were found."""

from pathlib import Path

import pytest
import yaml

import profiles
from routing import Action, Schedule, Stage

SCHEDULE = Schedule((Stage(3, 28 / 256), Stage(5, 29 / 256, 4)), action=Action.REROUTE)
FOUND = {"tool": "reroute 1", "model": "pocket", "value": 0.92, "seed": 3, "asked_ratio": 0.667}


def _written(tmp_path: Path, **more: object) -> Path:
    path = tmp_path / "found.yaml"
    made = {"title": "one", "layers": 12, "visual": 256, "provenance": FOUND} | more
    path.write_text(profiles.dump(SCHEDULE, **made))  # type: ignore[arg-type]
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """The schedule and every line of the provenance come back as they were."""
    found = profiles.load(_written(tmp_path))
    assert found.schedule(12, 256) == SCHEDULE
    assert found.provenance == FOUND


def test_provenance_survives_being_shown(tmp_path: Path) -> None:
    """Written anew from what was read, it is the same file."""
    path = _written(tmp_path)
    found = profiles.load(path)
    again = profiles.dump(
        found.schedule(12, 256), title=found.title, layers=12, visual=256, provenance=found.provenance
    )
    assert again == path.read_text()


def test_a_profile_without_provenance_has_none(tmp_path: Path) -> None:
    """The key is left out, not written empty."""
    path = _written(tmp_path, provenance={})
    assert "provenance" not in yaml.safe_load(path.read_text())
    assert profiles.load(path).provenance == {}


def test_hostile_names_become_readable_lines(tmp_path: Path) -> None:
    """Escape sequences and line breaks in a model's name are no lines of the file and no terminal codes."""
    path = _written(tmp_path, title="a\nb\x1b[31m", provenance={"model": "x\ntitle: y\x00\u202e", "seed": 0})
    found = profiles.load(path)
    assert found.title == "a b [31m"
    assert str(found.provenance["model"]).startswith("x title: y")
    assert found.schedule(12, 256) == SCHEDULE


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("provenance: {nonsense: 1}", "provenance.nonsense: unknown key"),
        ("provenance: {seed: -1}", "provenance.seed: must be a whole number"),
        ("provenance: {value: high}", "provenance.value: must be a finite number"),
        ("provenance: {model: 3}", "provenance.model: must be a line of text"),
        ("provenance: 7", "provenance: must hold keys and values"),
    ],
)
def test_provenance_is_read_strictly(tmp_path: Path, line: str, words: str) -> None:
    """Keys that are not known and values of the wrong kind are errors with file and key."""
    path = tmp_path / "bad.yaml"
    path.write_text(f"stages: [{{layer: 3, keep_ratio: 0.5}}]\n{line}\n")
    with pytest.raises(profiles.ProfileError) as refused:
        profiles.load(path)
    assert words in str(refused.value)
