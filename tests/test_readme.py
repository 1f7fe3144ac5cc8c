"""README.md tells the truth: its commands run, its output is real, its tables are the code's."""

import contextlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import routing
from reroute_cli.app import app
from tests import readme, readme_extras
from tests.readme_blocks import GENERATED

MARKED = re.compile(r"<!-- generated: ([\w-]+) -->")
TIME = re.compile(r"\d+(?:\.\d+)? (?:ms|s|items/s|new tokens/s)\b")


def _steady(body: str) -> str:
    """A block without what differs from run to run: times, and the widths of columns that hold them."""
    return re.sub(r" +|─+", " ", TIME.sub("(time)", body))


def test_every_generated_block_is_closed_and_known() -> None:
    """Each marker in the README opens a block that some code writes, and none is missing."""
    opened = MARKED.findall(readme.text())
    assert sorted(opened) == sorted(readme.blocks()) == sorted([*GENERATED, *readme_extras.GENERATED])


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_generated_blocks_are_what_the_code_says(name: str) -> None:
    """Tables and console output are what the code makes now: `python -m tests.readme update`."""
    assert _steady(readme.blocks()[name]) == _steady(GENERATED[name]())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(readme_extras.GENERATED))
def test_blocks_of_extras_are_what_they_print(name: str) -> None:
    """Console output that needs Ray or lmms-eval is what they print now, where they are installed."""
    package, made = readme_extras.GENERATED[name]
    pytest.importorskip(package)
    assert _steady(readme.blocks()[name]) == _steady(made())


def test_the_figure_is_what_its_command_draws(tmp_path: Path) -> None:
    """The README's picture of a trace is what its command draws, but for the last bits of colours."""
    (tmp_path / "samples").symlink_to(readme.ROOT / "samples")
    command = re.search(r"^\$ reroute (trace .*)$", readme.blocks()["trace"], re.MULTILINE)
    assert command is not None
    with contextlib.chdir(tmp_path):
        done = CliRunner().invoke(app, shlex.split(command[1]))
    assert done.exit_code == 0, done.stderr
    shown, drawn = (
        np.asarray(Image.open(path).convert("RGB"), dtype=int)
        for path in (readme.ROOT / "profiles" / "reports" / "trace-desk.png", tmp_path / "trace.png")
    )
    assert shown.shape == drawn.shape
    assert (abs(shown - drawn).max(axis=2) > 8).mean() < 0.001


def test_the_plot_is_of_the_committed_sweep(tmp_path: Path) -> None:
    """Every point of the README's plot says what the committed report says of its arm."""
    from reroute_cli.records.migrate import upgraded
    from reroute_cli.records.sweep import SweepReport
    from reroute_cli.sweeping.plot import draw_plot

    reports = readme.ROOT / "profiles" / "reports"
    report = SweepReport.model_validate(
        upgraded(json.loads((reports / "scenes-sweep.json").read_text("utf-8")))
    )
    draw_plot(report, tmp_path / "plot.svg")
    committed, drawn = (
        re.findall(r"<title>(.*?)</title>", path.read_text("utf-8"))
        for path in (reports / "scenes-sweep.svg", tmp_path / "plot.svg")
    )
    assert committed == drawn
    assert len(committed) == 2 * (len(report.asked) - 1)


def test_quick_command_asks_about_a_picture_that_is_there() -> None:
    """The README's first command names a picture of the repository."""
    picture, question = readme.question()
    assert (readme.ROOT / picture).is_file()
    assert question == "where is the cup?"


def test_answer_is_a_box() -> None:
    """The README's first answer is a box in the picture, corners in order."""
    numbers = [float(number) for number in re.findall(r"[\d.]+", readme.answer())]
    assert len(numbers) == 4
    left, top, right, bottom = numbers
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1


def test_schedule_by_hand_is_a_schedule() -> None:
    """The README's schedule written by hand is accepted as it stands."""
    names: dict[str, Any] = {"routing": routing}
    exec(readme.fences("python")[1], names)
    assert names["schedule"].counts(256, 12) == (128, 64)


def test_links_lead_somewhere() -> None:
    """Every relative link of the project's documents names a file or folder that exists."""
    documents = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
    links = {
        link
        for name in documents
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", (readme.ROOT / name).read_text(encoding="utf-8"))
    }
    assert [link for link in sorted(links) if not (readme.ROOT / link).exists()] == []


def test_gate_runs_the_readmes_own_command() -> None:
    """The gate takes its test command from the README instead of repeating it."""
    gate = (readme.ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert readme.test_command() == "pip install '.[test]' && pytest"
    assert 'bash -euo pipefail -c "$(readme test-command)"' in gate
