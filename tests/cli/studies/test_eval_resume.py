"""A run of `reroute eval` that is killed goes on where it was, and its report is that of one that was not."""

import functools
import json
import random
import signal
import time

import pytest

from tests.cli.studies.test_eval import checked

KILLS = 3
WORK = ("--limit", "36", "--arms", "pdrop", "--ratio", "0.8", "--max-new-tokens", "4", "--batch-size", "4")


@pytest.fixture
def started(forks):
    """A function that runs `reroute eval` in a process of its own."""
    return functools.partial(forks.start, "eval", *WORK, "--quiet")


def wait_for_growth(path, process):
    """Return once the run has kept another answer, or has ended."""
    before = path.stat().st_size if path.exists() else 0
    while process.poll() is None and not (path.exists() and path.stat().st_size > before):
        time.sleep(0.002)


def untimed(report):
    """A report without when it was made and what its last run did itself."""
    return {name: part for name, part in report.items() if name not in ("created", "this_run")}


@pytest.mark.timeout(600)
def test_a_killed_run_goes_on_and_reports_the_same(started, tmp_path):
    """SIGKILL at random moments, then to the end: no answer twice, none missing, the same report."""
    records, luck = tmp_path / "r.jsonl", random.Random(4)
    untouched = started("--records", str(tmp_path / "whole.jsonl"), "--json")
    for _ in range(KILLS):
        process = started("--records", str(records), "-o", str(tmp_path / "o.json"))
        wait_for_growth(records, process)
        time.sleep(luck.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "o.json").exists()
    kept = len(records.read_text().splitlines()) - (not records.read_text().endswith("\n"))
    last = started("--records", str(records), "--json")
    resumed, whole = checked(last.communicate()[0]), checked(untouched.communicate()[0])
    assert (last.returncode, untouched.returncode) == (0, 0)
    assert untimed(resumed) == untimed(whole)
    assert resumed["this_run"]["resumed"] == kept > 0
    assert resumed["this_run"]["answered"] == 3 * 36 - kept
    keys = [json.loads(line)["key"] for line in records.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 3 * 36


def test_ctrl_c_keeps_the_answers(started, tmp_path):
    """Exit code 130, one sentence, no report; every line of the records is whole."""
    records = tmp_path / "r.jsonl"
    process = started("--records", str(records), "-o", str(tmp_path / "o.json"))
    wait_for_growth(records, process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (130, "", "error: interrupted\n")
    assert not (tmp_path / "o.json").exists()
    assert 0 < len([json.loads(line) for line in records.read_text().splitlines()]) < 3 * 36
