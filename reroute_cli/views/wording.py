"""Words and cells that documents of several records share: names of arms, scores, ratios, warnings.

Knows metrics, units and parts of records; not which of them are shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from reroute_cli.console import units
from reroute_cli.console.output import clean
from reroute_cli.console.units import UNKNOWN
from reroute_cli.records.metrics import METRICS, Kind
from reroute_cli.views.document import (
    BLANK,
    DENSE,
    NOT_KNOWN,
    OTHER,
    PRUNE,
    REROUTE,
    Cell,
    Column,
    Table,
    Text,
    Tone,
)

if TYPE_CHECKING:
    from reroute_cli.records.answer import ResizedImage
    from reroute_cli.records.base import GenerationPart, ModelPart, Place
    from reroute_cli.records.evaluation import DifferencePart, ScorePart
    from reroute_cli.records.report import Measured, Number, Ratio, Series

LONGEST_NAME = 28
NAME = 48  # characters of a name in a cell
SENTENCE = 200  # characters of a sentence from outside
WORDS = 600  # characters of an answer
ESTIMATED = "≈"  # before a number that was not measured
MINUS = "−"
INTERVAL = "with its 95% interval"
PAIRED = "paired difference with its 95% interval"
SAVES_NOTHING = "the smaller images have as many visual tokens: detail is lost and nothing is saved"
_NAMED = 6  # settings that a sentence names
_SETTING = 40  # characters of a setting's value


def short(text: object, most: int) -> str:
    """Untrusted text on one line, at most so many characters."""
    line = clean(str(text), one_line=True)
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def count(number: int, thing: str) -> str:
    """'1 question', '2 questions'."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def arm_title(name: str, action: str | None, most: int = LONGEST_NAME) -> str:
    """'pdrop-reroute 0.889' -> 'pdrop reroute 0.889'; other names, as those of profiles, stay as they are.

    What is too long loses the end of its place, not the action or the amount.
    """
    arm, space, amount = name.partition(" ")
    if action is None or not arm.endswith(f"-{action}"):
        return short(name, most)
    behind = f" {action}{space}{amount}"
    return short(arm.removesuffix(f"-{action}"), max(1, most - len(behind))) + behind


def role_of(name: str | None, action: str | None) -> str:
    """Which of the four colours an arm has: that of its action, whatever its method."""
    if name == DENSE:
        return DENSE
    return action if action in (PRUNE, REROUTE) else OTHER


class Amount(Protocol):
    """A part of a record that says how much was asked for."""

    @property
    def ratio(self) -> float | None:
        """The reduction ratio."""

    @property
    def budget(self) -> float | None:
        """Visual tokens per decoder layer."""


def amount_of(asked: Amount) -> str:
    """' at 0.889', ' at 64 tokens/layer', or nothing under a profile."""
    if asked.ratio is not None:
        return f" at {asked.ratio:g}"
    return "" if asked.budget is None else f" at {asked.budget:g} tokens/layer"


PLACES = {"vision": "vision tower", "entrance": "decoder entrance"}
"""Where a reduction before the decoder takes place; inside of it, its layer says so."""


def place(where: Place, layer: int) -> str:
    """'vision tower', 'decoder entrance', 'layer 3'."""
    return PLACES.get(where, f"layer {layer}")


def plain_number(value: float) -> str:
    """Two decimals, one of what is large: '0.71', '−0.03', '1512.4'; never a negative nothing."""
    text = f"{abs(value):.2f}" if abs(value) < 10 else f"{abs(value):.1f}"
    return MINUS + text if value < 0 and float(text) else text


def signed_number(value: float) -> str:
    """'+0.20', '−0.24', '0.00'."""
    text = plain_number(value)
    return text if value <= 0 or not float(text) else f"+{text}"


