"""The vision stage on images in tiles that are put together, against the model's own packing."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING

from routing import VisionStage
from routing.checks.configs import TEMPLATES, from_configuration
from routing.methods.nuwa import PROTECT, RADIUS, aggregate, diagonal, select_anchors
from routing.methods.selection import Need, Seen
from tests.routing.tiny_vision import hooked, looking, noise

SIZES = torch.tensor([[12, 24], [20, 24], [24, 24], [24, 10]])  # of images; tiles are of 12 x 12 pixels
TILES = (3, 5, 5, 3)
NONE = torch.tensor([torch.nan])
CASES = ["llava_next", "llava_onevision", "llava_onevision shrunk"]


def _model(case: str, attention: str = "sdpa") -> Any:
    family = case.split()[0]
    kind, make = TEMPLATES[family]
    numbers = make()
    numbers["vision_config"] |= {"num_hidden_layers": 6}
    if "shrunk" in case:
        numbers["vision_aspect_ratio"] = "anyres_max_1"
    return from_configuration(CONFIG_MAPPING[kind](**numbers), attention)


def _pixels(count: int = len(TILES)) -> torch.Tensor:
    return noise(count, 5, 3, 12, 12)


def _encode(model: Any, pixels: torch.Tensor, sizes: torch.Tensor = SIZES) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(model.model.get_image_features(pixels, sizes, return_dict=True).pooler_output)


def _packed(model: Any, patches: torch.Tensor) -> list[torch.Tensor]:
    """Patches (tiles, P, c) as the model packs features, nan for the ends of rows."""
    config, base = model.config, model.model
    if config.model_type == "llava_onevision":
        more = {"vision_aspect_ratio": config.vision_aspect_ratio}
    else:
        more = {"vision_feature_select_strategy": "default"}
    ends = NONE.expand(patches.shape[-1])
    return base.pack_image_features(patches.split(list(TILES)), SIZES, image_newline=ends, **more)[0]


def _truth(case: str) -> dict[str, list[torch.Tensor]]:
    """By name and image, (V, c) with nan at the ends of rows."""
    model = _model(case, "eager")
    skip = int("next" in case)
    pixels = torch.cat([own[:count] for own, count in zip(_pixels(), TILES, strict=True)])
    with torch.no_grad():
        output = model.model.vision_tower(pixels, output_attentions=True, output_hidden_states=True)
        layer = model.model.vision_tower.encoder.layers[place := -2 if skip else -1]
        key = layer.self_attn.k_proj(layer.layer_norm1(output.hidden_states[place - 1]))
    received = [one.mean(dim=1).sum(dim=1)[:, skip:, None] for one in output.attentions]
    patches = {
        "received": received[place],
        "shallow": received[2],
        "keys": key.unflatten(-1, (2, -1)).mean(dim=2)[:, skip:],
        "states": torch.stack(output.hidden_states[4:7]).mean(dim=0)[:, skip:],
    }
    return {name: _packed(model, value) for name, value in patches.items()}


def _views(seen: list[Seen], field: str) -> list[torch.Tensor]:
    """The two views of each image, one behind the other: (V - row ends, c)."""
    values = [getattr(one, field).view(len(one.features), -1) for one in seen]
    return [torch.cat(pair) for pair in zip(values[::2], values[1::2], strict=True)]


@pytest.mark.parametrize("case", CASES)
def test_each_view_is_seen_where_the_model_puts_its_tokens(case: str) -> None:
    """Overview and detail without row ends, unpadded and maybe shrunk: as the model packs eager truths."""
    model, truth = _model(case), _truth(case)
    features = _encode(model, _pixels())
    stage = VisionStage(0.5, scorer="column_mean", selection="looking")
    with looking(*Need) as seen, hooked(model, case.split()[0], stage) as collector:
        assert all(map(torch.equal, features, _encode(model, _pixels())))
        taken = collector.take([len(one) for one in features])
    for name, packed in truth.items():
        for got, whole in zip(_views(seen, name), packed, strict=True):
            torch.testing.assert_close(
                got, whole[~whole[:, 0].isnan()], msg=lambda text, n=name: f"{n}: {text}"
            )
    for got, whole, marked in zip(_views(seen, "features"), features, truth["received"], strict=True):
        torch.testing.assert_close(got, whole[~marked[:, 0].isnan()])
    for image, (selection, marked) in enumerate(zip(taken, truth["received"], strict=True)):
        placed = (~marked[:, 0].isnan()).nonzero().flatten().tolist()
        detail, (rows, columns) = len(marked) - 9, seen[2 * image + 1].grid or (0, 0)
        assert detail == rows * (columns + 1)
        assert selection.kept.tolist() == placed[:4] + placed[9 : 9 + detail // 2]


@pytest.mark.parametrize("case", CASES)
def test_the_ends_of_rows_rank_last_and_fill_up(case: str) -> None:
    """With nine of ten tokens kept, all that have a place are, and the first row ends beside them."""
    model, marked = _model(case), _truth(case)["received"]
    stage = VisionStage(0.9, scorer="column_mean", selection="looking")
    with looking(*Need), hooked(model, case.split()[0], stage) as collector:
        features = _encode(model, _pixels())
        taken = collector.take([len(one) for one in features])
    for selection, whole in zip(taken, marked, strict=True):
        detail, ends = whole[9:, 0], whole[9:, 0].isnan()
        count = int(len(detail) * 0.9)
        scores = selection.scores
        assert scores is not None
        assert scores[9:][ends].max() < scores[9:][~ends].min()
        kept = selection.kept[selection.kept >= 9] - 9
        assert len(kept) == count
        filled = max(0, count - int((~ends).sum()))
        assert kept[ends[kept]].tolist() == ends.nonzero().flatten()[:filled].tolist()


@pytest.mark.parametrize("case", CASES)
def test_nuwas_anchors_are_aggregated_within_their_view(case: str) -> None:
    """Each view's anchors are those of its own scores and hold what surrounds them; all else is plain."""
    model, truth, family = _model(case), _truth(case), case.split()[0]
    expected = [one.clone() for one in _encode(model, _pixels())]
    looks = VisionStage(0.4, scorer="column_mean", selection="looking")
    with looking(*Need) as seen, hooked(model, family, looks):
        _encode(model, _pixels())
    with hooked(model, family, VisionStage(0.4, scorer="column_mean")):
        features = _encode(model, _pixels())
    for image, whole in enumerate(expected):
        plain, scores, states = whole.clone(), truth["received"][image][:, 0], truth["states"][image]
        placed = (~scores.isnan()).nonzero().flatten()
        for view, places, total in ((0, placed[:9], 9), (1, placed[9:], len(whole) - 9)):
            grid = seen[2 * image + view].grid or (0, 0)
            anchors = select_anchors(scores[places], grid, int(total * 0.4))
            given = (plain[places], states[places], scores[places], anchors, grid)
            tau, protect = RADIUS["column_mean"] * diagonal(grid), PROTECT["column_mean"]
            whole[places[anchors]] = aggregate(*given, tau, protect, overwrite_self=False)
        torch.testing.assert_close(features[image], whole)


