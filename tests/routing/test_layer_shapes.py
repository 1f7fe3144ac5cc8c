"""Layers of every kind against torch's own FLOP counter and the real cache's tensors, integer for integer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from routing.cost import (
    ModelShape,
    PromptSize,
    cost,
    decode_flops,
    kv_bytes,
    lm_head_flops,
    plan,
    scoring_flops,
)
from routing.errors import UnsupportedModelError
from routing.families.decoders import SHAPES
from routing.families.layer_shapes import Attention, Experts
from routing.schedule import Action, Schedule, Stage
from tests.routing.tiny_decoders import KNOWN, SIZES, TINY, Counted, config_of

LENGTH = 11  # longer than every window, no multiple of a chunk


def prefill_flops(shape: ModelShape, length: int, visual: int = 0) -> int:
    """Of one prompt, without the output head."""
    ours = cost(shape, Schedule(), [PromptSize(length - visual, visual)])
    return ours.prefill_flops - lm_head_flops(shape)


def test_every_decoder_has_a_tiny_one_here() -> None:
    """No decoder's cost is given that was not compared."""
    assert {kind for kind, _ in TINY.values()} == set(SHAPES)


@pytest.mark.parametrize("name", KNOWN)
def test_a_decoder_costs_and_holds_what_torch_counts(name: str) -> None:
    """Prefill, cache, and three steps, by a config.json and by the library's full config of it."""
    config = config_of(name)
    counted = Counted(config)
    prefill, held = counted.run(LENGTH), counted.held
    steps = sum(counted.run(1) for _ in range(3))
    for read in (config, counted.full):
        shape = ModelShape.from_config(read)
        ours = cost(shape, Schedule(), [PromptSize(LENGTH, 0)], new_tokens=4, element_bytes=4)
        assert prefill_flops(shape, LENGTH) == prefill
        assert ours.decode_flops - 3 * lm_head_flops(shape) == steps
        assert ours.kv_bytes == held


@pytest.mark.parametrize("length", [1, 2, 64, 65, 130])
@pytest.mark.parametrize("name", [name for name in ("lfm2", "nemotron_h", "qwen3_5_text") if name in KNOWN])
def test_chunks_and_kernels_that_are_not_full_are_padded(name: str, length: int) -> None:
    """Prompts shorter than a kernel, of whole chunks, and one position longer."""
    counted, shape = Counted(config_of(name)), ModelShape.from_config(config_of(name))
    assert counted.run(length) == prefill_flops(shape, length)
    assert counted.run(1) == decode_flops(shape, [length] * len(shape.layers), 2) - lm_head_flops(shape)


@pytest.mark.parametrize("experts", ["eager", "batched_mm", "grouped_mm"])
@pytest.mark.parametrize(
    "name",
    [name for name in ("qwen3_moe", "nemotron_h", "aria_text", "ernie4_5_vl_moe_text") if name in KNOWN],
)
def test_experts_cost_the_active_ones_however_they_are_run(name: str, experts: str) -> None:
    """A loop over experts, one product for all pairs, and the grouped product that is the default."""
    config = config_of(name)
    assert Counted(config, experts=experts).run(LENGTH) == prefill_flops(
        ModelShape.from_config(config), LENGTH
    )


def test_llama_4_runs_every_expert_on_every_position() -> None:
    """What transformers computes is counted, which is three experts a position more than the active one."""
    config = config_of("llama4_text")
    shape = ModelShape.from_config(config)
    assert Counted(config).run(LENGTH) == prefill_flops(shape, LENGTH)
    active = [
        replace(layer, mlps=tuple(replace(mlp, active=1) for mlp in layer.mlps if isinstance(mlp, Experts)))
        for layer in shape.layers[1::2]
    ]
    idle = LENGTH * 3 * (3 * 2 * SIZES["hidden_size"] * SIZES["intermediate_size"])
    for layer, fewer in zip(shape.layers[1::2], active, strict=True):
        assert layer.prefill_flops(LENGTH) - fewer.prefill_flops(LENGTH) == idle


