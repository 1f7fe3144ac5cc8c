"""What a selection is shown of encoders' patches, against all that an eager model returns."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING

from routing import Schedule, Stage, VisionStage, route
from routing.checks.configs import TEMPLATES, from_configuration
from routing.checks.subjects import Sample, Tiny
from routing.methods.nuwa import aggregate, diagonal, select_anchors
from routing.methods.selection import Need, Seen
from tests.routing.tiny_vision import hooked, looking

LAYERS = 6
STAGE = VisionStage(0.5, scorer="column_mean", selection="looking")
SAMPLES: tuple[Sample, ...] = ((3, (2, 3), 5, (3, 4), 2), (4, (1, 2), 3))
PIXTRAL = {"model_type": "pixtral", "image_size": 64, "patch_size": 4}
CASES: dict[str, tuple[str, int, dict[str, Any]]] = {  # family, patches along a token's side, tower settings
    "llava": ("llava", 1, {}),
    "vipllava": ("vipllava", 1, {}),
    "paligemma": ("paligemma", 1, {}),
    "internvl": ("internvl", 2, {}),
    "internvl with normed queries": ("internvl", 2, {"use_qk_norm": True, "use_mean_pooling": False}),
    "idefics3": ("idefics3", 2, {}),
    "smolvlm": ("smolvlm", 2, {}),
    "mistral3": ("mistral3", 2, {}),
    "pixtral": ("llava", 1, PIXTRAL),
}


def built(case: str, attention: str = "sdpa") -> Tiny:
    """A tiny model whose tower has six layers."""
    family, _, vision = CASES[case]
    kind, make = TEMPLATES[family]
    numbers = make()
    numbers["vision_config"] |= {"num_hidden_layers": LAYERS, **vision}
    if vision == PIXTRAL:
        numbers |= {"vision_feature_select_strategy": "full", "vision_feature_layer": -1}
    model = from_configuration(CONFIG_MAPPING[kind](**numbers), attention)
    return Tiny("mistral3" if vision == PIXTRAL else family, model)


def _features(model: Tiny, pictures: dict[str, torch.Tensor]) -> torch.Tensor:
    """(sum of V, d) features of all images."""
    with torch.no_grad():
        output = model.model.model.get_image_features(**pictures, return_dict=True).pooler_output
    return torch.cat([one.flatten(0, -2) for one in output])


def _saw(case: str, pictures: dict[str, torch.Tensor], *needs: Need) -> list[Seen]:
    model = built(case)
    with looking(*needs) as seen, hooked(model.model, CASES[case][0], STAGE):
        _features(model, pictures)
    return seen


class Eager:
    """All attentions, hidden states and keys of an eager tower, image by image, as patches."""

    def __init__(self, case: str, pictures: dict[str, torch.Tensor]) -> None:
        self.family, self.side, _ = CASES[case]
        self.model = built(case, "eager")
        base = self.model.model.model
        self.tower = base.vision_model if hasattr(base, "vision_model") else base.vision_tower
        told: dict[str, Any] = {}
        handle = self.tower.register_forward_pre_hook(
            lambda _tower, args, kwargs: told.update(kwargs, args=args), with_kwargs=True
        )
        self.features = _features(self.model, pictures)
        handle.remove()
        args = told.pop("args")
        asked = {**told, "output_attentions": True, "output_hidden_states": True}
        with torch.no_grad():
            output = self.tower(*args, **asked)
        pixels = args[0] if args else told["pixel_values"]
        sizes = told.get("image_sizes", torch.tensor([pixels.shape[-2:]] * len(pixels)))
        self.grids = [(height // 4, width // 4) for height, width in sizes.tolist()]
        self.skip = int(self.family in ("llava", "vipllava", "internvl") and "image_sizes" not in told)
        self.attentions = [self._apart(weights, 2) for weights in output.attentions]
        self.states = [self._apart(state, 1) for state in output.hidden_states]
        self.keys = self._apart(self._key(output.hidden_states), 1)

    def _key(self, states: Any) -> torch.Tensor:
        """(B, T, D) mean over two heads, of the layer whose output the projector reads."""
        place = -2 if self.family == "llava" and self.skip else -1
        name = {"internvl": "layer"}.get(self.family, "layers")
        root = self.tower.transformer if hasattr(self.tower, "transformer") else self.tower.encoder
        layer = getattr(root, name)[place]
        norm = next(module for key, module in layer.named_children() if key in NORMS)
        attention = layer.attention if hasattr(layer, "attention") else layer.self_attn
        with torch.no_grad():
            key = attention.k_proj(norm(states[place - 1]))
            key = attention.k_norm(key) if hasattr(attention, "k_norm") else key
        return key.unflatten(-1, (2, -1)).mean(dim=-2)

    def _apart(self, tensor: torch.Tensor, axes: int) -> list[torch.Tensor]:
        """One tensor for each image; from one attention over all images its blocks."""
        if len(tensor) == len(self.grids):
            return list(tensor)
        found, start = [], 0
        for rows, columns in self.grids:
            own = slice(start, start + rows * columns)
            found.append(tensor[0, :, own, own] if axes == 2 else tensor[0, own])
            start += rows * columns
        return found

    def tokens(self, image: int, patches: torch.Tensor) -> torch.Tensor:
        """Means over squares, token by token."""
        (rows, columns), side = self.grids[image], self.side
        return torch.stack(
            [
                torch.stack(
                    [
                        patches[(row * side + down) * columns + column * side + right]
                        for down, right in product(range(side), repeat=2)
                    ]
                ).mean(dim=0)
                for row, column in product(range(rows // side), range(columns // side))
            ]
        )

    def received(self, image: int, layer: int) -> torch.Tensor:
        """Of each token: attention summed over queries, mean over heads."""
        return self.tokens(image, self.attentions[layer][image].mean(dim=0).sum(dim=0)[self.skip :])

    def rest(self, features: torch.Tensor) -> torch.Tensor:
        """What the model makes of features that leave the tower."""
        base = self.model.model.model
        if self.family in ("idefics3", "smolvlm"):
            return base.connector.modality_projection(features)
        projector = base.multi_modal_projector
        if self.family == "mistral3":
            merged = projector.patch_merger.merging_layer(features)
            return projector.linear_2(projector.act(projector.linear_1(merged)))
        return projector(features)


NORMS = {"layer_norm1", "layernorm_before", "attention_norm"}


@pytest.mark.parametrize("case", CASES)
def test_a_selection_sees_what_an_eager_tower_returns(case: str) -> None:
    """Attention received in two layers, keys and mean states of each token, and the features behind."""
    truth = Eager(case, pictures := built(case).pictures(*SAMPLES))
    last = LAYERS - 1 - (truth.family == "llava" and truth.skip)
    seen = _saw(case, pictures, Need.RECEIVED, Need.SHALLOW, Need.KEYS, Need.STATES)
    assert [one.grid for one in seen] == [(r // truth.side, c // truth.side) for r, c in truth.grids]
    for image, one in enumerate(seen):
        states = torch.stack([state[image] for state in truth.states[4:7]]).mean(dim=0)[truth.skip :]
        expected = {
            "received": truth.received(image, last),
            "shallow": truth.received(image, 2),
            "keys": truth.tokens(image, truth.keys[image][truth.skip :]),
            "states": truth.tokens(image, states),
        }
        for name, value in expected.items():
            torch.testing.assert_close(
                getattr(one, name), value, msg=lambda text, name=name: f"{name}: {text}"
            )
    with torch.no_grad():
        behind = truth.rest(torch.cat([one.features for one in seen]))
    torch.testing.assert_close(behind, truth.features)


@pytest.mark.parametrize("case", ["llava", "vipllava", "internvl", "internvl with normed queries"])
def test_the_cls_row_of_a_token_is_the_mean_over_its_patches(case: str) -> None:
    """Attention of the CLS token, summed over heads."""
    truth = Eager(case, pictures := built(case).pictures(*SAMPLES))
    model, stage = built(case), VisionStage(0.5, selection="looking")
    with looking(Need.ATTENTION) as seen, hooked(model.model, truth.family, stage):
        _features(model, pictures)
    for image, one in enumerate(seen):
        row = truth.attentions[-2 if truth.family == "llava" else -1][image][:, 0, 1:].sum(dim=0)
        torch.testing.assert_close(one.attention, truth.tokens(image, row))


@pytest.mark.parametrize("case", CASES)
def test_an_image_is_shown_in_a_batch_as_alone(case: str) -> None:
    """Whichever images are encoded beside it."""
    model = built(case)
    together = _saw(case, model.pictures(*SAMPLES), *Need)
    alone = [one for sample in SAMPLES for one in _saw(case, model.pictures(sample), *Need)]
    assert len(together) == len(alone)
    for one, other in zip(together, alone, strict=True):
        for name in ("features", "received", "shallow", "keys", "states"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_nuwas_anchors_are_aggregated_where_features_leave(case: str) -> None:
    """What the rest of the model makes of each image's anchors with their surroundings; others stay plain."""
    truth = Eager(case, pictures := built(case).pictures(*SAMPLES))
    expected = []
    for one in _saw(case, pictures, Need.RECEIVED, Need.STATES):
        assert one.received is not None
        assert one.states is not None
        assert one.grid is not None
        anchors, tau = (
            select_anchors(one.received, one.grid, len(one.received) // 2),
            0.8 * diagonal(one.grid),
        )
        given = (one.features, one.states, one.received, anchors, one.grid, tau, 0.1)
        expected.append(one.features.clone())
        expected[-1][anchors] = aggregate(*given, overwrite_self=False)
    model = built(case)
    with hooked(model.model, truth.family, VisionStage(0.5, scorer="column_mean")) as collector:
        features = _features(model, pictures)
        taken = collector.take([len(one) for one in expected])
    assert [len(one.kept) for one in taken] == [len(one) // 2 for one in expected]
    with torch.no_grad():
        torch.testing.assert_close(features, truth.rest(torch.cat(expected)))


@pytest.mark.parametrize("case", ["idefics3", "smolvlm"])
def test_padding_inside_a_tile_gives_and_receives_no_attention(case: str) -> None:
    """With the right third of a tile masked, its patches count neither as keys nor as queries."""
    pictures = built(case).pictures((2, (2, 2), 3))
    mask = torch.ones(pictures["pixel_values"][:, :, 0].shape, dtype=torch.long)
    mask[:, 1, :, 16:] = 0
    pictures["pixel_attention_mask"] = mask
    truth, real = Eager(case, pictures), torch.arange(36) % 6 < 4
    whole, part = _saw(case, pictures, Need.RECEIVED)
    torch.testing.assert_close(whole.received, truth.received(0, -1))
    columns = truth.attentions[-1][1].mean(dim=0)[real].sum(dim=0)
    assert columns[~real].abs().max() < 1e-6
    torch.testing.assert_close(part.received, truth.tokens(1, columns))


@pytest.mark.parametrize("action", ["prune", "reroute"])
def test_a_pixtral_tower_under_llava_is_routed_image_by_image(action: str) -> None:
    """Two images of different sizes in one prompt: under route() each keeps half, and later stages follow."""
    model, sizes = built("pixtral"), [(4, 4), (4, 6)]
    pictures = model.pictures((1, (2, 2), (2, 3)))
    ids = torch.tensor([[5, *[190] * 16, 6, *[190] * 24, 7, 8]])
    schedule = Schedule((Stage(3, 0.25),), action=action, vision=VisionStage(0.5, scorer="column_mean"))  # type: ignore[arg-type]
    with route(model.model, schedule) as trace, torch.no_grad():
        model.model.generate(input_ids=ids, **pictures, max_new_tokens=2)
    first, second = (stage.kept[0] for stage in trace.stages)
    assert [int((first < 16).sum()), int((first >= 16).sum())] == [
        rows * columns // 2 for rows, columns in sizes
    ]
    assert len(second) == 10
