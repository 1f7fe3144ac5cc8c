"""Records of version 1 as version 2 has them: names changed, parts moved, no number measured anew.

Whatever is in a record, the result is checked like any other afterwards: what is not as version 1 had it
stays as it is, to be refused there. Knows plain JSON values; neither models nor files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Plain = dict[str, Any]
Names = Mapping[str, Any]
"""Old name -> new name, names of what is inside, or both as a pair; "*": of whatever is inside all others."""

_LAYER = "visual_tokens_per_layer"
_METRIC = {"visual_tokens": _LAYER}
_COUNTS = {
    "visual": "visual_tokens",
    "prompt": "prompt_tokens",
    "new": "new_tokens",
    "average_visual": _LAYER,
}
_FLOPS = {
    **{part: f"{part}_flops" for part in ("vision", "prefill", "scoring", "decode")},
    **{part: f"{part}_flops" for part in ("dense_vision", "dense_prefill")},
}
_MEANS = {
    "average_visual": _LAYER,
    "flops": "total_flops",
    "kv_bytes": "kv_end_bytes",
    "dense_kv_bytes": "dense_kv_end_bytes",
    "prefill_ratio": "prefill_flops_ratio",
    "kv_ratio": "kv_end_ratio",
}
_COST = {**_MEANS, "reasons": _MEANS}
_CUTS = {"cuts": "decision_layers"}
_MADE = {"cut": "ended_by_limit"}
_TASK = {"means": {**_MEANS, "visual": {"average_visual": _LAYER}}}
_ASKED = {"source": "provenance"}
_SHOWN = {"pictures": "images"}
_SCORES = {name: {"*": _SHOWN} for name in ("scores", "to_dense", "to_prune", "to_found")}
_PLANNED = {"prefill_flops": "unscored_prefill_flops", "kv_cache_bytes": "kv_prefill_bytes"}

NAMES: dict[str, Names] = {
    "answer": {
        "tokens": _COUNTS,
        "flops": {**_FLOPS, "reasons": _FLOPS},
        "kv_cache": {"bytes": "kv_end_bytes", "dense_bytes": "dense_kv_end_bytes"},
    },
    "batch": {"means": _COST},
    "comparison": {},
    "cost": {},
    "eval": {
        "workload": {"questions": _ASKED},
        "arms": {
            "choice": _CUTS,
            "made": _MADE,
            "cost": _COST,
            "overall": _SCORES,
            "groups": {"*": _SCORES},
        },
    },
    "lmms_costs": {"schedule": _CUTS, "tasks": {"*": _TASK}, "total": _TASK},
    "plan": {
        "tokens": {"visual": "visual_tokens", "text": "text_tokens"},
        "schedule": {"average_visual": _LAYER, "visual_per_layer": "per_layer_visual_tokens"},
        "dense": _PLANNED,
        "routed": _PLANNED,
        "ratios": {"prefill": "prefill_flops", "kv_cache": "kv_prefill"},
    },
    "report": {
        "workload": {"items": _COUNTS},
        "arms": {
            "metrics": _METRIC,
            "unknown": _METRIC,
            "ratios": _METRIC,
            "items": {
                "schedule": "schedule_digest",
                "visual_per_layer": "per_layer_visual_tokens",
                "kv_prefill": "kv_cache_prefill",
                "kv_end": "kv_cache_end",
            },
        },
    },
    "sweep": {
        "course": "this_run",
        **_ASKED,
        "counts": _SHOWN,
        "pairs": {"scores": {"*": _SHOWN}},
        "fronts": {"beaten": {"score": _SHOWN}},
        "arms": {
            **_CUTS,
            **_SCORES,
            "average_visual": _LAYER,
            "made": _MADE,
            "costs": {
                "visual_tokens": (_LAYER, {"ratio": "ratio_to_dense"}),
                "*": {"ratio": "ratio_to_dense"},
            },
            "unknown": _METRIC,
            "reasons": {"average_visual": _LAYER},
        },
    },
    "trace": {
        "visual": "visual_tokens",
        "prompt": "prompt_tokens",
        "target": {"source": "basis"},
        "arms": {"average_visual": _LAYER, "digest": "schedule_digest"},
    },
    "tune": {
        "budget": {"visual": "visual_tokens", "tokens": _LAYER},
        "found": {"average": _LAYER, "digest": "schedule_digest"},
        "arms": {"made": _MADE, "cost": _COST, **_SCORES},
        "questions": {**_ASKED, "searched": _SHOWN, "reported": _SHOWN},
        "course": {
            "rungs": {"budget": "layer_tokens"},
            "tried": {"stages": "identity", "budget": "layer_tokens", "average": _LAYER},
        },
        "this_run": {"seconds": "wall_s"},
    },
}


def upgraded(value: Any) -> Any:
    """A record of version 1 as version 2 has it; everything else as it is."""
    schema = value.get("schema") if isinstance(value, dict) else None
    kind = schema.removeprefix("reroute.").removesuffix("/1") if isinstance(schema, str) else ""
    if kind not in NAMES or schema != f"reroute.{kind}/1":
        return value
    record: Plain = _renamed(value, NAMES[kind]) | {"schema": f"reroute.{kind}/2"}
    if kind in _MOVES:
        _MOVES[kind](record)
    if kind in _WITHOUT_MODEL:
        return record
    _complete(record.get("model"), _UNSAID, schema)
    record.setdefault("reroute", _at(record, "environment", "packages").get("reroute"))
    return record


_WITHOUT_MODEL = ("comparison", "cost")
_UNSAID = ("revision", "config_digest", "layers", "attention", "device", "weights")


def _renamed(value: Any, names: Names) -> Any:
    """The same value under other names; a name whose new one is taken stays, and is then one too many."""
    if isinstance(value, list):
        return [_renamed(part, names) for part in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for old, part in value.items():
        new = names.get(old, names.get("*", {}))
        name, inner = new if isinstance(new, tuple) else (new, {}) if isinstance(new, str) else (old, new)
        found[old if name in value else name] = _renamed(part, inner) if inner else part
    return found


def _at(value: Any, *path: str) -> Plain:
    """The object at a path; an empty one, which belongs to nobody, where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _complete(part: Any, names: tuple[str, ...], schema: str) -> None:
    """Null with a reason for what version 1 did not say."""
    if isinstance(part, dict) and isinstance(reasons := part.setdefault("reasons", {}), dict):
        for name in names:
            if name not in part:
                part[name], reasons[name] = None, f"{schema} does not say it"


