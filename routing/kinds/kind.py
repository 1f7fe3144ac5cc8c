"""What a kind of decoder layer is, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of decoder layer.

    names: what `layer_types` of a config calls it. title: to show.
    ranks: it attends to keys of its own, so it stores them and can rank tokens.
    forgets: it stores the keys of its last positions only (a window).
    borrows: its keys are those of an earlier layer.
    padding: all that it is told of other tokens is which are padding, (B, L), in place of an attention mask.
    """

    names: tuple[str, ...]
    title: str
    ranks: bool = True
    forgets: bool = False
    borrows: bool = False
    padding: bool = False
