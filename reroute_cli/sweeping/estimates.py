"""What each arm cost where nothing was measured: what its answers' records say, by arithmetic.

Times stay unknown: those of a batch are of its pass, and of the machine as it was then. Knows trials and
metrics.
"""

from __future__ import annotations

from reroute_cli.batching.summary import Tally
from reroute_cli.evaluation.trial import Trial
from reroute_cli.metrics import OF_ARMS
from reroute_cli.profiling.series import ratios, series
from reroute_cli.records.report import Series
from reroute_cli.sweeping.costs import ArmCosts

NOT_MEASURED = "nothing was measured: --cost-items 0"


def estimated(trial: Trial) -> dict[str, ArmCosts]:
    """Every arm's visual tokens, prefill FLOPs and KV bytes at the end of its answers, by the arm's name."""
    dense = _known(trial.costs[0])
    found = {}
    for place, arm in enumerate(trial.arms):
        known = _known(trial.costs[place])
        unknown = {name: NOT_MEASURED for name in OF_ARMS if name not in known}
        found[arm.name] = ArmCosts(known, ratios(known, dense) if place else {}, unknown)
    return found


def _known(tally: Tally) -> dict[str, Series]:
    """One value an arm, the mean over its answers; an arm without answers has none."""
    if not tally.answered:
        return {}
    means = tally.means()
    found = {
        "visual_tokens_per_layer": series(
            "visual_tokens_per_layer", [[means.visual_tokens_per_layer]], "counted"
        ),
        "kv_end": series("kv_end", [[means.kv_end_bytes]], means.kv_source),
    }
    if means.prefill_flops is not None:
        found["prefill_flops"] = series("prefill_flops", [[means.prefill_flops]], means.flops_source)
    return found
