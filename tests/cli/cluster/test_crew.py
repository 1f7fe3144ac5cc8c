"""How many workers a cluster gets, against counts made by hand."""

import pytest

from reroute_cli.cluster.crew import Crew, Node, Wishes, device_of, make_crew, room_for
from reroute_cli.console.errors import Failure, UsageError

ONE, BIG = Node("a", 4, 0), Node("b", 16, 0)
GPUS = [Node("c", 32, 4), Node("d", 8, 2)]


@pytest.mark.parametrize(
    ("nodes", "wishes", "device", "expected"),
    [
        ([ONE], Wishes(), "cpu", Crew(1, 4, 0)),
        ([ONE, ONE], Wishes(), "cpu", Crew(2, 4, 0)),
        ([ONE, BIG], Wishes(), "cpu", Crew(2, 8, 0)),  # both on the large node, with eight CPUs each
        ([ONE, BIG], Wishes(workers=5), "cpu", Crew(5, 4, 0)),
        ([ONE, BIG], Wishes(workers=20), "cpu", Crew(20, 1, 0)),
        ([Node("head", 0, 0), ONE], Wishes(), "cpu", Crew(1, 4, 0)),
        (GPUS, Wishes(), "cuda", Crew(6, 4, 1.0)),
        (GPUS, Wishes(gpus_per_worker=0.5), "cuda", Crew(12, 2, 0.5)),
        (GPUS, Wishes(gpus_per_worker=2), "cuda", Crew(3, 8, 2)),
        (GPUS, Wishes(workers=1), "cuda", Crew(1, 32, 1.0)),
        (GPUS, Wishes(), "cpu", Crew(2, 16, 0)),
    ],
)
def test_workers_fill_the_nodes(nodes, wishes, device, expected):
    """A worker a GPU, or a node where there is none; the CPUs of the nodes are shared out evenly."""
    assert make_crew(nodes, wishes, device) == expected


@pytest.mark.parametrize(
    ("nodes", "wishes", "device", "words"),
    [
        (
            [ONE],
            Wishes(workers=5),
            "cpu",
            "5 workers need 1 CPU each, and the cluster's 1 node has room for 4",
        ),
        (GPUS, Wishes(workers=7), "cuda", "1 CPU and 1 GPU each, and the cluster's 2 nodes have room for 6"),
        ([Node("head", 0, 0)], Wishes(), "cpu", "1 worker needs 1 CPU each"),
        ([Node("no cpu", 0, 4)], Wishes(), "cuda", "room for 0"),
        ([ONE], Wishes(gpus_per_worker=0.5), "cpu", "Ray knows of no GPU"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused(nodes, wishes, device, words):
    """One sentence that says what is needed and what there is, rather than waiting for ever."""
    with pytest.raises(Failure, match=words):
        make_crew(nodes, wishes, device)


def test_a_share_of_a_gpu_is_of_one_gpu():
    """Three shares of 0.3 fit a GPU; two of 0.6 do not share two halves of two GPUs."""
    assert room_for([Node("a", 9, 1)], 1, 0.3) == 3
    assert room_for([Node("a", 9, 2)], 1, 0.6) == 2
    assert room_for([Node("a", 9, 1)], 1, 1 / 3) == 3
    assert room_for([Node("a", 9, 3)], 1, 2.0) == 1


def test_what_is_left_has_fewer_workers_of_the_same_size():
    """After a node is lost; where none has room, the sentence says that the records are safe."""
    assert Crew(3, 4, 0).left([ONE, BIG]) == Crew(3, 4, 0)
    assert Crew(3, 4, 0).left([ONE]) == Crew(1, 4, 0)
    with pytest.raises(Failure, match="records so far are safe"):
        Crew(1, 8, 0).left([ONE])


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
        Wishes(gpus_per_worker=gpus).check("auto")


@pytest.mark.parametrize("device", ["cuda:1", "tpu"])
def test_a_worker_has_no_numbered_gpu(device):
    """Ray chooses it."""
    with pytest.raises(UsageError, match="none of auto, cpu, cuda, mps"):
        Wishes().check(device)


def test_gpus_for_a_cpu_are_a_contradiction():
    """One of the two options is wrong."""
    with pytest.raises(UsageError, match="drop one of them"):
        Wishes(gpus_per_worker=1).check("cpu")
