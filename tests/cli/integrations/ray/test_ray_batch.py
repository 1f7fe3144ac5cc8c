"""`batch --engine ray` on real clusters: killed workers, a lost node, interrupts, files begun elsewhere."""

import json
import os
import shutil
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("ray.data")

SAMPLES = Path(__file__).resolve().parents[4] / "samples"
ROUTED = ("--method", "pdrop", "--action", "reroute", "--ratio", "0.7", "--max-new-tokens", "8")
pytestmark = pytest.mark.timeout(600)


def written(folder, lines, called="manifest.jsonl"):
    """A manifest of these lines beside the pictures that they name."""
    for name in {line["image"] for line in lines if (SAMPLES / line["image"]).exists()}:
        shutil.copy(SAMPLES / name, folder / name)
    path = folder / called
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def samples(count, different=42):
    """The first sample questions, over and over, as lines of a manifest: all but so many are copies."""
    lines = [json.loads(line) for line in (SAMPLES / "manifest.jsonl").read_text().splitlines()][:different]
    return [lines[number % len(lines)] | {"id": f"item {number}"} for number in range(count)]


@pytest.fixture
def started(forks):
    """Starts a process that runs `reroute batch`."""
    return partial(forks.start, "batch")


def records(path):
    """The records of a file; a torn line fails."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def untimed(path):
    """Id -> record without its times, which tell the pass as well; an id that is there twice fails."""
    found = records(path)
    by_id = {record["id"]: record | {"latency": None} for record in found}
    assert len(by_id) == len(found), "an item has two records"
    return by_id


def wait_for(path, count, process):
    """Return once a file has so many lines; a run that ended before fails."""
    while (path.read_bytes().count(b"\n") if path.exists() else 0) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def processes():
    """Process id -> its parent's, of every process that is no zombie, as the kernel of Linux tells it."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(folder.name)] = int(parent)
    return found


def below(process):
    """Ids of all processes that a process began, and of those that these began."""
    parents = processes()
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {process}


