"""From options to a run on a cluster: where it is, which device its workers have, which model they will load.

A cluster is reached for only where the keys depend on it, or when there is something to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reroute_cli.batching.prepare import Request, make_request
from reroute_cli.cluster.crew import Wishes, device_of
from reroute_cli.cluster.identity import without_weights
from reroute_cli.cluster.link import Link
from reroute_cli.cluster.run import ClusterRun, Plan
from reroute_cli.models.load import LoadOptions, choose_device
from reroute_cli.schedules import ScheduleChoice


def plan_request(
    link: Link,
    loading: LoadOptions,
    wishes: Wishes,
    choices: Sequence[ScheduleChoice],
    max_new_tokens: int,
    batch_size: int,
) -> Request:
    """What is asked of every item, by a model that has names and no weights."""
    wishes.check(loading.device)
    described = without_weights(loading, _device(link, loading.device))
    return make_request(described, choices, max_new_tokens, batch_size)


def cluster_run(
    link: Link, loading: LoadOptions, wishes: Wishes, request: Request, talk: Callable[[str], None]
) -> ClusterRun:
    """The run of a request from `plan_request`. talk: gets a remark when a worker was lost."""
    return ClusterRun(link, request, Plan(loading, wishes), talk)


def _device(link: Link, asked: str) -> str:
    """Of every worker. Without an address the cluster is this machine, whose GPUs torch knows."""
    if link.address is None:
        return choose_device(asked)
    return device_of(asked, link.nodes()) if asked == "auto" else asked