def test_visual_tokens_reach_experts_of_their_own() -> None:
    """Ernie 4.5 VL sends them to narrower ones, and so do we, as many as there are."""
    config, visual = config_of("ernie4_5_vl_moe_text"), 7
    kinds = (torch.arange(LENGTH)[None] < visual).int()
    counted = Counted(config).run(LENGTH, moe_mm_token_type_ids=kinds)
    shape = ModelShape.from_config(config)
    assert counted == prefill_flops(shape, LENGTH, visual) < prefill_flops(shape, LENGTH)


@pytest.mark.parametrize(
    ("name", "layer", "output"),
    [
        ("deepseek_v3", 1, "o_proj"),
        ("phi3", 1, "o_proj"),
        ("persimmon", 1, "dense"),
    ],
)
def test_a_ranking_by_a_layers_own_projections_costs_what_these_cost(
    name: str, layer: int, output: str
) -> None:
    """Latent and fused attention: all projections but the output's, of all positions, and two rows."""
    counted, shape = Counted(config_of(name)), ModelShape.from_config(config_of(name))
    counted.run(LENGTH)
    attention = counted.model.layers[layer].self_attn
    maps = [name for name, part in attention.named_modules() if isinstance(part, torch.nn.Linear)]
    projected = sum(counted.part(f"layers.{layer}.self_attn.{name}") for name in maps if name != output)
    width = attention.qk_head_dim if name == "deepseek_v3" else attention.head_dim
    products = 2 * 2 * LENGTH * SIZES["num_attention_heads"] * width
    assert projected > 0
    assert scoring_flops(shape, LENGTH, rows=2, own=5, layer=layer) == projected + products


@pytest.mark.parametrize(("name", "layer"), [("gemma3_text", 1), ("qwen3_5_text", 3)])
def test_a_ranking_by_separate_projections_costs_keys_of_all_and_the_asking_queries(
    name: str, layer: int
) -> None:
    """Gates come with the queries; nothing is handed over to the layer's own run."""
    counted, shape = Counted(config_of(name)), ModelShape.from_config(config_of(name))
    counted.run(LENGTH)
    keys, queries = (counted.part(f"layers.{layer}.self_attn.{part}_proj") for part in "kq")
    width = counted.model.layers[layer].self_attn.head_dim
    products = 2 * 2 * LENGTH * SIZES["num_attention_heads"] * width
    expected = keys + queries * 2 // LENGTH + products
    assert scoring_flops(shape, LENGTH, rows=2, own=5, layer=layer) == expected


def test_a_layer_without_attention_leaves_the_ranking_to_the_next_that_has_it() -> None:
    """None of the ranked keys is one that the deciding layer uses; decisions behind the last are refused."""
    shape = ModelShape.from_config(config_of("lfm2"))
    assert [layer.attention is None for layer in shape.layers] == [True, True, False, True]
    prompt = [PromptSize(5, 20)]
    for stage, own in ((Stage(0, 0.5), 0), (Stage(2, 0.5), 15)):
        ranked = cost(shape, Schedule((stage,), Action.REROUTE), prompt)
        assert ranked.scoring_flops == scoring_flops(shape, 25, own=own, layer=2)
    with pytest.raises(UnsupportedModelError, match="no attention at or after layer 3"):
        cost(shape, Schedule((Stage(3, 0.5),)), prompt)


def test_a_routed_hybrid_costs_its_layers_at_their_own_widths() -> None:
    """Delta nets scan the compact sequence alone, and their states do not grow with it."""
    shape = ModelShape.from_config(config_of("qwen3_5_text", num_hidden_layers=8))
    costs = plan(shape, Schedule((Stage(4, 0.5),)), [PromptSize(56, 144)])
    layers = sum(layer.prefill_flops(200 if index < 4 else 128) for index, layer in enumerate(shape.layers))
    assert costs.routed.widths == (200,) * 4 + (128,) * 4
    assert costs.routed.prefill_flops == layers + lm_head_flops(shape)
    states, dense = costs.routed.kv_bytes, costs.dense.kv_bytes
    assert [states[index] == dense[index] for index in range(8)] == [True] * 7 + [False]


