"""A plan as a page: the stages, then routed beside dense.

Knows the plan's plain values (planning/plan.py) and units; writes nowhere.
"""

from __future__ import annotations

from typing import Any

from reroute_cli.console import units
from reroute_cli.render.draw import DIM, STRONG, Page, Part, plain, table


def plan_page(plan: dict[str, Any]) -> Page:
    """Headline, stages, costs, and how the numbers were made."""
    parts: Page = [plain(_headline(plan), STRONG), plain(_prompt(plan), DIM), plain("")]
    if plan["routed"] is not None:
        parts += [_stages(plan), plain(""), _compared(plan)]
    else:
        parts.append(_alone(plan))
    return [*parts, plain(""), *(plain(note, DIM) for note in _notes(plan))]


def _headline(plan: dict[str, Any]) -> str:
    schedule, ratios = plan["schedule"], plan["ratios"]
    share = f"visual tokens/layer {units.tokens(schedule['average_visual'])} of {plan['tokens']['visual']}"
    if plan["routed"] is None:
        return f"{share} · dense"
    return f"{share} · prefill {ratios['prefill']:.2f}× FLOPs · KV {ratios['kv_cache']:.2f}×"


def _prompt(plan: dict[str, Any]) -> str:
    model, tokens, schedule = plan["model"], plan["tokens"], plan["schedule"]
    picture = f" ({tokens['picture']})" if tokens["picture"] else ""
    asked = "" if schedule["ratio"] is None else f" of {schedule['ratio']:.3f} asked"
    name = f"{schedule['profile'] or schedule['method']} {schedule['action']}"
    reached = f"{name}, reduction ratio {schedule['achieved_ratio']:.3f}{asked} · " if plan["routed"] else ""
    return (
        f"{reached}{model['id']}, {model['layers']} layers, {model['dtype']} · "
        f"{tokens['visual']} visual{picture} + {tokens['text']} text tokens"
    )


def _stages(plan: dict[str, Any]) -> Part:
    """Runs of decoder layers with the visual tokens they process."""
    per_layer, ratios = plan["schedule"]["visual_per_layer"], plan["schedule"]["stages"]
    starts = sorted({0, *(stage["layer"] for stage in ratios)})
    ends = [*(start - 1 for start in starts[1:]), len(per_layer) - 1]
    at = {stage["layer"]: stage for stage in ratios}
    rows = []
    for start, end in zip(starts, ends, strict=True):
        stage = at.get(start)
        keep = f"{stage['keep_ratio']:.4f}" if stage else "1"
        note = "at the vision tower" if stage and stage["where"] == "vision" else ""
        rows.append((f"{start}" if start == end else f"{start}–{end}", per_layer[start], keep, note))
    return table(("layers", "visual tokens", "keep ratio", ""), rows, right=(1, 2))


def _compared(plan: dict[str, Any]) -> Part:
    routed, dense = plan["routed"], plan["dense"]
    ran = routed["prefill_flops"] + (routed["scoring_flops"] or 0)
    vision, plain_vision = routed["vision_flops"], dense["vision_flops"]
    kv, dense_kv = routed["kv_cache_bytes"], dense["kv_cache_bytes"]
    rows = [
        ("vision", units.flops(vision), units.flops(plain_vision), units.ratio(vision, plain_vision)),
        (
            "prefill",
            units.flops(ran),
            units.flops(dense["prefill_flops"]),
            units.ratio(ran, dense["prefill_flops"]),
        ),
        ("  of it scoring", units.flops(routed["scoring_flops"]), "", ""),
        ("KV cache", units.size(kv), units.size(dense_kv), units.ratio(kv, dense_kv)),
    ]
    return table(("estimated", "routed", "dense", "ratio"), rows, right=(1, 2, 3))


def _alone(plan: dict[str, Any]) -> Part:
    dense = plan["dense"]
    rows = [
        ("vision", units.flops(dense["vision_flops"])),
        ("prefill", units.flops(dense["prefill_flops"])),
        ("KV cache", units.size(dense["kv_cache_bytes"])),
    ]
    return table(("estimated", "dense"), rows, right=(1,))


def _notes(plan: dict[str, Any]) -> list[str]:
    notes = ["2 FLOPs per multiply-add, the full attention rectangle, KV after the prefill"]
    if plan["caveat"]:
        notes.append(plan["caveat"])
    if reason := plan["dense"]["reasons"].get("vision_flops"):
        notes.append(f"vision is unknown: {reason}")
    if reason := (plan["routed"] or plan["dense"])["reasons"].get("scoring_flops"):
        notes.append(f"scoring is unknown and left out of prefill: {reason}")
    return notes
