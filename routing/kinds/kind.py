"""What a kind of decoder layer is, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LayerKind:
    """One kind of decoder layer.

    names: what `layer_types` of a config calls it. title: to show.
    ranks: it attends to keys of its own, so it stores them and can rank tokens.
    forgets: it stores the keys of its last positions only (a window).
    borrows: its keys are those of an earlier layer.
    told: what it is told of other tokens: "mask", who sees whom; "padding", which are padding, (B, L); or
    "nothing".
    """

    names: tuple[str, ...]
    title: str
    ranks: bool = True
    forgets: bool = False
    borrows: bool = False
    told: Literal["mask", "padding", "nothing"] = "mask"

    @property
    def sees_all(self) -> bool:
        """Its last token sees the whole prompt."""
        return self.ranks and not self.forgets
