"""A sweep killed while it asks and while it measures goes on and reports what an untouched one does."""

import json
import signal
import time

import pytest
from typer.testing import CliRunner

from reroute_cli.app import app
from reroute_cli.models import load as models
from reroute_cli.records.metrics import METRICS, Kind

ASKED = (
    "--limit",
    "8",
    "--arms",
    "fastv:reroute",
    "--ratios",
    "0.889",
    "--batch-size",
    "2",
    "--max-new-tokens",
    "4",
)
COSTS = ("--cost-items", "3", "--cost-tokens", "2", "--warmup", "0", "--repeat", "2")


def _kinds(path):
    """The schema of every whole record in the file."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line)["schema"] for line in lines]


def _killed_after(forks, path, schema, number):
    """Run the sweep on this file until it holds so many more records of the schema; then SIGKILL."""
    process = forks.start("sweep", *ASKED, *COSTS, "--records", str(path), "--quiet")
    while process.poll() is None and _kinds(path).count(schema) < number:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was not killed but ended by itself"


def _report(pocket, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", lambda options: pocket)
        result = CliRunner().invoke(app, ["sweep", *ASKED, *COSTS, "--records", str(path), "--json", "-q"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def _untimed(report):
    """What is the same whenever it was measured."""
    kept = {name: part for name, part in report.items() if name not in ("created", "this_run", "environment")}
    for arm in kept["arms"]:
        arm["costs"] = {name: cost for name, cost in arm["costs"].items() if METRICS[name].kind is Kind.EXACT}
    return kept


def test_killed_while_asking_and_while_measuring_it_ends_as_if_it_had_not_been(forks, pocket, tmp_path):
    """Each answer is asked once and each block measured once; the report is equal but for times."""
    killed, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    _killed_after(forks, killed, "reroute.answer/2", 5)
    assert "reroute.cost/2" not in _kinds(killed)
    _killed_after(forks, killed, "reroute.cost/2", 1)
    measured = _kinds(killed).count("reroute.cost/2")
    assert 1 <= measured < 3
    before = killed.read_bytes()
    resumed, untouched = _report(pocket, killed), _report(pocket, whole)
    assert killed.read_bytes().startswith(before[: before.rindex(b"\n") + 1])
    assert sorted(_kinds(killed)) == sorted(_kinds(whole))
    assert resumed["this_run"]["answered"] == 0
    assert _untimed(resumed) == _untimed(untouched)