def workers_of(raylet):
    """Ids of the worker processes with a model on the node of this raylet."""
    return [child for child in below(raylet) if b"MapWorker" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.fixture(scope="module")
def cluster():
    """A node of one CPU, as processes of this machine, to which others can be added."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        yield made
        made.shutdown()


def raylet_of(node):
    """The process id of a node's raylet."""
    return node.all_processes["raylet"][0].process.pid


def test_a_killed_worker_and_a_lost_node_lose_nothing(started, run, warm, cluster, tmp_path):
    """SIGKILL to the head node's worker, then the other node removed with its worker: the file is what one
    machine writes, item by item, but for times; the cluster lives on, and the second run asks it nothing.
    """
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    lines = samples(70)
    lines[5]["image"] = "broken.png"
    (tmp_path / "broken.png").write_bytes(b"no picture")
    work = ("--manifest", written(tmp_path, lines), "--batch-size", "2", *ROUTED)
    spread, alone = tmp_path / "spread.jsonl", tmp_path / "alone.jsonl"
    on_ray = (*work, "-o", str(spread), "--engine", "ray", "--ray-address", cluster.address)
    process = started(*on_ray, "--summary", str(tmp_path / "s"))
    wait_for(spread, 4, process)
    (victim,) = workers_of(raylet_of(cluster.head_node))
    os.kill(victim, signal.SIGKILL)
    seen = len(records(spread))
    wait_for(spread, seen + 6, process)
    assert len(workers_of(raylet_of(second))) == 1
    cluster.remove_node(second)
    assert len(records(spread)) < len(lines), "the node was lost in the middle of the run"
    stdout, stderr = process.communicate(timeout=500)
    assert (process.returncode, stdout) == (4, ""), stderr
    assert "a worker was lost: " in stderr
    assert "Traceback" not in stderr
    run("batch", *work, "-o", str(alone))
    assert untimed(spread) == untimed(alone)
    assert len(untimed(spread)) == len(lines)
    summary = json.loads((tmp_path / "s").read_text())
    assert summary["counts"]["answered"] == 69
    assert (summary["this_run"]["answered"], summary["this_run"]["workers"]) == (69, 2)
    assert cluster.head_node.any_processes_alive()


def test_files_begun_on_one_machine_and_on_ray_are_finished_by_the_other(run, warm, cluster, tmp_path):
    """Copies of a picture, an item that fails, and nothing asked twice: all as if one had done everything."""
    lines = samples(30, different=12)
    lines[3] = lines[3] | {"box": [0, 0, 5000, 9]}
    all_of_it, first = written(tmp_path, lines), written(tmp_path, lines[:16], "first.jsonl")
    here, there, whole = tmp_path / "here", tmp_path / "there", tmp_path / "whole"
    rest = ("--batch-size", "4", *ROUTED, "-o")
    on_ray = ("--engine", "ray", "--ray-address", cluster.address)
    run("batch", "--manifest", all_of_it, *rest, str(whole))
    assert [record["id"] for record in records(whole) if record["error"]] == ["item 3"]
    run("batch", "--manifest", first, *rest, str(here))
    begun = here.read_bytes()
    result = run("batch", "--manifest", all_of_it, *rest, str(here), *on_ray)
    assert (result.exit_code, result.stdout) == (4, ""), result.output
    assert "30 items · 29 answered, 15 of them before · 1 error" in result.stderr
    assert untimed(here) == untimed(whole)
    assert here.read_bytes().splitlines()[:3] == begun.splitlines()[:3]
    run("batch", "--manifest", first, *rest, str(there), *on_ray)
    begun = there.read_bytes()
    result = run("batch", "--manifest", all_of_it, *rest, str(there))
    assert "29 answered, 15 of them before" in result.stderr
    assert untimed(there) == untimed(whole)
    assert sum(line in begun.splitlines() for line in there.read_bytes().splitlines()) == 15


def test_records_on_stdout_are_lines_and_nothing_else(started, tmp_path):
    """Ray's words do not get between them, nor onto a quiet stderr."""
    work = ("--manifest", written(tmp_path, samples(3)), *ROUTED, "--quiet")
    process = started(*work, "--engine", "ray", "--workers", "1")
    stdout, stderr = process.communicate(timeout=300)
    assert (process.returncode, stderr) == (0, "")
    assert sorted(json.loads(line)["id"] for line in stdout.splitlines()) == ["item 0", "item 1", "item 2"]


def test_nothing_left_to_do_begins_no_cluster(run, tmp_path, warm, monkeypatch):
    """What is done is known without one; so are the summary and the exit code."""
    import ray

    work = ("batch", "--manifest", written(tmp_path, samples(2)), *ROUTED, "-o", str(tmp_path / "o"))
    run(*work)
    before = (tmp_path / "o").read_bytes()
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("a cluster was begun"))
    result = run(*work, "--engine", "ray", "--summary", str(tmp_path / "s"))
    assert (result.exit_code, (tmp_path / "o").read_bytes()) == (0, before)
    assert "2 answered, 2 of them before" in result.stderr
    assert json.loads((tmp_path / "s").read_text())["this_run"]["workers"] == 0


@pytest.mark.usefixtures("heeded_interrupts")
def test_ctrl_c_keeps_every_finished_record_and_ends_the_cluster(started, tmp_path):
    """Exit code 130, one sentence, whole lines, and no process of Ray left that this run began."""
    path = tmp_path / "o"
    work = ("--manifest", written(tmp_path, samples(400)), *ROUTED, "-o", str(path), "--quiet")
    process = started(*work, "--engine", "ray", "--workers", "1")
    wait_for(path, 2, process)
    began = below(process.pid)
    assert len(began) > 3, "the head of the cluster, its node and a worker"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=200)
    assert (process.returncode, stdout, stderr) == (130, "", "error: interrupted\n")
    assert 2 <= len(untimed(path)) < 400
    deadline = time.monotonic() + 60
    while (alive := began & processes().keys()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not alive
