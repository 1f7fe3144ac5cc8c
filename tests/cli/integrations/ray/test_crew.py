"""How many workers a cluster gets, against counts made by hand."""

import pytest

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.integrations.ray.pool import (
    Node,
    WorkerOptions,
    WorkerPool,
    device_of,
    make_pool,
    room_for,
)

ONE, BIG = Node("a", 4, 0), Node("b", 16, 0)
GPUS = [Node("c", 32, 4), Node("d", 8, 2)]


@pytest.mark.parametrize(
    ("nodes", "wishes", "device", "expected"),
    [
        ([ONE], WorkerOptions(), "cpu", WorkerPool(1, 4, 0)),
        ([ONE, ONE], WorkerOptions(), "cpu", WorkerPool(2, 4, 0)),
        (
            [ONE, BIG],
            WorkerOptions(),
            "cpu",
            WorkerPool(2, 8, 0),
        ),  # both on the large node, with eight CPUs each
        ([ONE, BIG], WorkerOptions(workers=5), "cpu", WorkerPool(5, 4, 0)),
        ([ONE, BIG], WorkerOptions(workers=20), "cpu", WorkerPool(20, 1, 0)),
        ([Node("head", 0, 0), ONE], WorkerOptions(), "cpu", WorkerPool(1, 4, 0)),
        (GPUS, WorkerOptions(), "cuda", WorkerPool(6, 4, 1.0)),
        (GPUS, WorkerOptions(gpus_per_worker=0.5), "cuda", WorkerPool(12, 2, 0.5)),
        (GPUS, WorkerOptions(gpus_per_worker=2), "cuda", WorkerPool(3, 8, 2)),
        (GPUS, WorkerOptions(workers=1), "cuda", WorkerPool(1, 32, 1.0)),
        (GPUS, WorkerOptions(), "cpu", WorkerPool(2, 16, 0)),
    ],
)
def test_workers_fill_the_nodes(nodes, wishes, device, expected):
    """A worker a GPU, or a node where there is none; the CPUs of the nodes are shared out evenly."""
    assert make_pool(nodes, wishes, device) == expected


@pytest.mark.parametrize(
    ("nodes", "wishes", "device", "words"),
    [
        (
            [ONE],
            WorkerOptions(workers=5),
            "cpu",
            "5 workers need 1 CPU each, and the cluster's 1 node has room for 4",
        ),
        (
            GPUS,
            WorkerOptions(workers=7),
            "cuda",
            "1 CPU and 1 GPU each, and the cluster's 2 nodes have room for 6",
        ),
        ([Node("head", 0, 0)], WorkerOptions(), "cpu", "1 worker needs 1 CPU each"),
        ([Node("no cpu", 0, 4)], WorkerOptions(), "cuda", "room for 0"),
        ([ONE], WorkerOptions(gpus_per_worker=0.5), "cpu", "Ray knows of no GPU"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused(nodes, wishes, device, words):
    """One sentence that says what is needed and what there is, rather than waiting for ever."""
    with pytest.raises(Failure, match=words):
        make_pool(nodes, wishes, device)


def test_a_share_of_a_gpu_is_of_one_gpu():
    """Three shares of 0.3 fit a GPU; two of 0.6 do not share two halves of two GPUs."""
    assert room_for([Node("a", 9, 1)], 1, 0.3) == 3
    assert room_for([Node("a", 9, 2)], 1, 0.6) == 2
    assert room_for([Node("a", 9, 1)], 1, 1 / 3) == 3
    assert room_for([Node("a", 9, 3)], 1, 2.0) == 1


def test_what_is_left_has_fewer_workers_of_the_same_size():
    """After a node is lost; where none has room, the sentence says that the records are safe."""
    assert WorkerPool(3, 4, 0).left([ONE, BIG]) == WorkerPool(3, 4, 0)
    assert WorkerPool(3, 4, 0).left([ONE]) == WorkerPool(1, 4, 0)
    with pytest.raises(Failure, match="records so far are safe"):
        WorkerPool(1, 8, 0).left([ONE])


def test_auto_is_cuda_where_there_is_a_gpu():
    """On any node; cuda without one is refused."""
    assert device_of("auto", [ONE, *GPUS]) == "cuda"
    assert device_of("auto", [ONE]) == "cpu"
    assert device_of("cpu", GPUS) == "cpu"
    with pytest.raises(Failure, match="no GPU"):
        device_of("cuda", [ONE])


@pytest.mark.parametrize("gpus", [0.0, -1.0, 1.5, float("nan"), float("inf")])
def test_half_a_gpu_more_than_one_is_no_size(gpus):
    """Ray gives a worker a share of one GPU, or whole ones."""
    with pytest.raises(UsageError, match="--gpus-per-worker"):
        WorkerOptions(gpus_per_worker=gpus).check("auto")


@pytest.mark.parametrize("device", ["cuda:1", "tpu"])
def test_a_worker_has_no_numbered_gpu(device):
    """Ray chooses it."""
    with pytest.raises(UsageError, match="none of auto, cpu, cuda, mps"):
        WorkerOptions().check(device)


def test_gpus_for_a_cpu_are_a_contradiction():
    """One of the two options is wrong."""
    with pytest.raises(UsageError, match="drop one of them"):
        WorkerOptions(gpus_per_worker=1).check("cpu")