@pytest.mark.parametrize("case", CASES)
def test_an_image_gets_in_a_batch_what_it_gets_alone(case: str) -> None:
    """Whichever images are encoded beside it: same features, same anchors."""
    model, family, stage = _model(case), case.split()[0], VisionStage(0.5, scorer="column_mean")
    with hooked(model, family, stage) as collector:
        together = _encode(model, _pixels())
        kept = collector.take([len(one) for one in together])
        for image, features in enumerate(together):
            own = slice(image, image + 1)
            (alone,) = _encode(model, _pixels()[own], SIZES[own])
            torch.testing.assert_close(alone, features)
            assert collector.take([len(alone)])[0].kept.tolist() == kept[image].kept.tolist()


def test_an_image_of_one_tile_keeps_its_share_beside_the_token_at_its_end() -> None:
    """Of several images of a prompt each is one tile: 10 tokens, the last without a place."""
    model, stage = _model("llava_onevision"), VisionStage(0.5, scorer="column_mean", selection="looking")
    with looking(*Need) as seen, hooked(model, "llava_onevision", stage) as collector, torch.no_grad():
        features = model.model.get_image_features(
            _pixels(2), SIZES[:2], batch_num_images=torch.tensor([2]), return_dict=True
        ).pooler_output
        (taken,) = collector.take([20])
    assert [len(one) for one in features] == [10, 10]
    assert [one.grid for one in seen] == [(3, 3), (3, 3)]
    assert taken.kept.tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]


def test_threads_do_not_mix_the_tiles_of_their_images() -> None:
    """Two threads that encode with one model at once get the features and anchors of turns taken."""
    model, stage, start = _model("llava_next"), VisionStage(0.5, scorer="column_mean"), Barrier(2)
    with hooked(model, "llava_next", stage) as collector:

        def run(image: int) -> tuple[torch.Tensor, list[int]]:
            (features,) = _encode(model, _pixels()[image : image + 1], SIZES[image : image + 1])
            return features, collector.take([len(features)])[0].kept.tolist()

        def repeat(image: int) -> list[tuple[torch.Tensor, list[int]]]:
            start.wait()
            return [run(image) for _ in range(8)]

        alone = [run(image) for image in (0, 1)]
        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(repeat, (0, 1)))
    for (features, kept), runs in zip(alone, together, strict=True):
        for found, own in runs:
            torch.testing.assert_close(found, features)
            assert own == kept


def test_a_copy_made_meanwhile_packs_like_the_plain_model_afterwards() -> None:
    """What stands in for the method of a copied model does nothing once the block has ended."""
    model = _model("llava_next")
    plain = _encode(model, _pixels())
    with hooked(model, "llava_next", VisionStage(0.5, scorer="column_mean")):
        other = copy.deepcopy(model)
    assert "pack_image_features" not in vars(model.model)
    assert all(map(torch.equal, _encode(other, _pixels()), plain))
