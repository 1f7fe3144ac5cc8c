"""What a reduction method is, as data, what it is asked, and the reading of options.

One file beside this one says all that is particular about one method: its schedules, its ranking, what a
search may vary, what tables say. Knows no method by name; the registry is `routing.methods.METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from routing.errors import ScheduleError
from routing.schedule import Action, Rounding, Schedule

if TYPE_CHECKING:
    from torch import Tensor

    from routing.methods.selection import Selection

PUBLISHED_DEPTH = 32  # the published cut layers are layers of LLaVA-1.5-7B


@dataclass(frozen=True)
class Request:
    """One question to a solver.

    ratio: reduction ratio in [0, 1). layers: decoder layers. first_layer, last_layer: the first and
    the last layer that may decide; None: the last there is.
    visual: visual tokens of the sample, if known; without it at least one token in a thousand is kept.
    options: the method's own options, by name.
    """

    method: str
    action: Action
    ratio: float
    layers: int
    first_layer: int = 0
    last_layer: int | None = None
    visual: int | None = None
    rounding: Rounding = Rounding.FLOOR
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Average fraction of the visual tokens per layer."""
        return 1.0 - self.ratio

    def choice(self, option: str, allowed: tuple[str, ...]) -> str:
        """A named option, `allowed[0]` when it is not given."""
        value = self.options.get(option, allowed[0])
        if value not in allowed:
            raise ScheduleError(f"{self.method}: {option} must be one of {', '.join(allowed)}, got {value!r}")
        return str(value)

    def cuts(self, above: int | None = None) -> tuple[int, ...] | None:
        """The explicit cut layers, or None; `above` is a layer that they must exceed."""
        given = self.options.get("cuts")
        if given is None:
            return None
        least = self.first_layer if above is None else above + 1
        cuts = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
        if any(isinstance(cut, bool) or not isinstance(cut, int) for cut in cuts):
            raise ScheduleError(f"{self.method}: cuts must be layer numbers, got {given!r}")
        if not cuts or any(later <= earlier for earlier, later in pairwise(cuts)):
            raise ScheduleError(f"{self.method}: cut layers must be strictly increasing, got {list(cuts)}")
        most = self.layers - 1 if self.last_layer is None else self.last_layer
        if cuts[0] < least or cuts[-1] > most:
            raise ScheduleError(f"{self.method}: cut layers must lie in {least}..{most}, got {list(cuts)}")
        return cuts


@dataclass(frozen=True)
class Sight:
    """What a ranking sees at one decision: S rows of each of B samples, padding among them.

    asking: (B, R) rows of the tokens whose attention ranks. weights: (B, R) float32, how much each counts;
    None: all alike.
    candidates: (B, S) bool, the visual tokens to choose from. behind: (B, S) bool, the text behind the last
    visual token. counts: how many candidates each sample keeps.
    attention: (B, H, S) float32 of each head, summed over the asking rows by their weights.
    keys: (B, H_kv, S, D), with positions. states: (B, S, d), the layer's input through the decoder's final
    norm.
    """

    asking: Tensor
    weights: Tensor | None
    candidates: Tensor
    behind: Tensor
    counts: tuple[int, ...]
    attention: Tensor | None = None
    keys: Tensor | None = None
    states: Tensor | None = None


@dataclass(frozen=True)
class Scorer:
    """How a decision in the decoder ranks the visual tokens: `reduce`, `draw` or `rank` says it.

    rows: how many of the prompt's last tokens ask; their attention is what the ranking costs. 0: none does.
    reduce: attention (B, H, R, L) float32 of these rows -> scores (B, L).
    draw: seed, number of the decision, the sample's own tokens, its V visual tokens -> scores (V,) on the
    CPU, in place of attention.
    rank: what it sees -> scores (B, S): with `rate` attention, otherwise keys and states.
    rate: lets the text behind the last visual token ask, T tokens of it at most: embeddings (B, L, d), which
    of them are visual tokens (B, L), those of the text (B, T, d), which of these are there (B, T) -> weights
    (B, T) float32, once a prompt, of one matrix product (B, L, d) x (B, d, T).
    level: attention is divided by what equal queries and keys would make of the two positions alone.
    flops: S, d -> FLOPs of the matrix products in `rank` for one sample.
    merge: where pruned tokens live on in others: of one sample's n candidates the states (n, d) where they
    are removed, scores (n,) and how many are kept (K < n) -> kept (K,) int64 and their states (K, d).
    merge_flops: n, K, d -> FLOPs of the matrix products in `merge`.
    """

    rows: int = 0
    reduce: Callable[[Tensor], Tensor] | None = None
    draw: Callable[[int, int, list[int], int], Tensor] | None = None
    rank: Callable[[Sight], Tensor] | None = None
    rate: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None = None
    level: bool = False
    flops: Callable[[int, int], int] = lambda _length, _width: 0
    merge: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]] | None = None
    merge_flops: Callable[[int, int, int], int] = lambda _tokens, _kept, _width: 0

    def __post_init__(self) -> None:
        ways = [way for way in (self.reduce, self.draw, self.rank) if way is not None]
        if len(ways) != 1 or (self.reduce is None) != (self.rows == 0):
            raise ScheduleError("a scorer has rows and reduce, or draw alone, or rank")
        if self.rate is not None and self.rank is None:
            raise ScheduleError("what a scorer's rate weighs is for its rank")

    @property
    def looks(self) -> bool:
        """Whether a layer of the decoder ranks, not a draw."""
        return self.draw is None

    @property
    def compares(self) -> bool:
        """Whether it ranks by keys and states, without attention."""
        return self.rank is not None and self.rate is None

    @property
    def needs(self) -> tuple[str, ...]:
        """What it has to see of a decoder layer, or of the prompt; nothing for a draw."""
        if self.compares:
            return "keys", "states"
        if self.rate is not None:
            return "text", "attention"
        return ("attention",) if self.rows else ()

    def asking(self, behind: Iterable[int]) -> int:
        """Asking rows of a batch whose prompts have so many text tokens behind their visual ones."""
        return max(1, *behind) if self.rate is not None else self.rows


