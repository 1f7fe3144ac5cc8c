"""The documents tell the truth: their commands run, their output is real, their tables are the code's."""

import contextlib
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from reroute_cli.app import app
from reroute_cli.console.group import RENAMED
from tests import readme, readme_extras
from tests.readme_blocks import GENERATED, leaves

LONGEST_README = 350
DOCUMENTS = readme.documents()
MARKED = re.compile(r"<!-- generated: ([\w-]+) -->")
LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]+))?\)")
OTHERS = {"--help", "--version", "--font", "--shape", "--start"}  # of every command, the trainer, a benchmark


def _named(path: Path) -> str:
    return path.relative_to(readme.ROOT).as_posix()


def _outside_fences(path: Path) -> str:
    return readme.FENCE.sub("", readme.text(path))


def _headings(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", _outside_fences(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_can_be_read_in_one_sitting() -> None:
    """README.md has at most 350 lines; what needs more is in the document of its part."""
    assert len(readme.text().splitlines()) <= LONGEST_README


def test_every_generated_block_is_closed_and_known() -> None:
    """Each marker in a document opens a block that some code writes, and every block stands somewhere."""
    opened = {_named(path): sorted(MARKED.findall(readme.text(path))) for path in DOCUMENTS}
    assert opened == {_named(path): sorted(readme.blocks(path)) for path in DOCUMENTS}
    assert {name for names in opened.values() for name in names} == {*GENERATED, *readme_extras.GENERATED}


def _shown(name: str) -> list[str]:
    """A generated block as each document that has it shows it, but for times."""
    return [readme.steady(blocks[name]) for blocks in map(readme.blocks, DOCUMENTS) if name in blocks]


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_generated_blocks_are_what_the_code_says(name: str) -> None:
    """Tables and console output are what the code makes now: `python -m tests.readme update`."""
    assert set(_shown(name)) == {readme.steady(GENERATED[name]())}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(readme_extras.GENERATED))
def test_blocks_of_extras_are_what_they_print(name: str) -> None:
    """Console output that needs Ray or lmms-eval is what they print now, where they are installed."""
    package, made = readme_extras.GENERATED[name]
    pytest.importorskip(package)
    assert set(_shown(name)) == {readme.steady(made())}


def test_the_figure_is_what_its_command_draws(tmp_path: Path) -> None:
    """The figure of a trace is what the README's command draws, but for the last bits of colours."""
    (tmp_path / "samples").symlink_to(readme.ROOT / "samples")
    command = next(words for words in readme.commands(readme.README, "sh") if words[1] == "trace")
    with contextlib.chdir(tmp_path):
        done = CliRunner().invoke(app, command[1:])
    assert done.exit_code == 0, done.stderr
    shown, drawn = (
        np.asarray(Image.open(path).convert("RGB"), dtype=int)
        for path in (readme.ROOT / "samples" / "results" / "trace-desk.png", tmp_path / "trace.png")
    )
    assert shown.shape == drawn.shape
    assert (abs(shown - drawn).max(axis=2) > 8).mean() < 0.001


def test_the_plot_is_of_the_committed_sweep(tmp_path: Path) -> None:
    """Every point of the plot says what the committed report says of its arm."""
    from reroute_cli.records.migrate import upgraded
    from reroute_cli.records.sweep import SweepReport
    from reroute_cli.views.write.plot import draw_plot

    reports = readme.ROOT / "samples" / "results"
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


def test_quick_command_asks_about_an_image_that_is_there() -> None:
    """The README's first command names an image of the repository."""
    image, question = readme.question()
    assert (readme.ROOT / image).is_file()
    assert question == "where is the cup?"


def test_answer_is_a_box() -> None:
    """The README's first answer is a box in the image, corners in order."""
    numbers = [float(number) for number in re.findall(r"[\d.]+", readme.answer())]
    assert len(numbers) == 4
    left, top, right, bottom = numbers
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1


def test_schedule_by_hand_is_a_schedule() -> None:
    """The engine's document writes a schedule by hand that is accepted as it stands."""
    names: dict[str, Any] = {}
    exec(readme.fences("python", readme.ROOT / "routing" / "README.md")[0], names)
    assert names["schedule"].counts(256, 12) == (128, 64)


@pytest.mark.timeout(900)
def test_the_recipes_run_one_after_the_other(tmp_path: Path) -> None:
    """Every command of README.md runs as it stands, in order, beside the samples; only a gate may fail."""
    (tmp_path / "samples").symlink_to(readme.ROOT / "samples")
    for _, *words in readme.commands(readme.README, "sh"):
        if words[0] != "report" or find_spec("plotly"):  # of the extra [report]
            with contextlib.chdir(tmp_path):
                done = CliRunner().invoke(app, words)
            assert done.exit_code in ((0, 3) if words[0] == "compare" else (0,)), (words, done.stderr)


def test_every_command_is_in_the_recipes() -> None:
    """README.md shows every command in code, or names it where it tells what is there."""
    shown = [" ".join(words) for words in readme.commands(readme.README, "sh")]
    named = [f"{each} " for each in (*shown, *re.findall(r"`(reroute [^`]+)`", readme.text()))]
    commands = {f"reroute {name} " for name, _ in leaves(get_command(app))} - {"reroute profiles validate "}
    assert {name for name in commands if not any(each.startswith(name) for each in named)} == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=_named)
def test_commands_that_are_shown_are_understood(path: Path) -> None:
    """Every `reroute` command in a document's code has a known name, known options and fitting values."""
    commands = dict(leaves(get_command(app)))
    for words in readme.commands(path, "sh", "console", "yaml"):
        size = 2 if words[1] == "profiles" else 1
        name = " ".join(words[1 : 1 + size])
        commands[name].make_context(name, words[1 + size :])


@pytest.mark.parametrize("path", DOCUMENTS, ids=_named)
def test_options_that_are_named_exist(path: Path) -> None:
    """Every `--option` that a document names in its text is one of some command, or an old spelling."""
    known = set(RENAMED) | {
        name for _, command in leaves(get_command(app)) for each in command.params for name in each.opts
    }
    named = set(re.findall(r"`(--[a-z-]+)\b(?!_)", _outside_fences(path)))
    assert named - known - OTHERS == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=_named)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link of a document names a file or folder that exists, and a heading that it has."""
    for target, heading in LINK.findall(_outside_fences(path)):
        aim = path.parent / target if target else path
        assert aim.exists(), f"{_named(path)}: {target}"
        assert not heading or heading in _headings(aim), f"{_named(path)}: {target}#{heading}"


def test_gate_runs_the_readmes_own_command() -> None:
    """The gate takes its test command from the README instead of repeating it."""
    gate = (readme.ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert readme.test_command() == "pip install '.[test]' && pytest"
    assert 'bash -euo pipefail -c "$(readme test-command)"' in gate