def brackets(part: ScorePart | DifferencePart) -> str:
    """'[0.67, 0.75]', or nothing where there is no interval."""
    if part.low is None or part.high is None:
        return ""
    return f"[{plain_number(part.low)}, {plain_number(part.high)}]"


def scored(part: ScorePart | None) -> Cell:
    """A score with its interval."""
    return NOT_KNOWN if part is None else Cell(plain_number(part.value), part.value, brackets(part))


def changed(part: DifferencePart | None, nothing: Cell = NOT_KNOWN) -> Cell:
    """A difference with its interval, coloured where it is real. nothing: the cell where there is none."""
    if part is None:
        return nothing
    tone = "unclear" if not part.is_real else "good" if part.value > 0 else "bad"
    return Cell(signed_number(part.value), part.value, brackets(part), tone=tone)


def p_value(part: DifferencePart | None, nothing: Cell = NOT_KNOWN) -> Cell:
    """The p of McNemar's exact test: '0.031', '<0.001'. nothing: the cell of a difference without one."""
    value = None if part is None else part.mcnemar_p
    return nothing if value is None else Cell("<0.001" if value < 0.001 else f"{value:.3f}", value)


def quotient(ratio: Ratio | None) -> Cell:
    """A ratio to dense with its interval, where it has one; coloured where that is all on one side of 1."""
    if ratio is None:
        return NOT_KNOWN
    low, high, tone, interval = ratio.low, ratio.high, "", ""
    if low is not None and high is not None:
        tone = "good" if high < 1 else "bad" if low > 1 else ""
        interval = "" if low == high else f"[{low:.2f}, {high:.2f}]"
    return Cell(f"{ratio.value:.2f}×", ratio.value, interval, tone=tone)


def times(ratio: float | None) -> Cell:
    """A ratio without an interval."""
    return NOT_KNOWN if ratio is None else Cell(f"{ratio:.2f}×", ratio)


def number(metric: str, value: Number | None) -> Cell:
    """A value of this metric in a scaled unit."""
    unit = METRICS[metric].unit
    if value is None:
        return NOT_KNOWN
    if unit == "FLOPs":
        return Cell(units.flops(round(value)), value)
    if unit == "bytes":
        return Cell(units.size(round(value)), value)
    if unit == "s":
        return Cell(units.seconds(value), value)
    if unit == "tokens":
        return tokens(value)
    if unit == "requests/s":
        return Cell(f"{value:.3g} {unit}", value)
    return Cell(f"{value:.1f} {unit}" if unit != "share" else f"{value:.0%}", value)


def middle(metric: str, series: Series) -> float:
    """A metric's one typical value: the median of what was timed, the mean over items of all else."""
    return series.p50 if METRICS[metric].kind is Kind.TIMED else series.mean


def typical(part: Measured, metric: str) -> str:
    """The typical value of a metric, in words."""
    found = part.metrics.get(metric)
    return UNKNOWN if found is None else number(metric, middle(metric, found)).text


def name(text: object, role: str = "", most: int = NAME) -> Cell:
    """A name, with the colour of its arm."""
    return Cell(short(text, most), str(text), role=role)


def words(text: object, most: int = WORDS) -> Cell:
    """Words from outside."""
    return Cell(short(text, most), str(text))


def counted(value: float | None) -> Cell:
    """A count as it is."""
    return NOT_KNOWN if value is None else Cell(f"{value:,.10g}", value)


def tokens(value: float | None) -> Cell:
    """Tokens, one decimal where there is a part."""
    return Cell(units.tokens(value), value)


def seconds(value: float | None, note: str = "") -> Cell:
    """A time."""
    return Cell(units.seconds(value), value, note)


def share(value: float | None) -> Cell:
    """'52%'."""
    return NOT_KNOWN if value is None else Cell(f"{value:.0%}", value)


def raw(*values: str | float | None) -> tuple[Cell, ...]:
    """Cells of base units, for data alone."""
    return tuple(BLANK if value is None else Cell(str(value), value) for value in values)