@dataclass(frozen=True)
class Shape:
    """How the keep ratios of a method follow from one another: what a search over schedules varies.

    words: for help. decay: the published keep ratio of a stage over that of the stage before it, or near
    enough to go on from. rho: tokens after the first decoder stage over those after the vision stage; None
    without one.
    """

    words: str
    decay: float = 1.0
    rho: float | None = None


@dataclass(frozen=True)
class Method:
    """One published way to reduce visual tokens.

    scored: where the ranking comes from: "language", "vision", "vision+language" or "none".
    published: per action, the decoder layers (of 32) at whose input tokens are reduced.
    solver: turns a request into a schedule. options: option name -> what it does.
    scorers: by the name that schedules give them, the rankings that this method brought. selections: by the
    name that schedules give them, its choices before the decoder.
    shape: what a search varies; None where it is not searched. resizes: it makes the image smaller before the
    processor and schedules nothing, so that it has no action and its solver refuses.
    """

    name: str
    title: str
    paper: str
    year: int
    summary: str
    scored: str
    published: Mapping[Action, tuple[int, ...]]
    solver: Callable[[Request], Schedule]
    options: Mapping[str, str] = field(default_factory=dict)
    scorers: Mapping[str, Scorer] = field(default_factory=dict)
    selections: Mapping[str, Selection] = field(default_factory=dict)
    shape: Shape | None = None
    resizes: bool = False

    @property
    def actions(self) -> tuple[Action, ...]:
        """The actions this method can be run with."""
        return tuple(self.published)

    @property
    def ranks_alone(self) -> bool:
        """Whether it ranks in the decoder by what is its own, not by attention that any method may use."""
        return any(scorer.reduce is None for scorer in self.scorers.values())

    def stages(
        self, action: Action | str, layers: int, first_layer: int = 0, last_layer: int | None = None
    ) -> tuple[int, ...]:
        """The default decoder cut layers at this depth."""
        return scaled(self.published[Action(action)], layers, first_layer, last_layer)

    def solve(self, request: Request) -> Schedule:
        """The schedule that answers the request; raises BudgetError or ScheduleError."""
        if request.action not in self.published and not self.resizes:
            raise ScheduleError(f"{self.name} can {', '.join(self.actions)}, not {request.action}")
        if unknown := sorted(set(request.options) - set(self.options)):
            takes = ", ".join(self.options) or "no options"
            raise ScheduleError(f"{self.name} does not take {', '.join(unknown)}; it takes {takes}")
        return self.solver(request)


def scaled(
    published: Collection[int], layers: int, first_layer: int = 0, last_layer: int | None = None
) -> tuple[int, ...]:
    """Published cut layers (of 32) moved to the same relative depth of another decoder.

    At least one whole layer runs first where the model has two, none is reduced before `first_layer`, and
    on very shallow models colliding cuts move up by one layer. What lies behind `last_layer` (None: the last
    there is) falls off; where nothing is left, that layer decides.
    """
    cuts: list[int] = []
    most = layers - 1 if last_layer is None else last_layer
    least = max(first_layer, 1 if layers > 1 else 0)
    for layer in published:
        cut = max(least, round(layers * layer / PUBLISHED_DEPTH))
        if cut <= most:
            cuts.append(cut)
        least = cut + 1
    if published and not cuts and last_layer is not None:
        return (last_layer,)
    return tuple(cuts)
