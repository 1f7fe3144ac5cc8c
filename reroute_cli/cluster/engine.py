"""From options to a run on a cluster: where it is, which device its workers have, which model they will load.

A cluster is reached for only where the keys depend on it, or when there is something to ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reroute_cli.batching.prepare import Request, make_request
from reroute_cli.cluster.crew import Wishes, device_of
from reroute_cli.cluster.identity import without_weights
from reroute_cli.cluster.link import Link
from reroute_cli.cluster.run import ClusterRun, Plan
from reroute_cli.console.command_options import BatchRun, ClusterOptions
from reroute_cli.console.options import ModelOptions
from reroute_cli.console.output import Sink
from reroute_cli.models import choose_device, tell_remarks
from reroute_cli.schedules import ScheduleChoice


@contextmanager
def run_on_cluster(
    model: ModelOptions, choice: ScheduleChoice, run: BatchRun, cluster: ClusterOptions, sink: Sink
) -> Iterator[tuple[ClusterRun, Request]]:
    """A run in the workers of a cluster and what it asks of every item; the cluster is left after the block.

    The request is of a model that has names and no weights. sink: gets its remarks, and a word when a
    worker is lost.
    """
    with Link(cluster.ray_address, verbose=sink.verbose) as link:
        wishes = Wishes(cluster.workers, cluster.gpus_per_worker)
        wishes.check(model.device)
        described = without_weights(model, _device(link, model.device))
        request = make_request(described, [choice], run.max_new_tokens, run.batch_size)
        tell_remarks(described, sink, [choice])
        yield ClusterRun(link, request, Plan(model, wishes), sink.talk), request


def _device(link: Link, asked: str) -> str:
    """Of every worker. Without an address the cluster is this machine, whose GPUs torch knows."""
    if link.address is None:
        return choose_device(asked)
    return device_of(asked, link.nodes()) if asked == "auto" else asked
