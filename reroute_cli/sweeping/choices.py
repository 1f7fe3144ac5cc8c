"""What a sweep's options may say, and whether a plot can be drawn at all. No torch, no drawing."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from reroute_cli.console.errors import Failure, UsageError

SUFFIXES = (".svg", ".png")


class TableFormat(StrEnum):
    """What a sweep is written as on stdout."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"


class CostName(StrEnum):
    """A cost that scores are held against."""

    VISUAL_TOKENS = "visual-tokens"
    PREFILL_FLOPS = "prefill-flops"
    KV = "kv"
    TTFT = "ttft"
    E2E = "e2e"

    @property
    def metric(self) -> str:
        """Its name among the metrics."""
        other = {CostName.KV: "kv_end", CostName.VISUAL_TOKENS: "visual_tokens_per_layer"}
        return other.get(self, self.value.replace("-", "_"))


MEASURED_ONLY = (CostName.TTFT, CostName.E2E)


def check_plot(path: Path | None) -> None:
    """Refuse, before a model is loaded, a plot of an unknown kind or without the library that draws it."""
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--plot '{path}' ends in neither of {', '.join(SUFFIXES)}: name one of these")
    if find_spec("matplotlib") is None:
        raise Failure("--plot draws with matplotlib, which is not installed: pip install 'reroute[plot]'")


def check_against(against: CostName, cost_items: int) -> None:
    """Refuse a cost that only measuring tells where nothing is measured."""
    if against in MEASURED_ONLY and not cost_items:
        raise UsageError(f"--against {against} needs measured times: raise --cost-items above 0")
