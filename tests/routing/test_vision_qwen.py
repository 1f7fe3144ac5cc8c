"""The vision stage on Qwen's and GLM's towers, against whole attention matrices in raster order."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from transformers.vision_utils import get_vision_window_index

from routing import VisionStage
from routing.methods.nuwa import aggregate, diagonal, select_anchors
from routing.methods.selection import Need, Seen
from tests.routing.tiny_vision import GRIDS, HALF, MERGED, encode, looking, pixels_of, qwen, ranking


def _long_way(model: Any, pixels: torch.Tensor, grids: torch.Tensor, block: int = -1) -> Seen:
    """In raster order, of all images: what one block's whole attention and all hidden states say."""
    tower, caught = model.model.visual, {}
    states: list[torch.Tensor] = []
    with ExitStack() as hooks:
        for each in tower.blocks:
            hooks.callback(each.register_forward_hook(lambda _m, _a, out: states.append(out)).remove)
        keep: Callable[..., None] = lambda _m, args, kwargs, out: caught.update(kwargs, x=args[0], out=out)  # noqa: E731
        hooks.callback(tower.blocks[block].attn.register_forward_hook(keep, with_kwargs=True).remove)
        features = tower(pixels, grid_thw=grids).pooler_output
    received, keys = _received(tower.blocks[block].attn, caught)
    alike = _merged(tower, torch.stack(states[1:4]).mean(dim=0))
    raster = [_raster(tower, grids, one) for one in (received, keys, alike)]
    return Seen(features, received=raster[0], keys=raster[1], states=raster[2])


def _merged(tower: Any, states: torch.Tensor) -> torch.Tensor:
    """Hidden states through the merger; GLM's norm and convolution before it, the latter as products."""
    if hasattr(tower, "downsample"):
        squares = tower.post_layernorm(states).view(-1, 2, 2, 32)
        states = torch.einsum("vrcd,odrc->vo", squares, tower.downsample.weight) + tower.downsample.bias
    return tower.merger(states)


def _received(attention: Any, caught: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Column sums and keys, mean over merge groups, of an attention checked to give the module's output."""
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
    received, keys = weights.mean(dim=0).sum(dim=0), key.mean(dim=0)
    return received.view(-1, 4).mean(dim=1), keys.view(-1, 4, 16).mean(dim=1)


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
    [*((family, {}) for family in MERGED), ("qwen2_5_vl", {"fullatt_block_indexes": [1]})],
    ids=[*MERGED, "qwen2_5_vl windowed last block"],
)
def test_qwens_scores_and_features_equal_full_attention_in_raster_order(
    family: str, vision: dict[str, Any], attention: str
) -> None:
    """Three pictures of several windows, not square: scores and aggregated anchors equal the long way's."""
    model, pixels = qwen(family, attention, **vision), pixels_of(GRIDS)
    plain = model.model.get_image_features(pixels, GRIDS, return_dict=True).pooler_output
    features, selections = encode(model, family, HALF, pixels, GRIDS)
    truth = _long_way(model, pixels, GRIDS)
    scores, similarity = truth.received, truth.states
    assert scores is not None
    assert similarity is not None
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


@pytest.mark.parametrize("family", MERGED)
def test_all_that_is_asked_for_equals_full_attention_in_raster_order(family: str) -> None:
    """A toy selection sees attention of the last and of a shallow block, keys and states, token by token."""
    model, pixels = qwen(family), pixels_of(GRIDS)
    last, shallow = (_long_way(model, pixels, GRIDS, block) for block in (3, 1))
    stage = VisionStage(0.5, scorer="column_mean", selection="looking")
    with looking(*Need) as seen:
        encode(model, family, stage, pixels, GRIDS)
    assert [one.grid for one in seen] == [(3, 5), (2, 2), (5, 3)]
    for name in ("features", "received", "keys", "states"):
        got = torch.cat([getattr(one, name) for one in seen])
        torch.testing.assert_close(got, getattr(last, name), atol=1e-4, rtol=1e-4)
    got = torch.cat([one.shallow for one in seen if one.shallow is not None])
    torch.testing.assert_close(got, shallow.received, atol=1e-5, rtol=1e-4)


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


@pytest.mark.parametrize("family", MERGED)
def test_qwen_pictures_get_together_what_they_get_alone(family: str) -> None:
    """Same anchors, same features, whichever pictures are encoded beside them."""
    model, pixels = qwen(family), pixels_of(GRIDS)
    features, selections = encode(model, family, HALF, pixels, GRIDS)
    for number, part in enumerate(pixels.split(GRIDS.prod(dim=1).tolist())):
        alone, (own,) = encode(model, family, HALF, part, GRIDS[number : number + 1])
        assert own.kept.tolist() == selections[number].kept.tolist()
        torch.testing.assert_close(alone[0], features[number], atol=1e-5, rtol=1e-4)
