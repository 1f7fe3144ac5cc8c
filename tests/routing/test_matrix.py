"""The matrix of methods and families: its page is up to date, and its cells are what the engine does."""

import re
import subprocess
import sys

import pytest

from routing.families import FAMILIES, family_of, no_vision_stage
from routing.methods import METHODS
from tests.matrix import BEGIN, END, OTHERS, PAGE, table, why_not


def test_the_page_shows_the_table():
    """`python -m tests.matrix` wrote it."""
    shown = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert shown.strip() == table().strip()


@pytest.mark.parametrize("kind", [*FAMILIES, OTHERS])
def test_a_choice_at_the_tower_works_where_the_engine_hooks_it(kind):
    """Nuwa asks the tower: yes where nothing refuses it, else the reason that ends the engine's sentence."""
    why, said = why_not(METHODS["nuwa"], family_of(kind)), no_vision_stage(kind)
    assert (why is None) == (said is None)
    assert said is None or said.endswith(f": {why}")


@pytest.mark.parametrize("name", ["fastv", "pdrop", "random", "divprune"])
def test_what_asks_no_tower_works_with_every_family(name):
    """A row of nothing but yes."""
    (row,) = (line for line in table().splitlines() if line.startswith(f"| `{name}` "))
    assert set(row.split(" | ")[1:]) <= {"yes", "yes |"}


def test_a_smaller_image_helps_where_its_size_matters():
    """LLaVA-1.5 sees every image at one size; Qwen2.5-VL cuts patches of whatever size there is."""
    assert "one size" in why_not(METHODS["downsample"], family_of("llava"))
    assert why_not(METHODS["downsample"], family_of("qwen2_5_vl")) is None


def test_every_reason_is_said_once_and_every_number_explained():
    """The cells number the sentences below the table."""
    rows, _, reasons = table().partition("\n\n")
    numbers = [line.partition(".")[0] for line in reasons.strip().splitlines()]
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    assert set(re.findall(r"no \((\d+)\)", rows)) == set(numbers)


def test_the_table_needs_no_torch():
    """Methods and families are facts."""
    code = (
        "import sys, tests.matrix; tests.matrix.table(); print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
