"""The vision stage on Qwen's towers, against whole attention matrices put in raster order by other means."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from transformers.vision_utils import get_vision_window_index

from routing.methods.nuwa import aggregate, diagonal, select_anchors
from tests.routing.tiny_vision import GRIDS, HALF, QWENS, encode, pixels_of, qwen, ranking


def _long_way(model: Any, pixels: torch.Tensor, grids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Raster scores (V,) and similarity features (V, d), from whole attentions and all hidden states."""
    tower, caught = model.model.visual, {}
    states: list[torch.Tensor] = []
    with ExitStack() as hooks:
        for block in tower.blocks:
            hooks.callback(block.register_forward_hook(lambda _m, _a, out: states.append(out)).remove)
        keep: Callable[..., None] = lambda _m, args, kwargs, out: caught.update(kwargs, x=args[0], out=out)  # noqa: E731
        hooks.callback(tower.blocks[-1].attn.register_forward_hook(keep, with_kwargs=True).remove)
        tower(pixels, grid_thw=grids)
    return _raster(tower, grids, _received(tower.blocks[-1].attn, caught)), _raster(
        tower, grids, tower.merger(torch.stack(states[1:4]).mean(dim=0))
    )


def _received(attention: Any, caught: dict[str, Any]) -> torch.Tensor:
    """Column sums, mean over merge groups, of an attention checked to give the module's own output."""
    patches = len(caught["x"])
    query, key, value = attention.qkv(caught["x"]).view(patches, 3, 2, 16).permute(1, 2, 0, 3)
    cos, sin = caught["position_embeddings"]

    def turn(x: torch.Tensor) -> torch.Tensor:
        return x * cos + torch.cat([-x[..., 8:], x[..., :8]], dim=-1) * sin

    segment = torch.searchsorted(caught["cu_seqlens"], torch.arange(patches), right=True)
    logits = turn(query) @ turn(key).transpose(1, 2) / 4
    weights = logits.masked_fill(segment[:, None] != segment, -torch.inf).softmax(dim=-1)
    output = attention.proj((weights @ value).transpose(0, 1).reshape(patches, 32))
    torch.testing.assert_close(output, caught["out"], atol=1e-4, rtol=1e-4)
    return weights.mean(dim=0).sum(dim=0).view(-1, 4).mean(dim=1)


def _raster(tower: Any, grids: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Cells in the tower's order, put back where the framework's own window index says they belong."""
    if not hasattr(tower, "window_size"):
        return cells
    order = get_vision_window_index(grids, 2, tower.window_size, 4)[0]
    raster = torch.empty_like(cells)
    raster[order] = cells
    return raster


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("family", "vision"),
    [*((family, {}) for family in QWENS), ("qwen2_5_vl", {"fullatt_block_indexes": [1]})],
    ids=[*QWENS, "qwen2_5_vl windowed last block"],
)
def test_qwens_scores_and_features_equal_full_attention_in_raster_order(
    family: str, vision: dict[str, Any], attention: str
) -> None:
    """Three pictures of several windows, not square: scores and aggregated anchors equal the long way's."""
    model, pixels = qwen(family, attention, **vision), pixels_of(GRIDS)
    plain = model.model.get_image_features(pixels, GRIDS, return_dict=True).pooler_output
    features, selections = encode(model, family, HALF, pixels, GRIDS)
    scores, similarity = _long_way(model, pixels, GRIDS)
    start = 0
    for number, (_, height, width) in enumerate(GRIDS.tolist()):
        grid, end = (height // 2, width // 2), start + height * width // 4
        torch.testing.assert_close(ranking(selections[number]), scores[start:end], atol=1e-5, rtol=1e-4)
        kept = select_anchors(scores[start:end], grid, height * width // 8)
        assert selections[number].kept.tolist() == kept.tolist()
        expected, tau = plain[number].clone(), 0.8 * diagonal(grid)
        own = (plain[number], similarity[start:end], scores[start:end], kept, grid, tau, 0.1, False)
        expected[kept] = aggregate(*own)
        torch.testing.assert_close(features[number], expected, atol=1e-4, rtol=1e-4)
        start = end


@pytest.mark.parametrize("cell", range(15))
def test_a_marked_cell_is_scored_where_it_lies(cell: int) -> None:
    """In a uniform 3x5 picture of two rows of windows, the one cell that differs gets the score that differs.

    One block with gentle attention, so that a patch's score depends on its own content above all.
    """
    model, grid = qwen("qwen2_5_vl", depth=1, fullatt_block_indexes=[0]), torch.tensor([[1, 6, 10]])
    model.model.visual.blocks[0].attn.qkv.weight *= 0.2
    uniform = pixels_of(grid)[:1].repeat(60, 1)
    marked = uniform.clone()
    marked[cell * 4 : cell * 4 + 4] *= -1
    scores = [ranking(encode(model, "qwen2_5_vl", HALF, x, grid)[1][0]) for x in (uniform, marked)]
    assert int((scores[0] - scores[1]).abs().argmax()) == cell


@pytest.mark.parametrize("family", QWENS)
def test_qwen_pictures_get_together_what_they_get_alone(family: str) -> None:
    """Qwen: same anchors, same features, whichever pictures are encoded beside them."""
    model, pixels = qwen(family), pixels_of(GRIDS)
    features, selections = encode(model, family, HALF, pixels, GRIDS)
    for number, part in enumerate(pixels.split(GRIDS.prod(dim=1).tolist())):
        alone, (own,) = encode(model, family, HALF, part, GRIDS[number : number + 1])
        assert own.kept.tolist() == selections[number].kept.tolist()
        torch.testing.assert_close(alone[0], features[number], atol=1e-5, rtol=1e-4)
