"""What a schedule is: where visual tokens are reduced, how many stay, and what becomes of the others.

Pure arithmetic on integers and fractions, validated at construction. Does not know tensors, models, or how a
method chooses its keep ratios (that is budget.py and methods/).
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, TypeVar

from routing.errors import ScheduleError

_Member = TypeVar("_Member", bound=StrEnum)


class Action(StrEnum):
    """What happens to the visual tokens that a stage does not keep."""

    PRUNE = "prune"  # removed for good
    REROUTE = "reroute"  # they bypass the stage on the residual stream and are candidates at the next


class Rounding(StrEnum):
    """How keep ratios become token counts."""

    FLOOR = "floor"  # max(1, floor(V * keep_ratio)), as the published code does
    BUDGET = "budget"  # floor, then the tokens lost to flooring are handed back out


class Pool(StrEnum):
    """Which tokens a rerouting stage may choose from after a reduction at the vision tower."""

    ALL = "all"  # every original visual token: what the vision stage left out may re-enter
    ANCHORS = "anchors"  # only what the vision stage kept


@dataclass(frozen=True)
class Stage:
    """One decision inside the decoder.

    layer: 0-based; the visual tokens are gathered at the INPUT of this layer.
    keep_ratio: in (0, 1], of the sample's ORIGINAL visual tokens.
    scored_by: the layer whose attention ranks the tokens; None means `layer` itself.
    """

    layer: int
    keep_ratio: float
    scored_by: int | None = None

    def __post_init__(self) -> None:
        _check_layer("layer", self.layer)
        object.__setattr__(self, "keep_ratio", _checked_ratio(self.keep_ratio))
        if self.scored_by is None:
            return
        _check_layer("scored_by", self.scored_by)
        if self.scored_by > self.layer:
            raise ScheduleError(f"a stage at layer {self.layer} cannot be scored by layer {self.scored_by}")

    @property
    def ranking_layer(self) -> int:
        """The layer whose attention ranks the tokens."""
        return self.layer if self.scored_by is None else self.scored_by


@dataclass(frozen=True)
class VisionStage:
    """A reduction before the decoder: only some visual tokens enter it, its anchors.

    keep_ratio: in (0, 1], the fraction of the ORIGINAL visual tokens kept as anchors.
    layer: decoder layer at whose input the rest goes; above 0 for models that inject vision features later.
    scorer: whose attention a tower ranks by: "cls" (of a CLS token) or "column_mean" (of all tokens).
    tau: of Nuwa: radius of the distance weight in grid cells; None means the scorer's own default.
    protect: of Nuwa: quantile in [0, 1] of the anchors' scores from which an anchor stays as is; likewise.
    selection: what chooses, a key of routing.SELECTIONS. settings: its own, by name, where they differ from
    its defaults; kept as pairs in order, a mapping is accepted.
    """

    keep_ratio: float
    layer: int = 0
    scorer: str = "cls"
    tau: float | None = None
    protect: float | None = None
    selection: str = "anchors"
    settings: Mapping[str, float] | tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        _check_layer("layer", self.layer)
        object.__setattr__(self, "keep_ratio", _checked_ratio(self.keep_ratio))
        _check_name("scorer", self.scorer)
        if self.tau is not None and not (_is_number(self.tau) and self.tau > 0):
            raise ScheduleError(f"tau must be a number of grid cells above 0, got {self.tau!r}")
        if self.protect is not None and not (_is_number(self.protect) and 0 <= self.protect <= 1):
            raise ScheduleError(f"protect must be a quantile between 0 and 1, got {self.protect!r}")
        _check_name("selection", self.selection)
        try:
            settings = dict(self.settings)
        except (TypeError, ValueError):
            raise ScheduleError(f"settings must be numbers by name, got {self.settings!r}") from None
        for name, value in settings.items():
            _check_name("a setting", name)
            if not _is_number(value):
                raise ScheduleError(f"the setting {name} must be a number, got {value!r}")
        object.__setattr__(self, "settings", tuple(sorted(settings.items())))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, without what only some selections have; so older digests stay."""
        plain = asdict(self)
        if self.selection == "anchors":
            del plain["selection"]
        settings = dict(plain.pop("settings"))
        return {**plain, "settings": settings} if settings else plain


