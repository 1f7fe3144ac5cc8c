"""A trace, `reroute.trace/1`: where every visual token went, stage by stage, over the image.

Knows the record and the geometry of cells; no writer. Paths are made of numbers alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.console.units import UNKNOWN
from reroute_cli.records.trace import DEFERRED, PRUNED, REENTERED, TraceArm, TraceRecord
from reroute_cli.views import wording as w
from reroute_cli.views.document import (
    NOT_KNOWN,
    PAGE,
    TEXT,
    ArmAnswer,
    Block,
    Box,
    Cell,
    Column,
    Document,
    Gallery,
    GalleryItem,
    MapArm,
    MapStage,
    Table,
    Text,
    Tile,
    TokenMap,
    Tone,
)


def document(record: TraceRecord, *, verbose: bool = False) -> Document:  # noqa: ARG001  it says all it has
    """Answers, stages, what recall is of, and the image with the token map."""
    traced = ", ".join(_arm(arm).text for arm in record.arms[1:])
    asked = f"“{w.short(record.question, w.WORDS)}” under {traced}: see the image below"
    blocks: list[Block] = [Text(asked, Tone.HEADLINE, on=(PAGE,))]
    for arm in record.arms[1:]:
        who = _arm(arm)
        if arm.stages and arm.stages[-1].recall is not None:
            label = f"recall of the target, last stage, {who.text}"
            blocks.append(Tile(label, w.share(arm.stages[-1].recall).text, "counted", who.role))
        of_all = f"{arm.never_used} of {record.visual_tokens}"
        blocks.append(Tile(f"never used, {who.text}", of_all, "visual tokens, counted", who.role))
    blocks += _tables(record)
    blocks.append(Text(f"{record.visual_tokens} visual tokens, {record.layers} decoder layers", on=(PAGE,)))
    target = record.target
    if target.tokens is None:
        blocks.append(Text(f"no recall: {target.reasons['tokens']}"))
    else:
        source = "the given box" if target.basis == "given" else "the box of the dense answer"
        centred = f"{len(target.tokens)} visual tokens centred in {source}"
        blocks.append(Text(f"recall: kept share of the {centred}"))
    blocks += w.texts(Tone.WARNING, w.beware(record.model.weights, record.generation))
    return Document("trace", (*blocks, Gallery((_item(record),))))


def _arm(arm: TraceArm) -> Cell:
    return Cell(w.arm_title(arm.name, arm.action, w.NAME), arm.name, role=w.role_of(arm.name, arm.action))


def _tables(record: TraceRecord) -> Iterator[Table]:
    """Every arm with its answer, then every stage of every arm."""
    answers, stages = [], []
    for arm in record.arms:
        average = w.tokens(arm.visual_tokens_per_layer)
        average = Cell(f"{average.text} of {record.visual_tokens}", average.value)
        used = w.counted(arm.never_used) if arm.stages else NOT_KNOWN
        overlap = Cell(UNKNOWN if arm.overlap is None else w.plain_number(arm.overlap), arm.overlap)
        answers.append((_arm(arm), average, used, overlap, w.words(arm.answer)))
        for stage in arm.stages:
            layer = Cell(str(stage.layer) if stage.where == "decoder" else stage.where, stage.layer)
            kept = Cell(f"{stage.kept} of {record.visual_tokens}", stage.kept)
            stages.append((_arm(arm), layer, kept, w.counted(stage.reentered), w.share(stage.recall)))
    numbers = ("tokens/layer", "never used")
    overlap_column = Column("overlap", "overlap", right=True, on=(PAGE,))
    headers = (*w.columns("arm", *numbers, right=numbers), overlap_column, Column("answer", "answer"))
    yield w.table("Every answer", headers, answers)
    counts = ("layer", "kept", "re-entered", "recall")
    yield w.table("Every stage", w.columns("arm", *counts, right=counts), stages, on=(TEXT, PAGE))


def _item(record: TraceRecord) -> GalleryItem:
    """The image with every arm's answer, and what each stage did with its tokens."""
    places, image, visual = _places(record), record.picture, record.visual_tokens
    said, arms = [], []
    for arm in record.arms:
        note = "" if arm.overlap is None else f"overlap {w.plain_number(arm.overlap)}"
        boxes, who = tuple(arm.boxes or ()), _arm(arm)
        said.append(ArmAnswer(who.text, who.role, arm.answer, arm.method or "", None, boxes, note))
        stages = [MapStage("before", f"all {visual} visual tokens")]
        for stage in arm.stages:
            title = w.place(stage.where, stage.layer)
            parts = [f"{stage.kept} of {visual} kept"]
            parts += [f"{stage.reentered} re-entered"] if stage.reentered else []
            parts += [f"{stage.recall:.0%} of the target"] if stage.recall is not None else []
            outlines = (_outline(stage.states, state, places) for state in (DEFERRED, PRUNED, REENTERED))
            stages.append(MapStage(title, " · ".join(parts), stage.reentered, *outlines))
        arms += [MapArm(who.text, who.role, tuple(stages))] if arm.stages else []
    return GalleryItem(
        id=w.short(image.path.replace("\\", "/").rpartition("/")[2], w.NAME),
        image=image.path,
        question=record.question,
        said=tuple(said),
        truth_boxes=tuple(record.target.boxes or ()) if record.target.basis == "given" else (),
        digest=image.digest,
        map=TokenMap(image.width, image.height, tuple(arms)),
    )


def _places(record: TraceRecord) -> dict[int, Box]:
    """By token of the finest view: its cell, cut off at the image's edge."""
    found: dict[int, Box] = {}
    width, height = float(record.picture.width), float(record.picture.height)
    for grid in (grid for grid in record.grids if grid.view == "detail"):
        step = len(grid.columns) + grid.row_ends
        for line, (top, bottom) in enumerate(grid.rows):
            for column, (left, right) in enumerate(grid.columns):
                cell = (max(0.0, left), max(0.0, top), min(width, right), min(height, bottom))
                if cell[0] < cell[2] and cell[1] < cell[3]:
                    found[grid.first + line * step + column] = cell
    return found


def _outline(states: str, wanted: str, places: dict[int, Box]) -> str:
    """One SVG path around every cell of this state; neighbours are one, but re-entered ones."""
    runs: list[list[float]] = []
    for token in (token for token, state in enumerate(states) if state == wanted and token in places):
        left, top, right, bottom = places[token]
        same_row = wanted != REENTERED and runs and runs[-1][1:4:2] == [top, bottom]
        if same_row and abs(runs[-1][2] - left) < 1e-6:
            runs[-1][2] = right
        else:
            runs.append([left, top, right, bottom])
    # numbers as SVG takes them, without needless digits
    written = ([f"{round(at, 2):g}" if abs(at) < 1e5 else f"{at:.0f}" for at in run] for run in runs)
    return "".join(f"M{left} {top}H{right}V{bottom}H{left}Z" for left, top, right, bottom in written)
