"""What reroute measures: every metric once, with its unit, which way is better, and how it may be gated.

A metric is a fixed name in reports, gates, tables and exports. Knows no numbers and no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DENSE_ARM = "dense"  # the name of the arm that all others are compared with


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
    """One thing that is measured. unit: "s", "FLOPs", "bytes", "tokens", "tokens/s", "J" or "share"."""

    label: str
    unit: str
    kind: Kind
    means: str
    better: Better = Better.LOWER
    level: Level = Level.ARM


def _time(label: str, means: str) -> Metric:
    return Metric(label, "s", Kind.TIMED, means)


def _flops(label: str, means: str) -> Metric:
    return Metric(label, "FLOPs", Kind.EXACT, means)


def _memory(label: str, means: str) -> Metric:
    return Metric(label, "bytes", Kind.MEMORY, means)


METRICS: dict[str, Metric] = {
    "visual_tokens": Metric("visual tokens/layer", "tokens", Kind.EXACT, "average per decoder layer"),
    "vision_flops": _flops("vision FLOPs", "vision tower and projector"),
    "prefill_flops": _flops("prefill FLOPs", "decoder and head on the prompt, scoring included"),
    "scoring_flops": _flops(
        "scoring FLOPs", "the part of prefill FLOPs that ranking visual tokens cost, at the tower too"
    ),
    "decode_flops": _flops("decode FLOPs", "every token after the first"),
    "kv_prefill": Metric("KV cache after prefill", "bytes", Kind.EXACT, "bytes held, all layers"),
    "kv_end": Metric("KV cache at the end", "bytes", Kind.EXACT, "bytes held after the last token"),
    "agreement": Metric(
        "answers equal to dense",
        "share",
        Kind.EXACT,
        "1 where the answer is that of the dense arm",
        Better.HIGHER,
    ),
    "ttft": _time("TTFT", "time to the first token: vision and prefill"),
    "tpot": _time("TPOT", "time per further token: (e2e - TTFT) / (new tokens - 1)"),
    "e2e": _time("end to end", "the whole generate() call"),
    "preprocess": _time("preprocess", "from the opened picture and the question to tensors; not part of e2e"),
    "vision": _time("vision", "until the decoder starts: tower, projector, embedding"),
    "prefill": _time("prefill", "from the decoder's start to the first token"),
    "decode": _time("decode", "from the first token to the end"),
    "output_rate": Metric("output rate", "tokens/s", Kind.TIMED, "new tokens / e2e", Better.HIGHER),
    "torch_peak_allocated": _memory("torch peak allocated", "torch's allocator, peak of one answer"),
    "torch_peak_reserved": _memory("torch peak reserved", "torch's allocator, peak of one answer"),
    "nvml_process_peak": _memory("NVML process peak", "this process as the driver sees it"),
    "nvml_device_peak": _memory("NVML device peak", "the whole GPU as the driver sees it"),
    "energy": Metric("energy", "J", Kind.MEMORY, "the GPU's total energy counter over one answer"),
    "weights": Metric(
        "weights", "bytes", Kind.EXACT, "parameters and buffers, shared ones once", level=Level.RUN
    ),
    "host_peak_rss": Metric(
        "host peak RSS", "bytes", Kind.MEMORY, "of the process since it started", level=Level.RUN
    ),
}
