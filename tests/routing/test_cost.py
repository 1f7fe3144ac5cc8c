"""Cost arithmetic against torch's own FLOP counter on tiny models, to the last FLOP, and published totals."""

from __future__ import annotations

import pytest
import torch

from routing.checks.counting import Counted, prompts_of, shape_of
from routing.checks.proven import route
from routing.checks.runs import holding
from routing.checks.subjects import ALL, ONE, RAGGED, Sample, Tiny, fresh, tiny
from routing.cost import (
    ModelShape,
    PromptSize,
    cost,
    decode_flops,
    kv_bytes,
    layer_flops,
    layer_widths,
    lm_head_flops,
    plan,
    scoring_flops,
)
from routing.engine import routed
from routing.families import locate
from routing.host import cache_of
from routing.methods.selection import Need
from routing.schedule import Action, Schedule, Stage, VisionStage
from routing.solve import solve
from tests.routing.kinds.truth import subject
from tests.routing.rankings import BY_MORE_THAN_THE_LAST_ROWS
from tests.routing.tiny_vision import looking

LLAVA_7B = {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}}
QWEN25_7B = {
    "model_type": "qwen2_5_vl",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
}
BATCH: tuple[Sample, ...] = ((3, (2, 3), 5), (2, (4, 6), 3, (2, 2), 6), (5, (3, 2), 8))
ROUTED = ("llava", "qwen2_5_vl", "qwen3_vl", "smolvlm", "paligemma")


