"""LLaVA-NeXT and LLaVA-OneVision: an image is seen whole and in tiles, which the model puts together.

Its own `pack_image_features` cuts padding away, may shrink the result, and adds a token at each row's end.
Whatever was found of patches goes the same way, without these tokens; then tokens are chosen of each view by
itself, the overview and the detail. That is how Nuwa's release reduces LLaVA-NeXT, but before the projector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from routing.hooks import Hooks
from routing.host import TILE_PACKER, part
from routing.methods.selection import Need, Seen
from routing.vision.collector import Encoded
from routing.vision.patches import PatchTower

SCORES = {Need.ATTENTION, Need.RECEIVED, Need.SHALLOW}  # one number a token

Pack = Callable[[Sequence[Tensor]], list[Tensor]]


class TiledTower(PatchTower):
    """Tokens are chosen of what the model puts together, in the decoder's space; row ends rank last."""

    def hook_exit(self, hooks: Hooks) -> None:
        """Stand in for the method of the base model, which is no module, until `hooks` close."""
        base, plain = self._base, part(self._base, TILE_PACKER)

        def pack(image_features: Sequence[Tensor], *args: Any, **kwargs: Any) -> tuple[list[Tensor], Any]:
            packed, lengths = plain(image_features, *args, **kwargs)
            if self.caught:
                without_ends = partial(plain, **{**kwargs, "image_newline": None})
                bare: Pack = lambda values: without_ends(values, *args)[0]  # noqa: E731
                packed = self.reduced(lambda: self._reduce_packed(bare, image_features, packed))
            return packed, lengths

        setattr(base, TILE_PACKER, pack)
        hooks.callback(delattr, base, TILE_PACKER)

    def _reduce_packed(self, bare: Pack, tiles: Sequence[Tensor], packed: list[Tensor]) -> list[Tensor]:
        """Features (V, d) of each image, with what was merged in its place.

        bare: packs without row ends. tiles: (tiles, P, d) of each image.
        """
        counts = [len(image) for image in tiles]
        found: dict[str, list[Tensor]] = {}
        with torch.no_grad():
            each, shape = self.found(), (sum(counts), tiles[0].shape[1])
            for name in each[0]:
                patches = torch.stack([one[name] for one in each]).reshape(*shape, -1)
                found[name] = bare(torch.split(patches, counts))
        plain, views = bare(tiles), []
        for number, features in enumerate(packed):
            own = {name: of[number] for name, of in found.items()}
            views.append(self._views(features, plain[number], own))
        reduced = iter(self.collector.reduce([view for image in views for view, _ in image]))
        for number, image in enumerate(views):
            for _, places in image:
                packed[number] = packed[number].index_copy(0, places, next(reduced))
        return packed

    def _views(
        self, features: Tensor, plain: Tensor, found: dict[str, Tensor]
    ) -> list[tuple[Encoded, Tensor]]:
        """Overview and detail of one image, and where the tokens of each stand among its features (V, d).

        plain, found: (V - row ends, ...) of its tokens with a place.
        """
        grid = self._grids[0]
        overview, ends = grid[0] * grid[1], len(features) - len(plain)
        columns = (len(plain) - overview) // max(1, ends)
        views = [(grid, overview if columns else overview + ends, 0)]
        if columns:
            views.append(((ends, columns), len(features) - overview, overview))
        shown = []
        for (rows, wide), total, start in views:
            cells = torch.arange(rows * wide, device=features.device)
            places = cells + cells // wide * bool(start)
            own = slice(start, start + len(cells))
            fields: dict[str, Any] = {name: value[own].to(features.device) for name, value in found.items()}
            fields = {name: one.squeeze(1) if name in SCORES else one for name, one in fields.items()}
            shown.append((Encoded(Seen(plain[own], (rows, wide), **fields), places, total), start + places))
        return shown