def _move(record: Plain, name: str, *path: str, into: Plain | None = None) -> None:
    """Take `name` out of the part at a path, up into the record or into another part."""
    target, source = record if into is None else into, _at(record, *path)
    if name in source and name not in target:
        target[name] = source.pop(name)


def _with_scoring(flops: Any, unscored: str) -> None:
    """Version 1 left ranking out of prefill_flops; where its cost is unknown, so is the sum."""
    if not isinstance(flops, dict) or not isinstance(reasons := flops.get("reasons"), dict):
        return
    decoder, ranking = flops.get(unscored), flops.get("scoring_flops")
    if type(decoder) is int and type(ranking) is int:
        flops["prefill_flops"] = decoder + ranking
    elif type(decoder) is int and ranking is None and "scoring_flops" in reasons:
        flops["prefill_flops"], reasons["prefill_flops"] = None, reasons["scoring_flops"]


def upgrade_answer(record: Plain) -> None:
    """Version 1 left ranking out of prefill_flops, and had the versions of packages beside `proven`."""
    _with_scoring(record.get("flops"), "prefill_flops")
    if "proven" in (ran_on := _at(record, "environment")):
        packages = {name: ran_on[name] for name in ("torch", "transformers") if name in ran_on}
        others = {name: part for name, part in ran_on.items() if name not in packages}
        record["environment"] = others | {"packages": packages}


def upgrade_plan(record: Plain) -> None:
    """What version 1 called prefill_flops is unscored_prefill_flops; the sum is made here."""
    for part in (record.get("dense"), record.get("routed")):
        _with_scoring(part, "unscored_prefill_flops")


def _costs_of_arms(record: Plain) -> None:
    for arm in record["arms"] if isinstance(record.get("arms"), list) else []:
        _complete(_at(arm, "cost") or None, ("scoring_flops",), "version 1")


def upgrade_eval(record: Plain) -> None:
    """Model, generation and device stood in the workload; nothing was said of scoring_flops."""
    _move(record, "model", "workload")
    _move(record, "generation", "workload")
    _move(record, "device", "workload", into=_at(record, "model"))
    _costs_of_arms(record)


def upgrade_report(record: Plain) -> None:
    """Model and generation stood in the workload, and the device in the protocol."""
    _move(record, "model", "workload")
    _move(record, "generation", "workload")
    _move(record, "device", "protocol", into=_at(record, "model"))


def upgrade_cost(record: Plain) -> None:
    """The report in a measured block is a record of its own."""
    if "report" in record:
        record["report"] = upgraded(record["report"])


def _values(record: Plain, parts: str, name: str) -> None:
    """Metrics that are named by a value."""
    for part in record[parts] if isinstance(record.get(parts), list) else []:
        if isinstance(part, dict) and part.get(name) == "visual_tokens":
            part[name] = _LAYER


_MOVES: dict[str, Callable[[Plain], None]] = {
    "answer": upgrade_answer,
    "batch": lambda record: _complete(record.get("means"), ("scoring_flops",), "reroute.batch/1"),
    "comparison": lambda record: _values(record, "rows", "metric"),
    "cost": upgrade_cost,
    "eval": upgrade_eval,
    "plan": upgrade_plan,
    "report": upgrade_report,
    "sweep": lambda record: _values(record, "fronts", "cost"),
    "tune": _costs_of_arms,
}
