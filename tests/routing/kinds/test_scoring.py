"""Ranking by layers of any make: fused and latent projections, norms, sinks, softcaps, gates."""

import pytest
import torch

import routing
from routing.checks.reference import Cut
from routing.checks.runs import ACTIONS, close, generate_routed, plan
from routing.checks.subjects import ONE, RAGGED
from routing.engine import routed
from routing.families import locate
from tests.routing.kinds.truth import by_hand, subject

DECODERS = (  # behind the same tower
    "phi3",  # q, k and v in one projection
    "deepseek_v3",  # keys from a latent, positions in a part of their own, experts
    "mistral4",  # the same, with queries scaled by position
    "gpt_oss",  # sinks, windows, experts
    "gemma2",  # softcapped scores, windows, norms on both sides
    "qwen3_next",  # gated queries with norms, between linear attention
    "cohere",  # attention and MLP side by side, rotated in pairs
    "glm4",  # half of each head rotated
)
CUTS = (Cut(1, 0.6), Cut(4, 0.3))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", DECODERS)
def test_scores_are_the_attention_that_the_layer_itself_returns(name, action):
    """Head mean of the last token's attention in the unmodified eager layer, on the input at the decision."""
    model = subject(name)
    expected = by_hand(model.model, model.inputs(ONE), CUTS, action == "reroute")
    ran = generate_routed(model, plan(CUTS, action), ONE, new=1)
    assert ran.kept() == expected.kept
    for stage, scores in zip(ran.trace.stages, expected.scores, strict=True):
        candidates = stage.scores[0] > float("-inf")
        assert torch.allclose(stage.scores[0][candidates], scores[candidates], atol=1e-6)
    assert close(ran.logits[0], expected.logits)


@pytest.mark.parametrize("name", DECODERS)
def test_a_batch_ranks_each_sample_as_alone(name):
    """Padding changes no score: kept sets of a ragged batch are those of its samples."""
    model, schedule = subject(name), plan(CUTS, "reroute")
    batch = generate_routed(model, schedule, *RAGGED, new=2)
    for row, sample in enumerate(RAGGED):
        if model.visual(sample):
            assert batch.kept(row) == generate_routed(model, schedule, sample, new=2).kept()


def _rows_of(model, words):
    """Notes (module, rows) of every module of the decoder whose name ends so, while it runs."""
    found, handles = [], []
    for name, module in model.model.named_modules():
        if name.split(".")[-1] in words and ".layers." in name:

            def note(_module, args, kwargs, name=name):
                rows = next(iter((*args, *kwargs.values())))
                found.append((int(name.split(".layers.")[1].split(".")[0]), rows.flatten(0, -2).shape[0]))

            handles.append(module.register_forward_pre_hook(note, with_kwargs=True))
    return found, handles


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["qwen3_5_moe", "deepseek_v3", "gpt_oss"])
def test_routers_and_experts_see_the_routed_rows_alone(name, action):
    """Text and kept tokens of each stage, once a layer; none of what ranks, none of what is deferred."""
    model = subject(name)
    found, handles = _rows_of(model, ("gate", "router", "experts", "shared_expert", "shared_experts"))
    try:
        with routed(locate(model.model), plan(CUTS, action)), torch.no_grad():
            model.model(**model.inputs(ONE))
    finally:
        for handle in handles:
            handle.remove()
    text, visual = 11, 12
    widths = [text + visual] + [text + int(visual * 0.6)] * 3 + [text + int(visual * 0.3)] * 2
    assert len({rows for _, rows in found}) >= 2
    assert all(rows == widths[index] for index, rows in found)


def test_positions_that_a_layer_counts_by_itself_are_refused_where_they_matter():
    """Llama 4 scales queries by their row's number, from 8192 tokens on: no longer prompt can be compact."""
    model = subject("llama4")
    text = model.model.config.get_text_config()
    assert text.attn_temperature_tuning
    for layer in locate(model.model).layers:
        layer.self_attn.floor_scale, before = 16, layer.self_attn.floor_scale
    try:
        with (
            pytest.raises(routing.UnsupportedInputError, match=r"23 tokens.*16"),
            routed(locate(model.model), plan(CUTS)),
            torch.no_grad(),
        ):
            model.model(**model.inputs(ONE))
    finally:
        for layer in locate(model.model).layers:
            layer.self_attn.floor_scale = before