def columns(*titles: str, right: Sequence[str] = (), **more: Any) -> tuple[Column, ...]:
    """Columns whose keys are their titles. right: those of numbers."""
    return tuple(Column(title, title, title in right, **more) for title in titles)


def row(columns: Sequence[Column], cells: Iterable[Cell]) -> dict[str, Cell]:
    """Cells in the order of their columns."""
    return {column.key: cell for column, cell in zip(columns, cells, strict=True)}


def table(caption: str, columns: Sequence[Column], rows: Iterable[Iterable[Cell]], **more: Any) -> Table:
    """A table of rows of cells in the order of its columns."""
    return Table(caption, tuple(columns), tuple(row(columns, cells) for cells in rows), **more)


def texts(tone: Tone, found: Iterable[str], **more: Any) -> list[Text]:
    """Sentences of one tone."""
    return [Text(text, tone, **more) for text in found]


def who(model: ModelPart, *more: str) -> str:
    """'pocket · llava · cpu float32 sdpa', and what else there is to say of a run."""
    how = f"{model.device} {model.dtype} {model.attention}"
    return " · ".join((short(model.id, 60), short(model.family, 30), how, *more))


def machine(model: ModelPart, environment: dict[str, Any]) -> str:
    """The GPU that ran, or the processor with torch's threads."""
    kind, _, index = (model.device or "").partition(":")
    gpus = environment.get("gpus") or []
    if kind == "cuda" and int(index or 0) < len(gpus):
        return short(gpus[int(index or 0)].get("name"), 60)
    cpu = environment.get("cpu") or {}
    return short(f"{cpu.get('model')}, {count(int(cpu.get('torch_threads') or 0), 'thread')}", 60)


def shrunk(image: ResizedImage) -> str:
    """'640 × 480 made 377 × 283, 130 of 391 visual tokens'."""
    (wide, high), (width, height) = image.original_size, image.size
    kept = f"{image.visual_tokens} of {image.original_visual_tokens} visual tokens"
    return f"{wide} × {high} made {width} × {height}, {kept}"


def unsaving(titles: Sequence[str]) -> Iterator[str]:
    """One sentence on the arms whose smaller images saved nothing."""
    if titles:
        yield f"{', '.join(titles)}: {SAVES_NOTHING}"


def beware(
    weights: str | None, generation: GenerationPart | None, answers: str = "answers mean"
) -> Iterator[str]:
    """What would mislead of any answers: random weights, settings of the checkpoint that change them."""
    if weights == "random":
        yield f"random weights: the costs are real, the {answers} nothing"
    if generation is not None and generation.active:
        told = _settings(generation)
        yield f"answers are not plain greedy ones, the checkpoint sets {told}: see --generation"


def different(sides: Iterable[tuple[str, GenerationPart | None]]) -> Iterator[str]:
    """One sentence where the named sides were answered under settings that change answers differently.

    A side that does not say is of an older release, and no difference to a neutral one.
    """
    known = list(sides)
    kinds = {
        json.dumps({} if part is None else part.active, sort_keys=True, default=str) for _, part in known
    }
    if len(kinds) > 1:
        told = "; ".join(
            f"{side}: {'not said' if part is None else _settings(part) if part.active else 'neutral'}"
            for side, part in known
        )
        yield f"the generation settings differ, which alone may change answers ({told})"


def _settings(part: GenerationPart) -> str:
    """'no_repeat_ngram_size 3, repetition_penalty 1.05'."""
    names, told = sorted(part.active), []
    for key in names[:_NAMED]:
        value = part.active[key]
        if isinstance(value, dict) and set(value) == {"sha256", "entries"}:
            value = f"of {short(value['entries'], _SETTING)} entries"
        else:
            value = short(json.dumps(value, default=str), _SETTING)
        told.append(f"{short(key, _SETTING)} {value}")
    return ", ".join(told) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