def test_a_window_bounds_what_is_attended_to_and_kept() -> None:
    """Behind its window a step of Mistral costs the same, and the cache holds one position less than it."""
    shape = ModelShape.from_config({"model_type": "mistral"})
    first, later = (decode_flops(shape, [length] * 32, 2) for length in (4095, 9000))
    assert first == later > decode_flops(shape, [4094] * 32, 2)
    assert kv_bytes(shape, 9000) == kv_bytes(shape, 4095) > kv_bytes(shape, 4094)


def test_layers_that_share_keys_attend_to_what_their_source_processed() -> None:
    """Gemma 4's last layers run the prompt's last position on keys whose number is that of the source."""
    shape = ModelShape.from_config(config_of("gemma4_text, keys shared"))
    assert [layer.source for layer in shape.layers] == [None] * 5 + [3, 4, 3]
    dense, routed = (
        cost(shape, schedule, [PromptSize(4, 8)], new_tokens=2)
        for schedule in (Schedule(), Schedule((Stage(4, 0.5),)))
    )
    assert routed.kv_bytes[5:] == (0, 0, 0)
    sliding, full = shape.layers[4], shape.layers[7]
    assert isinstance(full.mixer, Attention)
    fewer = sliding.prefill_flops(12) - sliding.prefill_flops(8)  # and layer 6, a row of 8 keys instead of 12
    fewer += shape.layers[6].prefill_flops(12) - shape.layers[6].prefill_flops(8)
    assert dense.prefill_flops - routed.prefill_flops == fewer


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "qwen3_5_text", "layer_types": ["mlp"] * 32}, "mlp layers is not modelled"),
        ({"model_type": "gemma3_text", "layer_types": ["full_attention"]}, "1 layer_types for 26 layers"),
        ({"model_type": "gemma3_text", "layer_types": "full_attention"}, "must be a list of layer kinds"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "bidirectional windows"),
        ({"model_type": "gemma4_text", "num_kv_shared_layers": 30}, "decoder of this kind"),
        ({"model_type": "gemma4_text", "use_bidirectional_attention": "all"}, "decoder of this kind"),
        ({"model_type": "gemma4_text", "per_layer_config": {"5": {"hidden_size": 8}}}, "own {'hidden_size'}"),
        ({"model_type": "qwen2", "per_layer_config": {"0": {"head_dim": 8}}}, "numbers of their own"),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M?"}, r"\? layers is not modelled"),
        ({"model_type": "qwen3_moe", "mlp_only_layers": 3}, "must be a list of whole numbers"),
        ({"model_type": "ernie4_5_vl_moe_text", "moe_intermediate_size": [1]}, "must be two widths"),
        ({"model_type": "deepseek_v3", "q_lora_rank": 0}, "q_lora_rank must be a positive whole number"),
        ({"model_type": "llama", "num_hidden_layers": 1001}, "1001 layers are more than 1000"),
        ({"model_type": "exaone4", "sliding_window_pattern": "LLLG"}, "sliding_window_pattern must be"),
        ({"model_type": "gemma2", "sliding_window": None}, "sliding_window is missing"),
        ({"model_type": "mamba"}, "mamba: the cost of its layers is not modelled"),
        ({"model_type": "llava", "text_config": {"model_type": "glm4_moe"}}, "glm4_moe: the cost of its"),
    ],
)
def test_layers_that_are_not_known_are_refused(config: dict[str, object], says: str) -> None:
    """With the reason; no number is made up."""
    with pytest.raises(UnsupportedModelError, match=says):
        ModelShape.from_config(config)
