"""Out of memory: the batch is cut in two and tried again, and one item that never fits is an error."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from reroute_cli.measure import passes
from reroute_cli.run import batch
from reroute_cli.run.batch import BatchEngine, BatchSize

MANIFEST = str(Path(__file__).resolve().parents[3] / "samples" / "manifest.jsonl")
EIGHT = ("batch", "--manifest", MANIFEST, "--limit", "8", "--batch-size", "8", "--max-new-tokens", "4")

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture
def roomy(monkeypatch):
    """Make the device hold so many samples at once; returns the sizes that were tried."""

    def hold(most, error=torch.OutOfMemoryError):
        tried, generate = [], passes.timed_rows

        def limited(job, new):
            samples = len(job.inputs["input_ids"])
            tried.append(samples)
            if samples > most:
                raise error("CUDA out of memory. Tried to allocate 20.00 GiB")
            return generate(job, new)

        monkeypatch.setattr(passes, "timed_rows", limited)
        return tried

    return hold


def read(result):
    """The records on stdout."""
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_a_batch_that_does_not_fit_is_halved(run, roomy, tmp_path, error):
    """Eight at once fail, four fail, two fit: every answer is there, in order, and says how it was made."""
    expected = [record["answer"] for record in read(run(*EIGHT))]
    tried = roomy(2, error)
    result = run(*EIGHT, "--summary", str(tmp_path / "s"))
    assert result.exit_code == 0, result.output
    assert tried == [8, 4, 2, 2, 4, 2, 2]
    found = read(result)
    assert [record["answer"] for record in found] == expected
    assert {(record["latency"]["batch_size"], record["latency"]["halvings"]) for record in found} == {(2, 2)}
    assert json.loads((tmp_path / "s").read_text())["counts"]["halved"] == 8
    assert "8 answers came from a batch cut in two" in result.stderr


def test_an_item_that_never_fits_is_an_error_record(run, roomy):
    """At batch 1 there is nothing to halve: the item fails with the remedy, and the run goes on."""
    roomy(0)
    result = run(*EIGHT)
    assert result.exit_code == 4
    assert len(read(result)) == 8
    assert all("out of memory" in record["error"] for record in read(result))
    assert "8 errors" in result.stderr


def test_later_batches_begin_at_the_size_that_fitted(run, roomy):
    """What did not fit once is not tried again with the next items at once."""
    tried = roomy(4)
    run(*EIGHT[:3], "--limit", "24", "--batch-size", "8", "--max-new-tokens", "2")
    assert tried == [8, 4, 4, 4, 4, 4, 4]


def test_the_size_grows_again_after_eight_that_fitted():
    """One picture that was too large does not slow down all that follow."""
    size, sizes = BatchSize(8), []
    size.too_large(8)
    for _ in range(16):
        size.fits()
        sizes.append(size.now)
    assert sizes == [4] * 7 + [8] * 9


def test_an_engine_tries_larger_batches_again(pocket, monkeypatch):
    """Where four fit: eight passes of four, then one of eight again, which is halved like the first."""
    tried = []

    def fitting(loaded, prompts, halvings, measured, features):
        tried.append(len(prompts))
        if len(prompts) > 4:
            raise MemoryError
        return prompts

    monkeypatch.setattr(batch, "answer_pass", fitting)
    engine = BatchEngine(pocket, 8)
    for start in range(0, 40, 8):
        same = SimpleNamespace(tokens=9)
        prompts = [SimpleNamespace(kind="any", prompt=same, name=start + number) for number in range(8)]
        assert list(engine.answers(prompts)) == prompts
    assert tried == [8, *[4] * 8, 8, 4, 4]


def test_the_size_never_grows_beyond_what_was_asked_nor_shrinks_below_one():
    """Of five three are left, then five again, not six; a larger half that fails later changes nothing."""
    size = BatchSize(5)
    size.too_large(5)
    assert size.now == 3
    for _ in range(20):
        size.fits()
    assert size.now == 5
    for items, left in ((5, 3), (3, 2), (2, 1), (3, 1), (1, 1)):
        size.too_large(items)
        assert size.now == left


def test_an_item_that_the_model_refuses_fails_alone(run, monkeypatch):
    """Any other failure of a batch is cut down to the one item that is to blame; the rest is answered."""
    generate, prompts = passes.timed_rows, []

    def watch(job, new):
        prompts.append(job.inputs["input_ids"][0].tolist())
        return generate(job, new)

    def refuse(job, new):
        if any(row[-len(prompts[5]) :] == prompts[5] for row in job.inputs["input_ids"].tolist()):
            raise RuntimeError("the model can't read this")
        return generate(job, new)

    monkeypatch.setattr(passes, "timed_rows", watch)
    alone = read(run(*EIGHT, "--batch-size", "1"))
    monkeypatch.setattr(passes, "timed_rows", refuse)
    result = run(*EIGHT)
    found = read(result)
    assert result.exit_code == 4
    assert [record["error"] is not None for record in found] == [index == 5 for index in range(8)]
    assert "the model can't read this" in found[5]["error"]
    answers = [record["answer"] for record in found]
    assert answers == [record["answer"] if index != 5 else "" for index, record in enumerate(alone)]
    assert {record["latency"]["halvings"] for record in found if record["latency"]} == {0}


SHORT_OF_ROOM = """
import resource, sys, threading
from pathlib import Path
import torch
from reroute_cli.console.options import ModelOptions
from reroute_cli.data.items import batch_items
from reroute_cli.run.batch import BatchRun
from reroute_cli.run.prepare import make_request
from reroute_cli.models.load import load, quiet_libraries
from reroute_cli.run.schedules import ScheduleChoice

torch.set_num_threads(1)
threading.stack_size(1 << 19)  # the system counts a thread's whole stack
items = batch_items(None, None, Path(sys.argv[1]), 32).chosen
with quiet_libraries():
    loaded = load(ModelOptions(device="cpu"))

def answered(size):
    request = make_request(loaded, [ScheduleChoice("pdrop", "reroute", 0.8)], 2, size)
    return [outcome.record for outcome in BatchRun(request).outcomes(items, lambda key: False)]

alone = answered(1)
answered(4)  # whatever the libraries set up for batches
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (60 << 20), resource.RLIM_INFINITY))
short = answered(32)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert [record.error for record in short] == [None] * 32, short
assert [record.answer for record in short] == [record.answer for record in alone]
assert all(record.latency.halvings for record in short)
print(max(record.latency.batch_size for record in short))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits a process as Linux does")
def test_a_batch_that_really_does_not_fit_is_halved():
    """In a process that may take 60 MiB more, 32 items do not fit: they are answered as they are alone."""
    allocator = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}  # glibc: no memory in reserve
    command = [sys.executable, "-c", SHORT_OF_ROOM, MANIFEST]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | allocator, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) <= 16
