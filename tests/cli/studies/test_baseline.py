"""The committed baseline of the embedded model, which the gate compares every change with."""

import re
import shlex

import pytest

from reroute_cli.records.reading import read_report
from reroute_cli.records.report import Report
from reroute_cli.studies.compare import check_gates
from reroute_cli.studies.gates import all_gates
from routing.methods import METHODS
from tests import readme

FOLDER = readme.ROOT / "tests" / "baselines"
ARGUMENTS = "$(cat tests/baselines/pocket.args)"


@pytest.fixture(scope="module")
def baseline() -> Report:
    """The committed report."""
    return read_report(FOLDER / "pocket.json")


def test_it_holds_every_method_and_action(baseline):
    """Dense, and each method that routes under prune and reroute: a new method needs a new baseline."""
    arms = [
        f"{one.name}-{action}" for one in METHODS.values() for action in one.actions if one.name != "none"
    ]
    assert sorted(arm.name for arm in baseline.arms) == sorted(["dense", *arms])


def test_it_knows_every_default_gate(baseline):
    """FLOPs, KV bytes, visual tokens, agreement, weights and answers are all gated, none unknown."""
    assert check_gates(baseline, all_gates([])) == all_gates([])
    assert all(item.answer for arm in baseline.arms for item in arm.items)


def test_it_was_made_with_the_arguments_that_the_gate_uses(baseline):
    """The file of arguments is what the report says, and both documents use that file."""
    words = shlex.split((FOLDER / "pocket.args").read_text())
    asked = dict(zip(words[::2], words[1::2], strict=True))
    assert baseline.workload.new_tokens == int(asked["--max-new-tokens"])
    assert len(baseline.workload.items) == int(asked["--limit"])
    assert baseline.workload.seed == int(asked["--seed"])
    assert {arm.ratio for arm in baseline.arms[1:]} == {float(asked["--ratio"])}
    assert ARGUMENTS in (readme.ROOT / "CONTRIBUTING.md").read_text()
    gate = (readme.ROOT / ".ci" / "run").read_text()
    assert "tests/baselines/pocket.args" in gate
    assert "--baseline" in gate


def test_it_is_small_and_names_no_place():
    """Under 600 kB, and without the paths of the machine that made it."""
    text = (FOLDER / "pocket.json").read_text()
    assert len(text) < 600_000
    assert re.findall(r'"(?:/|~|[A-Z]:\\)[^"]*"', text) == []