def grids_of(model: Tiny, inputs: dict[str, torch.Tensor]) -> list[tuple[int, int, int]]:
    """Patch grids of the pictures in the inputs, read from the pixels themselves."""
    if "image_grid_thw" in inputs:
        return [(t, h, w) for t, h, w in inputs["image_grid_thw"].tolist()]
    if model.family == "mistral3":
        return [(1, h // 4, w // 4) for h, w in inputs["image_sizes"].tolist()]
    pixels = inputs["pixel_values"].flatten(0, -4)
    tiles = sum(bool(tile.any()) for tile in pixels)
    return [(1, pixels.shape[-2] // 4, pixels.shape[-1] // 4)] * tiles


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", [*ALL, "vipllava"])
def test_a_dense_prefill_costs_what_torch_counts(name: str, attention: str) -> None:
    """Decoder, lm_head, vision tower and projector of every family, to the last FLOP."""
    model = tiny(name, attention)
    sample: Sample = (4, (4, 6), 7)
    inputs = model.inputs(sample)
    counted = Counted(model, inputs)
    ours = cost(shape_of(model), Schedule(), prompts_of(model, sample), grids=grids_of(model, inputs))
    assert counted.prefill == ours.prefill_flops
    assert counted.vision == ours.vision_flops
    assert counted.scoring == ours.scoring_flops == 0


@pytest.mark.parametrize(
    "name", ["llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v", "smolvlm", "mistral3"]
)
def test_pictures_of_different_sizes_cost_what_torch_counts(name: str) -> None:
    """Several pictures a prompt and several prompts a batch: windows, tiles and padding included."""
    model = tiny(name)
    inputs = model.inputs(*BATCH)
    counted = Counted(model, inputs)
    ours = cost(shape_of(model), Schedule(), prompts_of(model, *BATCH), grids=grids_of(model, inputs))
    assert counted.prefill == ours.prefill_flops
    assert counted.vision == ours.vision_flops


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize("samples", [(ONE,), BATCH], ids=["single", "batch"])
@pytest.mark.parametrize("name", ROUTED)
def test_a_routed_prefill_costs_what_torch_counts(
    name: str, samples: tuple[Sample, ...], action: str, attention: str
) -> None:
    """Routed layers and scoring, each on its own line, for pruning and rerouting."""
    model = tiny(name, attention)
    schedule = Schedule((Stage(2, 0.6), Stage(4, 0.3)), action=action)  # type: ignore[arg-type]
    with route(model.model, schedule):
        counted = Counted(model, model.inputs(*samples))
    ours = cost(shape_of(model), schedule, prompts_of(model, *samples))
    assert counted.scoring == ours.scoring_flops > 0
    assert counted.prefill == ours.prefill_flops


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule((Stage(2, 1.0), Stage(4, 0.5))),
        Schedule((Stage(2, 0.5), Stage(4, 0.5))),
        Schedule((Stage(2, 0.5), Stage(4, 0.5)), action="reroute"),  # type: ignore[arg-type]
        Schedule((Stage(2, 0.5), Stage(4, 0.3, scored_by=3))),
        Schedule((Stage(2, 0.5), Stage(4, 0.3, scored_by=2)), action="reroute"),  # type: ignore[arg-type]
        Schedule((Stage(2, 0.5),), scorer="last_queries_max"),
        Schedule((Stage(2, 0.5),), scorer="random"),
    ],
    ids=["keep-all", "no-choice", "re-chosen", "earlier", "as-early-as-can-be", "three-rows", "random"],
)
def test_stages_are_scored_only_where_they_rank_something(schedule: Schedule) -> None:
    """A stage that keeps everything, or all that is left, is free; a random one always is."""
    model = tiny("qwen2_5_vl")
    with route(model.model, schedule):
        counted = Counted(model, model.inputs(ONE))
    ours = cost(shape_of(model), schedule, prompts_of(model, ONE))
    assert (counted.scoring, counted.prefill) == (ours.scoring_flops, ours.prefill_flops)


@pytest.mark.parametrize(("scorer", "action"), BY_MORE_THAN_THE_LAST_ROWS)
@pytest.mark.parametrize("samples", [(ONE,), BATCH], ids=["single", "batch"])
@pytest.mark.parametrize("name", ROUTED)
def test_rankings_of_other_kinds_cost_what_torch_counts(
    name: str, samples: tuple[Sample, ...], action: str, scorer: str
) -> None:
    """Comparisons with pivots, questions of different lengths, and their rating once a prompt."""
    model = tiny(name)
    stages = Stage(2, 0.6), Stage(4, 0.3, scored_by=3)
    schedule = Schedule(stages, action=action, scorer=scorer)  # type: ignore[arg-type]
    with route(model.model, schedule):
        counted = Counted(model, model.inputs(*samples))
    ours = cost(shape_of(model), schedule, prompts_of(model, *samples))
    assert counted.scoring == ours.scoring_flops > 0
    assert counted.prefill == ours.prefill_flops


@pytest.mark.parametrize("scorer", ["raters", "unlike_pivots"])
@pytest.mark.parametrize("name", ["phi3", "deepseek_v3", "gemma3", "qwen3_5", "lfm2"])
def test_rankings_of_other_kinds_cost_what_torch_counts_in_layers_of_any_make(name: str, scorer: str) -> None:
    """Fused and latent projections, gates, windows, and layers that leave the ranking to the next."""
    model = subject(name)
    schedule = Schedule((Stage(1, 0.6), Stage(3, 0.3, scored_by=2)), scorer=scorer)
    with routed(locate(model.model), schedule):
        counted = Counted(model, model.inputs(*RAGGED))
    ours = cost(shape_of(model), schedule, prompts_of(model, *RAGGED))
    assert counted.scoring == ours.scoring_flops > 0


@pytest.mark.parametrize("action", ["prune", "reroute"])
def test_decoding_and_the_cache_cost_what_is_really_held(action: str) -> None:
    """Each new token attends to what every layer stored; bytes are those of the cache's own tensors."""
    model = fresh("qwen2_5_vl")
    schedule = Schedule((Stage(1, 0.5), Stage(3, 0.25)), action=action)  # type: ignore[arg-type]
    with route(model.model, schedule), torch.no_grad():
        first = Counted(model, model.inputs(ONE))
        cache = cache_of(first.output)
        held = tuple(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        steps = [Counted(model, {"input_ids": torch.tensor([[5]]), **holding(cache)}) for _ in range(2)]
    ours = cost(shape_of(model), schedule, prompts_of(model, ONE), new_tokens=3, element_bytes=4)
    assert ours.kv_bytes == held
    assert ours.decode_flops == sum(step.prefill for step in steps)


def test_llava_7b_decoder_on_640_tokens_is_8_5040_tflops() -> None:
    """The known total of the 32 decoder layers without the lm_head; with its one position it is 8.5043."""
    shape = ModelShape.from_config(LLAVA_7B)
    layers = len(shape.layers) * layer_flops(shape, 640, 640)
    assert layers == 8_504_035_246_080
    assert f"{layers / 1e12:.4f}" == "8.5040"
    assert f"{(layers + lm_head_flops(shape)) / 1e12:.4f}" == "8.5043"


def test_576_visual_tokens_alone_are_the_3_82_tmacs_that_papers_quote() -> None:
    """Multiply-adds of LLaVA-1.5-7B (3.817) and Qwen2.5-VL-7B (3.825) on 576 tokens."""
    for config, total in ((LLAVA_7B, 3.817), (QWEN25_7B, 3.825)):
        shape = ModelShape.from_config(config)
        assert len(shape.layers) * layer_flops(shape, 576, 576) / 2e12 == pytest.approx(total, abs=5e-4)


def test_kv_bytes_of_a_token_are_the_known_ones() -> None:
    """0.5 MiB for LLaVA-1.5-7B and 56 KiB for Qwen2.5-VL-7B, over all layers in float16."""
    llava, qwen = ModelShape.from_config(LLAVA_7B), ModelShape.from_config(QWEN25_7B)
    assert len(llava.layers) * kv_bytes(llava, 1) == 512 * 1024
    assert len(qwen.layers) * kv_bytes(qwen, 1) == 56 * 1024


@pytest.mark.parametrize(
    ("method", "action", "tokens", "tmacs"),
    [("fastv", "prune", 192, 1.255), ("fastv", "reroute", 128, 0.835), ("fastv", "prune", 64, 0.422)],
)
def test_visual_only_cost_of_the_published_budgets(
    method: str, action: str, tokens: int, tmacs: float
) -> None:
    """FastV at 192, 128 and 64 of 576 tokens on LLaVA-1.5-7B, visual tokens only, without scoring."""
    shape = ModelShape.from_config(LLAVA_7B)
    schedule = solve(method, action=action, ratio=1 - tokens / 576, layers=32)
    widths = layer_widths(schedule, [PromptSize(0, 576)], 32)
    assert sum(layer_flops(shape, width, width) for width in widths) / 2e12 == pytest.approx(tmacs, abs=1e-3)


def test_a_plan_compares_with_the_dense_model() -> None:
    """Ratios are routed over dense, scoring included, and a dense schedule costs exactly the dense model."""
    shape = ModelShape.from_config(LLAVA_7B)
    prompts = [PromptSize(64, 576)]
    dense = plan(shape, Schedule(), prompts, new_tokens=32)
    assert (dense.prefill_ratio, dense.kv_ratio) == (1.0, 1.0)
    routed = plan(shape, solve("pdrop", action="reroute", ratio=2 / 3, layers=32), prompts, new_tokens=32)
    assert routed.dense == dense.dense
    taken = (64 + 259, 64 + 259, 64 + 129, 64 + 64)  # the deciding layers' own keys are no extra work
    assert routed.routed.scoring_flops == sum(scoring_flops(shape, 640, own=own) for own in taken)
    assert (
        sum(routed.routed.kv_bytes)
        == 512 * 1024 * 64 + sum((576,) * 2 + (259,) * 13 + (129,) * 8 + (64,) * 9) * 16384
    )
    assert 0 < routed.prefill_ratio < 1
    assert routed.routed.decode_flops < dense.dense.decode_flops
    assert routed.routed.vision_flops is None


def test_a_batch_costs_each_of_its_samples_padded_to_the_longest() -> None:
    """Three equal prompts cost three times one; a shorter one beside a longer costs as much as the longer."""
    shape = ModelShape.from_config(LLAVA_7B)
    schedule = Schedule((Stage(3, 0.25),))
    one = cost(shape, schedule, [PromptSize(64, 576)], new_tokens=4)
    three = cost(
        shape, schedule, [PromptSize(64, 576), PromptSize(60, 576), PromptSize(64, 200)], new_tokens=4
    )
    assert three.prefill_flops == 3 * one.prefill_flops
    assert three.decode_flops == 3 * one.decode_flops
    assert three.kv_bytes == tuple(3 * held for held in one.kv_bytes)


@pytest.mark.parametrize(
    ("name", "scorer", "layer"),
    [
        ("llava", "cls", 0),
        ("llava", "column_mean", 0),
        ("vipllava", "cls", 0),
        ("qwen2_vl", "column_mean", 0),
        ("qwen2_5_vl", "column_mean", 0),
        ("qwen3_vl", "column_mean", 2),
        ("internvl", "cls", 0),
        ("internvl", "column_mean", 0),
        ("idefics3", "column_mean", 0),
        ("smolvlm", "column_mean", 0),
        ("mistral3", "column_mean", 0),
        ("glm4v", "column_mean", 0),
        ("paligemma", "column_mean", 0),
    ],
)
@pytest.mark.parametrize("selection", ["anchors", "looking"])
def test_a_vision_stage_costs_what_torch_counts(name: str, scorer: str, layer: int, selection: str) -> None:
    """What is asked of the tower, and folding tokens into anchors, are a line of their own."""
    model = tiny(name)
    vision = VisionStage(0.5, layer=layer, scorer=scorer, selection=selection)
    schedule = Schedule((Stage(4, 0.25),), action=Action.REROUTE, vision=vision)
    sample: Sample = (4, (1, 4), 7) if name in ("idefics3", "smolvlm") else ONE  # an image of one tile
    inputs = model.inputs(sample)
    with looking(*Need), route(model.model, schedule):
        counted = Counted(model, inputs)
        ours = cost(shape_of(model), schedule, prompts_of(model, sample), grids=grids_of(model, inputs))
    assert ours.anchor_flops
    assert counted.scoring == ours.scoring_flops + ours.anchor_flops
    assert counted.total == ours.prefill_flops + ours.vision_flops + counted.scoring  # type: ignore[operator]


@pytest.mark.parametrize("name", ["llava_next", "llava_onevision"])
def test_anchors_of_tiles_that_are_put_together_have_an_unknown_cost(name: str) -> None:
    """Patch grids of tiles do not say how many tokens there are to choose among."""
    model = tiny(name)
    inputs, schedule = model.inputs(ONE), Schedule(vision=VisionStage(0.5))
    ours = cost(shape_of(model), schedule, prompts_of(model, ONE), grids=grids_of(model, inputs))
    assert ours.vision_flops
    assert ours.anchor_flops is None


def test_anchors_whose_picture_is_unknown_have_an_unknown_cost() -> None:
    """Without grids the vision stage's own work is None, and 0 where there is no vision stage."""
    shape = ModelShape.from_config(LLAVA_7B)
    staged = cost(shape, Schedule(vision=VisionStage(0.5)), [PromptSize(64, 576)])
    assert (staged.anchor_flops, cost(shape, Schedule(), [PromptSize(64, 576)]).anchor_flops) == (None, 0)


def test_ranking_pays_for_the_keys_that_its_layer_does_not_use() -> None:
    """By hand for LLaVA-1.5-7B: 640 - 323 keys, one query, 640 products a head; none of the 323 kept."""
    keys, query, products = 2 * 317 * 4096 * 4096, 2 * 4096 * 4096, 2 * 640 * 4096
    shape = ModelShape.from_config(LLAVA_7B)
    assert scoring_flops(shape, 640, own=323) == keys + query + products


def test_anchors_alone_are_free_to_choose_among_themselves() -> None:
    """A rerouting stage that may keep nothing but all anchors ranks nothing; among all tokens it does."""
    shape = ModelShape.from_config(LLAVA_7B)
    stages, vision = (Stage(16, 0.5),), VisionStage(0.5)
    ranked = [
        cost(shape, Schedule(stages, "reroute", vision=vision, pool=pool), [PromptSize(64, 576)])  # type: ignore[arg-type]
        for pool in ("anchors", "all")
    ]
    assert [entry.scoring_flops for entry in ranked] == [0, scoring_flops(shape, 640, own=64 + 288)]


def test_one_new_token_needs_no_decode_step() -> None:
    """The first new token comes out of the prefill."""
    shape = ModelShape.from_config(LLAVA_7B)
    assert decode_flops(shape, [640] * 32, 1) == 0
    assert decode_flops(shape, [640] * 32, 2) == 32 * layer_flops(shape, 1, 641) + lm_head_flops(shape)
