"""A plan, `reroute.plan/1`: the stages, then routed beside dense. Knows the record; no writer."""

from __future__ import annotations

from collections.abc import Callable

from reroute_cli.console import units
from reroute_cli.records.plan import Plan
from reroute_cli.views import wording as w
from reroute_cli.views.document import BLANK, Block, Cell, Column, Document, Table, Text, Tile, Tone


def document(plan: Plan, *, verbose: bool = False) -> Document:  # noqa: ARG001  it says all it has
    """Headline, stages, costs, and how the numbers were made."""
    model, tokens, schedule = plan.model, plan.tokens, plan.schedule
    kept = f"{units.tokens(schedule.visual_tokens_per_layer)} of {tokens.visual_tokens}"
    image = f" ({tokens.picture})" if tokens.picture else ""
    prompt = f"{model.id}, {model.layers} layers, {model.dtype}"
    prompt += f" · {tokens.visual_tokens} visual{image} + {tokens.text_tokens} text tokens"
    notes = ["2 FLOPs per multiply-add, the full attention rectangle, KV after the prefill"]
    notes += [plan.caveat] if plan.caveat else []
    if reason := plan.dense.reasons.get("vision_flops"):
        notes.append(f"vision is unknown: {reason}")
    if reason := (plan.routed or plan.dense).reasons.get("scoring_flops"):
        notes.append(f"scoring is unknown and left out of prefill: {reason}")
    tile = Tile("visual tokens per layer", kept)
    costs: list[Block] = [_costs(plan), *map(Text, notes)]
    if plan.routed is None:
        headline = Text(f"visual tokens/layer {kept} · dense", Tone.HEADLINE)
        return Document("plan", (headline, tile, Text(prompt), *costs))
    prefill, kv = f"{plan.ratios.prefill_flops:.2f}×", f"{plan.ratios.kv_prefill:.2f}×"
    asked = "" if schedule.ratio is None else f" of {schedule.ratio:.3f} asked"
    named = f"{schedule.profile or schedule.method} {schedule.action}"
    if schedule.resized is not None:
        named = ", ".join([schedule.method or "", *map(w.shrunk, schedule.resized.images)])
    return Document(
        "plan",
        (
            Text(f"visual tokens/layer {kept} · prefill {prefill} FLOPs · KV {kv}", Tone.HEADLINE),
            tile,
            Tile("prefill FLOPs of dense", prefill, "estimated"),
            Tile("KV cache of dense", kv, "estimated"),
            Text(f"{named}, reduction ratio {schedule.achieved_ratio:.3f}{asked} · {prompt}"),
            _stages(plan),
            *costs,
        ),
    )


def _stages(plan: Plan) -> Table:
    """Runs of decoder layers with the visual tokens they process."""
    per_layer = plan.schedule.per_layer_visual_tokens
    at = {stage.layer: stage for stage in plan.schedule.stages}
    starts = sorted({0, *at})
    rows = []
    for start, end in zip(starts, [*(start - 1 for start in starts[1:]), len(per_layer) - 1], strict=True):
        stage = at.get(start)
        layers = Cell(f"{start}" if start == end else f"{start}–{end}", start)
        keep = Cell("1", 1.0) if stage is None else Cell(f"{stage.keep_ratio:.4f}", stage.keep_ratio)
        note = BLANK
        if stage is not None and stage.where in w.PLACES:
            note = Cell(f"at the {w.place(stage.where, start)}")
        elif stage is not None and stage.scored_by not in (None, start):
            note = Cell(f"ranked by layer {stage.scored_by}")
        rows.append((layers, w.counted(per_layer[start]), keep, note))
    numbers = ("visual tokens", "keep ratio")
    headers = (*w.columns("layers", *numbers, right=numbers), Column("where", ""))
    return w.table("Layers and their visual tokens", headers, rows)


def _costs(plan: Plan) -> Table:
    """Routed beside dense and their ratio; dense alone where nothing is routed."""
    dense, routed = plan.dense, plan.routed
    ours = dense if routed is None else routed
    found: dict[str, tuple[float | None, float | None, Callable[[float | None], str]]] = {
        "vision": (ours.vision_flops, dense.vision_flops, units.flops),
        "prefill": (ours.prefill_flops or ours.unscored_prefill_flops, dense.prefill_flops, units.flops),
        "of it scoring": (ours.scoring_flops, None, units.flops),
        "KV cache": (ours.kv_prefill_bytes, dense.kv_prefill_bytes, units.size),
    }
    if routed is None:
        del found["of it scoring"]
    numbers = ("dense",) if routed is None else ("routed", "dense", "ratio")
    headers, rows = w.columns("estimated", *numbers, right=numbers), []
    for what, (mine, whole, show) in found.items():
        cells = {"estimated": Cell(what), "routed": Cell(show(mine), mine)}
        if what != "of it scoring":
            ratio = mine / whole if mine is not None and whole else None
            cells |= {"dense": Cell(show(whole), whole), "ratio": Cell(units.ratio(mine, whole), ratio)}
        rows.append(cells)
    return Table("Costs, estimated", headers, tuple(rows))
