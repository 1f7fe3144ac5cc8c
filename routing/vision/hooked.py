"""What selections ask of vision towers, caught by hooks on an unmodified model.

While images are encoded, the hooks read the projections of a layer or two and a running sum of hidden states,
nothing that was not asked for. Where features leave the tower, each image's tokens are shown to the selection
and merged features put in the place of their centres. All other visual tokens keep their plain features: the
model still scatters V features into its prompt, and removing or deferring the rest is the engine's work.

This file has what all kinds of towers share; which layers and modules are hooked is in the files beside it.
Knows no decoder, no cache and no prompt; its state lives in objects owned by one `attach`, never on a module.

Towers without a CLS token follow Nuwa's Qwen2.5-VL variant (175b7d5) with four bugs mended: similarity
features were left in window order while scores and positions were in raster order; anchors that fell into
padding were lost; only the first picture of the first sample was reduced; every block was made to keep its
whole attention (here: one block, in slices).
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

from routing.errors import UnsupportedModelError
from routing.hooks import Hooks, Scoring
from routing.towers import SHALLOW_LAYER, Need
from routing.vision.collector import VisionCollector

STORED = "stored"  # under which a tower that did not run has what was found before
RANKED = {Need.ATTENTION, Need.RECEIVED, Need.KEYS}  # what follows from the projections of the ranking layer

Found = TypeVar("Found")
Call = tuple[tuple[Any, ...], dict[str, Any]]  # positional and named arguments of a tower
Output = dict[str, Tensor | tuple[Tensor | None, ...]]  # what is kept of a tower's output, by field


class HookedTower(threading.local):
    """Tensors caught during one encoding, and who gets them.

    Each thread has its own, so that two of them can encode with one model. `tower` is the module.
    """

    tower: Any

    def __init__(self, collector: VisionCollector) -> None:
        self.collector, self.needs = collector, collector.needs
        self.scoring = Scoring()
        self.caught: dict[str, Any] = {}

    def refuse_class_scores(self, scorer: str) -> None:
        """Raise UnsupportedModelError where a CLS token is asked for: this tower has none."""
        if scorer == "cls" and Need.ATTENTION in self.needs:
            raise UnsupportedModelError(
                "this vision tower has no CLS token to score by: use VisionStage(scorer='column_mean')"
            )

    def asked_layers(self, layers: Any, ranking: int) -> dict[str, Any]:
        """The layers whose projections are asked for, by name. ranking: the one that makes the features."""
        shallow = min(round(SHALLOW_LAYER * len(layers)), ranking)
        named = (("ranking", ranking, RANKED), ("shallow", shallow, {Need.SHALLOW}))
        return {name: layers[place] for name, place, wanted in named if self.needs & wanted}

    @abstractmethod
    def watch(self, hooks: Hooks) -> None:
        """Place the hooks that catch what is asked for while the tower runs."""

    @abstractmethod
    def note_images(self, tower: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note the sizes of the images that a call is about. tower: the one that runs, perhaps a copy."""

    @abstractmethod
    def alone(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Call]:
        """The calls that encode each image, or tile, of a call by itself; none where it can't be divided."""

    @abstractmethod
    def kept(self, output: Any) -> Output:
        """What the base model reads of the tower's output."""

    @abstractmethod
    def derived(self) -> list[dict[str, Tensor]]:
        """The fields of `Seen` that follow from what was caught, of each image or tile in raster order."""

    def found(self) -> list[dict[str, Tensor]]:
        """What is asked of each image or tile, by fields of `Seen`: found now, or when it was encoded."""
        stored: list[dict[str, Tensor]] | None = self.caught.get(STORED)
        if stored is None:
            return self.derived()
        return [{name: value for name, value in one.items() if name in self.needs} for one in stored]

    def give(self, stored: list[dict[str, Tensor]]) -> None:
        """Take what was found of each image, or tile, when it was encoded, in place of what was caught."""
        self.caught = {STORED: stored}

    def begin(self) -> None:
        """The tower starts to encode."""
        self.caught.clear()
        self.collector.begin()

    def add_state(self, _layer: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        """One more of the hidden states whose mean is asked for."""
        state, self.caught["dtype"] = output.detach().float(), output.dtype
        if "states" in self.caught:
            state = state + self.caught["states"].to(state.device)
        self.caught["states"] = state

    def catch(self, hooks: Hooks, name: str, module: nn.Module) -> None:
        """Keep the output of a module of the tower under a name."""

        def keep(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
            self.caught[name] = output.detach()

        hooks.after(module, keep)

    def note(self, hooks: Hooks, name: str, attention: nn.Module) -> None:
        """Keep under a name what an attention is told of its segments and positions."""

        def keep(_attention: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.caught[name] = kwargs

        hooks.before(attention, keep)

    def reduced(self, work: Callable[[], Found]) -> Found:
        """The result of `work`, after which nothing is held back."""
        found: Found = self.scoring(work)
        self.caught.clear()
        return found
