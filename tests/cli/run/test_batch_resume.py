"""Nothing lost, nothing twice: a real run killed at random moments ends as if nobody had touched it."""

import functools
import json
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
COLD, WARM = 2, 12  # kills of a process from its very start, and of one while it answers
ITEMS = 98


@pytest.fixture
def work(tmp_path):
    """A manifest of 98 questions, every thirtieth about a picture that is none, as arguments of `batch`."""
    lines = [json.loads(line) for line in (SAMPLES / "manifest.jsonl").read_text().splitlines()]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for name in {line["image"] for line in lines}:
        shutil.copy(SAMPLES / name, tmp_path / name)
    asked = []
    for number in range(ITEMS):
        line = lines[number % len(lines)] | {"id": f"item {number}"}
        asked.append(line | {"image": "broken.png", "box": None} if number % 30 == 7 else line)
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in asked))
    return ("--manifest", str(path), "--batch-size", "4", "--max-new-tokens", "3")


@pytest.fixture
def started(forks):
    """A function that runs `reroute batch` in a process of its own."""
    return functools.partial(forks.start, "batch")


def untimed(path):
    """The records of a file without their times; a torn line fails."""
    return [{**json.loads(line), "latency": None} for line in path.read_text().splitlines()]


def wait_for_growth(path, process):
    """Return once the run has written something, or has ended."""
    before = path.stat().st_size if path.exists() else 0
    while process.poll() is None and not (path.exists() and path.stat().st_size > before):
        time.sleep(0.002)


@pytest.mark.timeout(900)
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(work, started, tmp_path):
    """Fourteen SIGKILLs, most of them while it writes: the merged file equals that of an untouched run."""
    whole, killed, luck = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl", random.Random(11)
    untouched = started(*work, "-o", str(whole), "--quiet")
    command = [sys.executable, "-m", "reroute_cli", "batch", *work, "-o", str(killed), "--quiet"]
    kills, stages = 0, set()
    for number in range(COLD + WARM):
        if number < COLD:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            time.sleep(luck.uniform(0, 4))  # anywhere: while it imports, loads, or answers
        else:
            process = started(*work, "-o", str(killed), "--quiet")
            wait_for_growth(killed, process)
            time.sleep(luck.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        stages.add(killed.stat().st_size if killed.exists() else 0)
    assert kills == COLD + WARM
    assert len(stages) > WARM // 2, "the kills came at different moments of the work"
    assert untouched.communicate()[0] == ""
    assert untouched.returncode == 4
    last = started(*work, "-o", str(killed), "--summary", str(tmp_path / "s"))
    _, talk = last.communicate()
    assert (last.returncode, "98 items · 94 answered, " in talk) == (4, True), talk
    assert untimed(killed) == untimed(whole)
    assert [record["id"] for record in untimed(killed)] == [f"item {number}" for number in range(ITEMS)]
    assert list(tmp_path.glob(".*.tmp")) == []


TWO_ASKS = """
import sys
from pathlib import Path
from reroute_cli.console.options import ModelOptions
from reroute_cli.data.items import batch_items
from reroute_cli.run.batch import BatchRun
from reroute_cli.run.prepare import make_request
from reroute_cli.models.load import load
from reroute_cli.records.store import RecordFile
from reroute_cli.run.schedules import ScheduleChoice

choices = [ScheduleChoice(), ScheduleChoice("pdrop", "reroute", 0.8)]

def answer(manifest, path, loaded):
    items = batch_items(None, None, Path(manifest), 20).chosen
    with RecordFile(Path(path)) as file:
        for outcome in BatchRun(make_request(loaded, choices, 2, 4)).outcomes(items, file.is_done):
            outcome.keep(file)

if __name__ == "__main__":
    answer(sys.argv[1], sys.argv[2], load(ModelOptions(device="cpu")))
"""


def test_several_asks_killed_and_resumed_lose_nothing(work, forks, tmp_path, pocket):
    """Killed while it writes, three times, in the middle of two asks: every item has both records, once."""
    script, path = tmp_path / "two.py", tmp_path / "o.jsonl"
    script.write_text(TWO_ASKS)
    runpy.run_path(str(script))["answer"](work[1], tmp_path / "whole.jsonl", pocket)
    luck, counts = random.Random(3), []
    for _ in range(3):
        process = forks.start(work[1], str(path), script=str(script))
        wait_for_growth(path, process)
        time.sleep(luck.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        counts.append(path.stat().st_size)
    assert sorted(set(counts)) == counts
    last = forks.start(work[1], str(path), script=str(script))
    said = last.communicate()
    assert last.returncode == 0, said
    found, whole = ({one["key"]: one for one in untimed(at)} for at in (path, tmp_path / "whole.jsonl"))
    assert len(untimed(path)) == len(found) == 40
    assert found == whole


def test_ctrl_c_keeps_every_finished_record(work, started, tmp_path):
    """Exit code 130, one sentence, whole lines; the next run goes on behind them."""
    path = tmp_path / "o.jsonl"
    process = started(*work, "--limit", "40", "-o", str(path), "--quiet")
    wait_for_growth(path, process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (130, "", "error: interrupted\n")
    finished = path.read_text()
    found = len(finished.splitlines())
    assert 0 < found < 40
    started(*work, "--limit", "40", "-o", str(path), "--quiet").communicate()
    assert path.read_text().startswith("".join(finished.splitlines(keepends=True)[:7]))
    numbers = [int(json.loads(line)["id"].removeprefix("item ")) for line in path.read_text().splitlines()]
    assert len(numbers) == 40
    assert numbers[:found] == sorted(numbers)[:found]
