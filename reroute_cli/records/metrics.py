"""What reroute measures: every metric once, with its unit, which way is better, and how it may be gated.

A metric is a fixed name in reports, gates, tables and exports. Knows no numbers and no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

DENSE_ARM = "dense"  # the name of the arm that all others are compared with
GOODPUT = "goodput"  # the metric that means nothing without objectives, and something else with others


class Better(StrEnum):
    """Which way a metric improves."""

    LOWER = "lower"
    HIGHER = "higher"


class Kind(StrEnum):
    """How repeatable a metric is.

    EXACT: the same on every machine, so any difference is a change. TIMED, MEMORY: comparable on the same
    environment only; their routed/dense ratio, measured in one run, travels better.
    """

    EXACT = "exact"
    TIMED = "timed"
    MEMORY = "memory"


class Level(StrEnum):
    """Whom a metric belongs to: one arm of a run, or the process as a whole."""

    ARM = "arm"
    RUN = "run"


@dataclass(frozen=True)
class Metric:
    """One thing that is measured.

    unit: "s", "FLOPs", "bytes", "tokens", "tokens/s", "requests/s", "J" or "share". means: what it is, in a
    few words. short: the label of a column. row: that of a row, below the whole where it is a part ("of it
    ..."). brief: shown without -v. shared: measured once for all arms, so a ratio to the dense one says
    nothing. per: what has a list of values: each item, each pass (of one item, or of as many as go together),
    or all of a round. later: reports of older releases lack it, and are read as not knowing it.
    """

    label: str
    unit: str
    kind: Kind
    means: str
    better: Better = Better.LOWER
    level: Level = Level.ARM
    short: str = ""
    row: str = ""
    brief: bool = True
    shared: bool = False
    per: Literal["item", "pass", "round"] = "item"
    later: bool = False

    def __post_init__(self) -> None:
        for name in ("short", "row"):
            object.__setattr__(self, name, getattr(self, name) or self.label)

    @property
    def is_part(self) -> bool:
        """Whether its whole stands above it."""
        return self.row.startswith("of it ")


_EXACT, _TIMED, _MEMORY = Kind.EXACT, Kind.TIMED, Kind.MEMORY
METRICS: dict[str, Metric] = {
    "visual_tokens_per_layer": Metric(
        "visual tokens/layer",
        "tokens",
        _EXACT,
        "of the prompt, mean over decoder layers",
        short="tokens/layer",
    ),
    "vision_flops": Metric("vision FLOPs", "FLOPs", _EXACT, "vision tower and projector"),
    "prefill_flops": Metric(
        "prefill FLOPs", "FLOPs", _EXACT, "decoder and head on the prompt, scoring included"
    ),
    "scoring_flops": Metric(
        "scoring FLOPs",
        "FLOPs",
        _EXACT,
        "the part of prefill FLOPs that ranking visual tokens cost, before the decoder too",
        row="of it scoring",
    ),
    "decode_flops": Metric("decode FLOPs", "FLOPs", _EXACT, "every token after the first"),
    "kv_prefill": Metric(
        "KV cache after prefill",
        "bytes",
        _EXACT,
        "bytes held, all layers",
        short="KV prefill",
        row="KV after prefill",
    ),
    "kv_end": Metric(
        "KV cache at the end",
        "bytes",
        _EXACT,
        "bytes held after the last token",
        short="KV end",
        row="KV at the end",
    ),
    "ttft": Metric("TTFT", "s", _TIMED, "time to the first token: vision and prefill", per="pass"),
    "vision": Metric(
        "vision",
        "s",
        _TIMED,
        "until the decoder starts: tower, projector, embedding",
        row="of it vision",
        per="pass",
    ),
    "prefill": Metric(
        "prefill", "s", _TIMED, "from the decoder's start to the first token", row="of it prefill", per="pass"
    ),
    "itl": Metric(
        "ITL",
        "s",
        _TIMED,
        "inter-token latency: the gap before every token but the first, those of all answers pooled",
        brief=False,
        per="pass",
        later=True,
    ),
    "tpot": Metric(
        "TPOT", "s", _TIMED, "time per further token: (e2e - TTFT) / (new tokens - 1)", per="pass"
    ),
    "e2e": Metric("end to end", "s", _TIMED, "the whole generate() call", per="pass"),
    "agreement": Metric(
        "answers equal to dense",
        "share",
        _EXACT,
        "1 where the answer is that of the dense arm",
        Better.HIGHER,
        short="equal",
        row="answers equal",
        brief=False,
    ),
    "preprocess": Metric(
        "preprocess",
        "s",
        _TIMED,
        "from the opened image and the question to tensors; not part of e2e",
        brief=False,
        shared=True,
    ),
    "decode": Metric("decode", "s", _TIMED, "from the first token to the end", brief=False, per="pass"),
    "output_rate": Metric(
        "output rate",
        "tokens/s",
        _TIMED,
        "new tokens of all requests of a pass / e2e",
        Better.HIGHER,
        brief=False,
        per="pass",
    ),
    "request_rate": Metric(
        "request rate",
        "requests/s",
        _TIMED,
        "requests of a pass / e2e",
        Better.HIGHER,
        brief=False,
        per="pass",
        later=True,
    ),
    GOODPUT: Metric(
        "goodput",
        "requests/s",
        _TIMED,
        "requests that meet every objective of --slo, per second of a round's passes",
        Better.HIGHER,
        brief=False,
        per="round",
        later=True,
    ),
    "torch_peak_allocated": Metric(
        "torch peak allocated", "bytes", _MEMORY, "torch's allocator, peak of one answer"
    ),
    "torch_peak_reserved": Metric(
        "torch peak reserved", "bytes", _MEMORY, "torch's allocator, peak of one answer"
    ),
    "nvml_process_peak": Metric("NVML process peak", "bytes", _MEMORY, "this process as the driver sees it"),
    "nvml_device_peak": Metric("NVML device peak", "bytes", _MEMORY, "the whole GPU as the driver sees it"),
    "energy": Metric("energy", "J", _MEMORY, "the GPU's total energy counter over one answer"),
    "weights": Metric(
        "weights", "bytes", _EXACT, "parameters and buffers, shared ones once", level=Level.RUN
    ),
    "host_peak_rss": Metric(
        "host peak RSS", "bytes", _MEMORY, "of the process since it started", level=Level.RUN
    ),
}
OF_ARMS = {name: metric for name, metric in METRICS.items() if metric.level is Level.ARM}
MAIN_TIMES = tuple(
    name for name, metric in OF_ARMS.items() if metric.kind is _TIMED and metric.brief and not metric.is_part
)
"""The times that are shown first: TTFT, TPOT, end to end."""
LATENCIES = ("ttft", "itl", "tpot", "e2e")
"""The times whose p90, p95 and p99 have a ratio to dense as well, where there are enough values for them."""
