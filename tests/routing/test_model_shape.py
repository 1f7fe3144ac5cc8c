"""What a config says about a model's shape: the library's own defaults, refusals, towers."""

from __future__ import annotations

import math

import pytest
from transformers import CONFIG_MAPPING

from routing.checks.subjects import ALL, tiny
from routing.cost import (
    ModelShape,
    PromptSize,
    cost,
)
from routing.errors import UnsupportedModelError
from routing.families.decoders import SHAPES
from routing.schedule import Schedule
from routing.towers import Tower
from tests.routing.test_cost import LLAVA_7B


@pytest.mark.parametrize("kind", [kind for kind in SHAPES if kind in CONFIG_MAPPING])
def test_numbers_a_config_leaves_out_are_the_librarys_own(kind: str) -> None:
    """A config that names only its decoder reads like the library's full config of the same decoder."""
    full = CONFIG_MAPPING[kind]().to_dict()
    assert ModelShape.from_config({"model_type": kind}) == ModelShape.from_config(full)


@pytest.mark.parametrize("name", ALL)
def test_a_tower_whose_numbers_are_left_out_is_the_librarys_own(name: str) -> None:
    """A config that names only the tower's type reads like what transformers makes of the same config."""
    family = tiny(name).family
    kind = tiny(name).model.config.vision_config.model_type
    text = "gemma" if family == "paligemma" else "llama"
    bare = {"model_type": family, "text_config": {"model_type": text}}
    bare["vision_config"] = {"model_type": kind, "vision_use_head": False}
    if family in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v"):
        del bare["text_config"]
    full = CONFIG_MAPPING[family](**bare).to_dict()
    ours = ModelShape.from_config({"vision_feature_layer": -2, **bare})
    assert ours.tower == ModelShape.from_config(full).tower


def test_head_dim_need_not_be_hidden_over_heads() -> None:
    """A given head_dim counts, and null means it is derived."""
    text = {"model_type": "qwen3", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    wide = ModelShape.from_config({"model_type": "internvl", "text_config": {**text, "head_dim": 128}})
    derived = ModelShape.from_config(
        {"model_type": "llava", "text_config": {**text, "model_type": "llama", "head_dim": None}}
    )
    assert [shape.ranking(0)[1].key_width for shape in (wide, derived)] == [128, 16]


def test_a_deepstack_model_says_where_reduction_may_start() -> None:
    """Qwen3-VL's first layer is the number of deepstack features."""
    config = {"model_type": "qwen3_vl", "vision_config": {"deepstack_visual_indexes": [5, 11, 17]}}
    assert ModelShape.from_config(config).first_layer == 3


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "llava", "text_config": {"model_type": "phi"}}, "phi: the cost of its layers"),
        ({"model_type": "gemma4_text", "enable_moe_block": True}, "num_experts is missing"),
        ({"model_type": "llava", "text_config": {"num_experts": 8}}, "mixture of experts"),
        ({"model_type": "internvl", "text_config": {"num_local_experts": 8}}, "mixture of experts"),
        (
            {"model_type": "llava", "text_config": {"model_type": "llama", "hidden_size": "4096"}},
            "hidden_size",
        ),
        (
            {"model_type": "llava", "text_config": {"model_type": "llama", "num_hidden_layers": 0}},
            "num_hidden_layers",
        ),
    ],
)
def test_a_config_that_cannot_be_costed_is_refused(config: dict[str, object], says: str) -> None:
    """Missing numbers, wrong types and unmodelled decoders raise instead of guessing."""
    with pytest.raises(UnsupportedModelError, match=says):
        ModelShape.from_config(config)


@pytest.mark.parametrize(
    ("vision", "says"),
    [
        ({"model_type": "dinov2"}, "dinov2 tower"),
        ({"model_type": "siglip_vision_model"}, "pooling head"),
        (None, "no vision_config"),
    ],
)
def test_an_unmodelled_tower_is_unknown_with_a_reason(vision: object, says: str) -> None:
    """The decoder is still costed; the vision line is None and says why, never 0."""
    shape = ModelShape.from_config({**LLAVA_7B, "vision_config": vision})
    assert shape.tower is None
    assert says in (shape.tower_reason or "")
    assert cost(shape, Schedule(), [PromptSize(1, 1)], grids=[(1, 24, 24)]).vision_flops is None


def test_windows_at_the_border_are_smaller() -> None:
    """A 6x10 grid in windows of 4x4 has windows of 16, 8 and 4 tokens, two full ones among them."""
    tower = Tower(layers=1, hidden=1, intermediate=0, patch=0, merge=4, projector=(), window=4)
    lengths = [16, 16, 8, 8, 8, 4]
    assert sum(lengths) == 60
    assert tower.flops([(1, 6, 10)]) == 2 * 60 * 4 + 4 * sum(length**2 for length in lengths)
    assert math.isclose(tower.visual_tokens([(1, 6, 10)]), 15)
