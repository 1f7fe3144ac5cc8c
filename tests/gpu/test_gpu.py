"""`python -m tests.gpu`: a step that crashes or hangs is one line, and all of them run on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.outcome import SCHEMA, Measure, Outcome, read_outcome, write

ROOT = Path(__file__).resolve().parents[2]
MISBEHAVING = """
import os, signal, subprocess, sys, time
from unittest import mock
from tests.gpu import __main__ as command
from tests.gpu.outcome import Skipped
from tests.gpu.steps import STEPS, Bounded

def good(job):
    job.note("answer", 42.0, "units", least=42, most=42)
def aborts(job):
    print("the last words", flush=True)
    os.abort()
def killed(job):
    job.note("before", 1.0)
    os.kill(os.getpid(), signal.SIGKILL)
def hangs(job):
    job.note("before", 1.0)
    child = subprocess.Popen(["sleep", "600"])
    (job.folder / "child").write_text(str(child.pid))
    time.sleep(600)
def raises(job):
    raise ValueError("of no use")
def leaves(job):
    sys.exit(3)
def breaks(job):
    job.note("ratio", 0.9, least=0.97)
def nothing(job):
    job.note("number", None, reason="nobody knows", least=1)
def skips(job):
    raise Skipped("needs two of them")

steps = [good, aborts, killed, hangs, raises, leaves, breaks, nothing, skips]
known = {step.__name__: Bounded(step, 4 if step is hangs else 60) for step in steps}
known["last"] = Bounded(good, 60)
with mock.patch.dict(STEPS, known, clear=True):
    sys.exit(command.main(["--device", "cpu", *sys.argv[1:]]))
"""


def _run(folder, *arguments, script=None):
    """The run, its lines by step, and what it has written."""
    what = ["-c", script] if script else ["-m", "tests.gpu", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, *what, "--out", str(folder), *arguments], cwd=ROOT, capture_output=True, text=True
    )
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    found = json.loads((folder / "gpu.json").read_text(encoding="utf-8"))
    return done, lines, {step["name"]: step for step in found["steps"]}, found


@pytest.fixture(scope="module")
def misbehaving(tmp_path_factory):
    """One run of all misbehaving steps, and its folder."""
    folder = tmp_path_factory.mktemp("gpu")
    return *_run(folder, script=MISBEHAVING), folder


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("good", "passed", None),
        ("aborts", "failed", "killed by SIGABRT"),
        ("killed", "failed", "killed by SIGKILL"),
        ("hangs", "out of time", "logs/hangs.txt says where it stood"),
        ("raises", "failed", "ValueError: of no use"),
        ("leaves", "failed", "SystemExit: 3"),
        ("breaks", "failed", "ratio 0.9 (>= 0.97)"),
        ("nothing", "failed", "number unknown (nobody knows)"),
        ("skips", "skipped", "needs two of them"),
        ("last", "passed", None),
    ],
)
def test_whatever_a_step_does_is_one_line_and_the_next_one_runs(misbehaving, name, status, reason):
    """Its own process dies alone; status and reason are printed and written."""
    _, lines, steps, _, _ = misbehaving
    assert steps[name]["status"] == status
    assert status in lines[name]
    assert reason is None or (reason in steps[name]["reason"] and reason in lines[name])


def test_the_exit_code_is_0_only_where_nothing_failed(misbehaving, tmp_path):
    """1 with a failure or a hang among the steps, 0 with those alone that pass or are skipped."""
    assert misbehaving[0].returncode == 1
    assert _run(tmp_path, "--only", "good,skips", script=MISBEHAVING)[0].returncode == 0
    assert _run(tmp_path, "--only", "good,hangs", script=MISBEHAVING)[0].returncode == 1


def test_what_a_step_had_measured_before_it_died_is_kept(misbehaving):
    """Numbers are written when they are there."""
    steps = misbehaving[2]
    for name in ("killed", "hangs"):
        assert [(one["name"], one["value"]) for one in steps[name]["measures"]] == [("before", 1.0)]


def test_a_hang_leaves_no_process_and_a_stack(misbehaving):
    """All of its process group is ended, and the log names the line where it stood."""
    folder = misbehaving[4]
    child = Path("/proc") / (folder / "child").read_text() / "cmdline"
    assert not child.exists() or b"sleep" not in child.read_bytes()
    assert "in hangs" in (folder / "logs" / "hangs.txt").read_text()


def test_a_step_that_the_minutes_do_not_reach_is_out_of_time(tmp_path):
    """It is in the file with that reason, and the exit code says so."""
    done, lines, steps, found = _run(
        tmp_path, "--only", "good,last", "--minutes", "0.001", script=MISBEHAVING
    )
    assert (done.returncode, steps["last"]["status"]) == (1, "out of time")
    assert "--minutes 0.001 are over" in lines["last"]
    assert found["finished"]


def test_a_fresh_interpreter_does_the_same(tmp_path):
    """Where forks cannot use the GPU: a step of the real ones, alone in an interpreter."""
    done, _, steps, _ = _run(tmp_path, "--only", "clock", "--fresh")
    assert (done.returncode, steps["clock"]["status"]) == (0, "passed"), done.stdout + done.stderr


@pytest.mark.timeout(420)
def test_every_step_runs_on_a_cpu(tmp_path):
    """All of the code but what only a card can run: every step passes, with numbers."""
    done, lines, steps, found = _run(tmp_path, "--minutes", "6")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {step["status"] for step in steps.values()} == {"passed"}
    assert all(step["measures"] for step in steps.values())
    assert len(lines) == len(steps)
    assert (found["schema"], found["device"], found["finished"]) == (SCHEMA, "cpu", True)
    assert found["environment"]["packages"]["torch"]
    assert all((tmp_path / name).exists() for step in steps.values() for name in step["files"])


@pytest.mark.parametrize(
    ("value", "least", "most", "holds"),
    [
        (1.0, 1, 1, True),
        (0.99, 1, None, False),
        (1.01, None, 1, False),
        (float("inf"), 1, None, False),
        (float("nan"), 0, None, False),
        (None, 0, None, False),
        (None, None, None, True),
        ("text", None, None, True),
    ],
)
def test_bounds_are_part_of_what_they_allow(value, least, most, holds):
    """What is no number is within no bound."""
    assert Measure("x", value, "s", least, most).holds is holds


def test_an_outcome_is_read_as_it_was_written(tmp_path):
    """Measures included."""
    outcome = Outcome("x", 5.0, measures=[Measure("a", 1.0, "s", 0.5), Measure("b", None, reason="why")])
    outcome.conclude()
    write(tmp_path / "x.json", {**vars(outcome), "measures": [vars(one) for one in outcome.measures]})
    assert read_outcome(tmp_path / "x.json") == outcome