@dataclass(frozen=True)
class Schedule:
    """Everything the engine needs to know to reduce visual tokens; `Schedule()` is the dense model.

    Raises ScheduleError when the parts contradict each other. Strings are accepted for the enums.
    """

    stages: tuple[Stage, ...] = ()
    action: Action = Action.PRUNE
    scorer: str = "last_query"
    vision: VisionStage | None = None
    pool: Pool = Pool.ALL
    rounding: Rounding = Rounding.FLOOR
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise ScheduleError(f"stages must be Stage objects, got {stage!r}")
        for name, kind in (("action", Action), ("pool", Pool), ("rounding", Rounding)):
            object.__setattr__(self, name, as_member(name, kind, getattr(self, name)))
        _check_name("scorer", self.scorer)
        _check_layer("seed", self.seed)
        if self.vision is not None and not isinstance(self.vision, VisionStage):
            raise ScheduleError(f"vision must be a VisionStage or None, got {self.vision!r}")
        self._check_order()
        self._check_ratios()

    @property
    def entries(self) -> tuple[tuple[int, float], ...]:
        """(layer, keep ratio) of each reduction in order: the vision stage if there is one, then stages."""
        vision = () if self.vision is None else ((self.vision.layer, self.vision.keep_ratio),)
        return vision + tuple((stage.layer, stage.keep_ratio) for stage in self.stages)

    def counts(self, visual: int, layers: int) -> tuple[int, ...]:
        """Visual tokens kept at each entry, for one sample of `visual` tokens in `layers` decoder layers."""
        spans = self._spans(visual, layers)[1:]
        ratios = [ratio for _, ratio in self.entries]
        floored = [min(visual, max(1, math.floor(visual * ratio))) for ratio in ratios]
        if self.rounding is Rounding.BUDGET and visual:
            return tuple(_spend(floored, ratios, spans, visual))
        return tuple(floored)

    def tokens_per_layer(self, visual: int, layers: int) -> tuple[int, ...]:
        """Visual tokens processed in each decoder layer; length `layers`."""
        spans, counts = self._spans(visual, layers), (visual, *self.counts(visual, layers))
        return tuple(count for span, count in zip(spans, counts, strict=True) for _ in range(span))

    def average_tokens(self, visual: int, layers: int) -> float:
        """Mean visual tokens per decoder layer."""
        return sum(self.tokens_per_layer(visual, layers)) / layers

    def achieved_ratio(self, visual: int, layers: int) -> float:
        """The reduction ratio really reached: 1 - average / visual (0.0 for a prompt without pictures)."""
        return 1 - self.average_tokens(visual, layers) / visual if visual else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The schedule as plain JSON values."""
        return {**asdict(self), "vision": None if self.vision is None else self.vision.as_dict()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Schedule:
        """The schedule that `as_dict` gave, from JSON too; raises ScheduleError for anything else."""
        try:
            vision = plain.get("vision")
            return cls(
                **{
                    **plain,
                    "stages": tuple(Stage(**stage) for stage in plain.get("stages", ())),
                    "vision": None if vision is None else VisionStage(**vision),
                }
            )
        except (AttributeError, TypeError) as error:
            raise ScheduleError(f"these values are no schedule: {error}") from error

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON: equal schedules have equal digests, in any process."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def _spans(self, visual: int, layers: int) -> tuple[int, ...]:
        """Layers before the first entry, then layers of each entry."""
        _check_layer("visual", visual)
        if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
            raise ScheduleError(f"a decoder has at least one layer, got {layers!r}")
        starts = [layer for layer, _ in self.entries]
        if starts and starts[-1] >= layers:
            raise ScheduleError(f"layer {starts[-1]} does not exist: the decoder has layers 0..{layers - 1}")
        edges = [0, *starts, layers]
        return tuple(end - start for start, end in pairwise(edges))

    def _check_order(self) -> None:
        starts = [layer for layer, _ in self.entries]
        if any(later <= earlier for earlier, later in pairwise(starts)):
            raise ScheduleError(f"layers must be strictly increasing, got {starts}")
        previous = 0 if self.vision is None else self.vision.layer
        for stage in self.stages:
            if stage.scored_by is not None and stage.scored_by < previous:
                raise ScheduleError(
                    f"the stage at layer {stage.layer} may be scored by layers {previous}..{stage.layer}, "
                    f"got {stage.scored_by}"
                )
            previous = stage.layer

    def _check_ratios(self) -> None:
        ratios = [ratio for _, ratio in self.entries]
        if self.action is Action.PRUNE:
            if any(later > earlier for earlier, later in pairwise(ratios)):
                raise ScheduleError(f"pruned tokens cannot return: keep ratios must not rise, got {ratios}")
        elif self.vision is not None and self.pool is Pool.ANCHORS and max(ratios) > self.vision.keep_ratio:
            raise ScheduleError(f"only anchors are candidates: no ratio may exceed the first, got {ratios}")


def _spend(floored: list[int], ratios: list[float], spans: tuple[int, ...], visual: int) -> list[int]:
    """Hand the layer-tokens lost to flooring back out, one token at a time.

    The target is round(sum of span * ratio * visual). A token given to an entry costs its span; it goes to
    the entry with the largest fractional remainder weighted by its span, among those that the rest can pay
    for, that have tokens left, and whose count would not rise above the entry before where ratios do not.
    """
    counts = list(floored)
    lost = [span * (ratio * visual - count) for span, ratio, count in zip(spans, ratios, counts, strict=True)]
    rest = round(math.fsum(span * ratio * visual for span, ratio in zip(spans, ratios, strict=True)))
    rest -= sum(span * count for span, count in zip(spans, counts, strict=True))

    def can_take(entry: int) -> bool:
        blocked = entry > 0 and ratios[entry] <= ratios[entry - 1] and counts[entry] >= counts[entry - 1]
        return spans[entry] <= rest and counts[entry] < visual and not blocked

    while takers := [entry for entry in range(len(counts)) if can_take(entry)]:
        chosen = max(takers, key=lambda entry: lost[entry])
        counts[chosen] += 1
        lost[chosen] -= spans[chosen]
        rest -= spans[chosen]
    return counts


def as_member(name: str, kind: type[_Member], value: str) -> _Member:
    """`value` as a member of an enum; raises ScheduleError that says what `name` may be."""
    try:
        return kind(value)
    except ValueError:
        raise ScheduleError(f"{name} must be one of {', '.join(kind)}, got {value!r}") from None


def _check_layer(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ScheduleError(f"{name} must be a whole number from 0 up, got {value!r}")


def _check_name(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ScheduleError(f"{name} must be a name, got {value!r}")


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # false for NaN, too


def _checked_ratio(value: object) -> float:
    if not _is_number(value) or not 0 < value <= 1:  # type: ignore[operator]
        raise ScheduleError(f"keep_ratio must be above 0 and at most 1, got {value!r}")
    return float(value)  # type: ignore[arg-type]
