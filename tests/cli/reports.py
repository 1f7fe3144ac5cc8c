"""Valid reports for tests, as plain values that a test may change before it builds them; no torch."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from reroute_cli.records.metrics import METRICS, Kind, Level
from reroute_cli.records.report import Report

Plain = dict[str, Any]
ITEMS = ("desk", "shelf", "table")
ARMS = ("dense", "nuwa-prune", "nuwa-reroute")
ROUNDS = 4
BASE = {
    "visual_tokens_per_layer": 256.0,
    "vision_flops": 1_490_000_000,
    "prefill_flops": 3_460_000_000,
    "scoring_flops": 20_000_000,
    "decode_flops": 119_000_000,
    "kv_prefill": 4_800_000,
    "kv_end": 4_900_000,
    "agreement": 1,
    "ttft": 0.121,
    "tpot": 0.0143,
    "itl": 0.0142,
    "e2e": 0.249,
    "preprocess": 0.004,
    "vision": 0.05,
    "prefill": 0.071,
    "decode": 0.128,
    "output_rate": 64.0,
    "request_rate": 4.0,
    "torch_peak_allocated": 30_000_000,
    "weights": 31_000_000,
    "host_peak_rss": 600_000_000,
}
UNKNOWN = {
    "goodput": "no objectives",
    "torch_peak_reserved": "no GPU",
    "nvml_process_peak": "no NVIDIA driver",
    "nvml_device_peak": "no NVIDIA driver",
    "energy": "no NVIDIA driver",
}


def series(values: Sequence[Sequence[float]], unit: str) -> Plain:
    """A series with its statistics: percentiles by linear interpolation between the sorted values."""
    flat = sorted(value for group in values for value in group)
    several = len(flat) > 1
    found = {
        "unit": unit,
        "source": "measured",
        "values": [list(group) for group in values],
        "n": len(flat),
        "mean": float(statistics.fmean(flat)),
        "std": statistics.stdev(flat) if several else None,
        "min": flat[0],
        "max": flat[-1],
        **{name: float(percentile(flat, share)) for name, share in PERCENTILES.items()},
        "outliers": None,
    }
    reasons = {} if several else {"std": "one value"}
    if unit == "s" or unit.endswith("/s"):
        few = {name: "too few values" for name, fewest in FEWEST.items() if len(flat) < fewest}
        found |= {"outliers": 0, **dict.fromkeys(few)}
        reasons |= few
    return found | {"reasons": reasons}


FEWEST = {"p90": 10, "p95": 20, "p99": 100}
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the ordered values lie."""
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def make(arms: Sequence[str] = ARMS, items: Sequence[str] = ITEMS) -> Plain:
    """A whole report as plain values; every arm does less than dense and is faster."""
    return {
        "schema": "reroute.report/2",
        "reroute": "0.1.0",
        "created": "2026-01-01T00:00:00+00:00",
        "model": {
            "id": "pocket",
            "revision": None,
            "family": "llava",
            "config_digest": "c0ffee",
            "layers": 12,
            "dtype": "float32",
            "attention": "sdpa",
            "device": "cpu",
            "weights": "loaded",
            "reasons": {"revision": "embedded"},
        },
        "workload": {
            "items": [_item(name) for name in items],
            "new_tokens": 16,
            "batch_size": 1,
            "seed": 0,
            "passes": [],
        },
        "generation": {"settings": "model", "greedy": True, "max_new_tokens": 16},
        "protocol": {
            "warmup": 1,
            "rounds": ROUNDS,
            "nvml_period_s": 0.02,
            "warmup_auto": None,
            "slo": {},
        },
        "environment": {
            "python": "3.12.1",
            "platform": "Linux",
            "commit": "a" * 40,
            "packages": {"torch": "2.13.0", "transformers": "5.23.0"},
            "cpu": {"model": "A CPU", "cores": 4, "torch_threads": 2},
            "cuda": None,
            "driver": None,
            "gpus": [],
        },
        "process": _measured(Level.RUN, 1, 1.0),
        "arms": [_arm(name, items, 1.0 if name == "dense" else 0.5) for name in arms],
    }


def _item(name: str) -> Plain:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {
        "id": name,
        "images": [f"{name}.png"],
        "question": f"where is the cup on the {name}?",
        "digest": digest,
        "visual_tokens": 256,
        "prompt_tokens": 271,
    }


def _arm(name: str, items: Sequence[str], share: float) -> Plain:
    dense = name == "dense"
    method, _, action = name.partition("-")
    found = _measured(Level.ARM, len(items), share)
    ratio = {"value": share, "low": share * 0.95, "high": share * 1.05, "confidence": 0.95, "reasons": {}}
    return {
        "name": name,
        "method": None if dense else method,
        "action": action or None,
        "profile": None,
        "ratio": None if dense else 0.5,
        "budget": None,
        "items": [_arm_item(item, name) for item in items],
        "ratios": {} if dense else {metric: deepcopy(ratio) for metric in found["metrics"]},
        "percentile_ratios": {},
        "requests_met": None,
        **found,
    }


def _arm_item(name: str, arm: str) -> Plain:
    cache = {"logical_tokens": 271, "per_layer_tokens": [271], "per_layer_bytes": [4096], "dense_bytes": 4096}
    return {
        "id": name,
        "answer": f"on the {name}",
        "finish": "stop",
        "agrees": True,
        "schedule_digest": f"digest of {arm}",
        "achieved_ratio": 0.5,
        "stages": [],
        "per_layer_visual_tokens": [256],
        "kv_cache_prefill": cache,
        "kv_cache_end": dict(cache),
    }


def _measured(level: Level, items: int, share: float) -> Plain:
    names = [name for name, metric in METRICS.items() if metric.level is level]
    return {
        "metrics": {name: _series(name, items, share) for name in names if name not in UNKNOWN},
        "unknown": {name: UNKNOWN[name] for name in names if name in UNKNOWN},
    }


def _series(name: str, items: int, share: float) -> Plain:
    """Exact metrics with one value an item, a little more for each item; others with one a round."""
    metric = METRICS[name]
    whole = isinstance(BASE[name], int)
    scaled = BASE[name] if name == "agreement" else BASE[name] * share
    rounds = {Kind.EXACT: 1, Kind.TIMED: ROUNDS, Kind.MEMORY: 3}[metric.kind]
    grow = 0.0 if name in ("agreement", "weights") else 0.01
    values = [
        [scaled * (1 + grow * item + 0.04 * turn / max(1, rounds - 1)) for turn in range(rounds)]
        for item in range(items)
    ]
    return series([[round(value) if whole else value for value in group] for group in values], metric.unit)


def arm(report: Plain, name: str) -> Plain:
    """An arm of a plain report."""
    found: Plain = next(part for part in report["arms"] if part["name"] == name)
    return found


def set_values(part: Plain, metric: str, values: Sequence[Sequence[float]]) -> None:
    """Give a metric other values, statistics included."""
    part["metrics"][metric] = series(values, METRICS[metric].unit)


def scale(part: Plain, metric: str, factor: float) -> None:
    """Multiply every value of a metric; whole numbers stay whole."""
    old = part["metrics"][metric]["values"]
    set_values(
        part,
        metric,
        [[round(v * factor) if isinstance(v, int) else v * factor for v in group] for group in old],
    )


def build(plain: Plain) -> Report:
    """The record of a plain report; fails where the builder made no valid one."""
    return Report.model_validate(plain, strict=True)


def save(plain: Plain, path: Path) -> Path:
    """Write a plain report as `profile` would: checked, then JSON."""
    path.write_text(json.dumps(build(plain).as_dict(), allow_nan=False), encoding="utf-8")
    return path
