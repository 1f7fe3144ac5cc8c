"""The engine against two slow references, on every supported family."""

from itertools import pairwise

import pytest
import torch

import routing
from routing.checks.reference import Cut, by_gathering, by_masking, decoder, dense, greedy, score
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, close, generate_routed, plan, stored
from routing.checks.subjects import ALL, COUSINS, FIRST_LAYER, ONE, tiny

EVERY_LAYER = tuple(Cut(layer, 0.6 - 0.1 * layer / 2) for layer in range(2, 6))
FROM_LAYER_ZERO = (Cut(0, 0.5), Cut(3, 0.3))
TWO_PICTURES = (2, (3, 3), 3, (2, 4), 6)
MANY_PICTURES = ("llava", "llava_next", "qwen2_vl", "qwen2_5_vl", "idefics3", "mistral3", "internvl")
EMBEDDED_EARLY = tuple(name for name in ALL if name not in FIRST_LAYER)


def _agrees(name, attention, cuts, action, sample=ONE, new=6):
    subject = tiny(name, attention)
    expected, tokens = greedy(subject.model, subject.inputs(sample), cuts, action == "reroute", new)
    ran = generate_routed(subject, plan(cuts, action), sample, new=new)
    assert ran.kept() == expected.kept
    assert [length - (new - 1) for length in stored(ran.cache)] == list(expected.lengths)
    assert close(ran.logits[0], expected.logits)
    assert ran.tokens[0] == tokens
    return ran, expected


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ALL)
def test_two_stages_equal_the_layer_by_layer_reference(name, attention, action):
    """Kept sets, stored lengths, last logits and greedy tokens are those of running each layer by hand."""
    _agrees(name, attention, HALF_THEN_QUARTER, action)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", COUSINS)
def test_cousins_of_the_families_equal_the_reference(name, action):
    """Near relatives under other model types, and Qwen2.5-VL with sliding layers, are routed alike."""
    _agrees(name, "sdpa", HALF_THEN_QUARTER, action, new=4)


@pytest.mark.parametrize("action", ACTIONS)
def test_sliding_layers_stay_sliding(action):
    """Without a cache a prompt longer than the window is routed, each layer with its own gathered mask."""
    subject = tiny("narrow_window")
    inputs = subject.inputs(ONE)
    expected = by_gathering(subject.model, inputs, HALF_THEN_QUARTER, action == "reroute")
    with routing.route(subject.model, plan(HALF_THEN_QUARTER, action)) as trace, torch.no_grad():
        logits = subject.model(**inputs, use_cache=False).logits[0, -1]
    assert tuple(tuple(stage.kept[0].tolist()) for stage in trace.stages) == expected.kept
    assert close(logits, expected.logits)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ALL)
def test_two_references_agree(name, action):
    """Gathering tokens and masking them at full length are the same algebra: neither reference is alone."""
    subject = tiny(name)
    arguments = (subject.model, subject.inputs(ONE), HALF_THEN_QUARTER, action == "reroute")
    one, other = by_gathering(*arguments), by_masking(*arguments)
    assert one.kept == other.kept
    assert close(one.logits, other.logits)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "idefics3", "paligemma", "glm4v"])
def test_routing_at_every_layer_equals_the_reference(name, action):
    """A decision at each layer: every layer gathers anew and, under reroute, tokens come and go."""
    _agrees(name, "sdpa", EVERY_LAYER, action)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "paligemma"])
@pytest.mark.parametrize("action", ACTIONS)
def test_stage_held_over_several_layers_equals_gathering_at_each_of_them(name, action):
    """One compact stage of four layers is the per-layer gather and scatter with the same kept set."""
    subject, cut = tiny(name), Cut(2, 0.4)
    ran = generate_routed(subject, plan((cut,), action), ONE, new=1)
    fixed = ran.kept() * 4
    per_layer = tuple(Cut(layer, 0.4) for layer in range(2, 6))
    expected = by_gathering(subject.model, subject.inputs(ONE), per_layer, action == "reroute", fixed)
    assert close(ran.logits[0], expected.logits)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", EMBEDDED_EARLY)
def test_schedule_may_start_at_layer_zero(name, action):
    """With layer 0 already reduced, the prompt and every decoded token stay at their original positions."""
    _agrees(name, "sdpa", FROM_LAYER_ZERO, action)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "name", ["llava", "llava_next", "qwen2_vl", "qwen2_5_vl", "idefics3", "mistral3", "internvl"]
)
def test_several_pictures_are_one_pool_of_visual_tokens(name, action):
    """Indices run over all pictures of the sample in order, and both pictures compete for the same budget."""
    ran, expected = _agrees(name, "sdpa", HALF_THEN_QUARTER, action, TWO_PICTURES, 4)
    assert len(expected.kept[0]) == tiny(name).visual(TWO_PICTURES) // 2
    assert ran.trace.prefills[-1].visual_tokens == (tiny(name).visual(TWO_PICTURES),)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "glm4v", "paligemma", "ministral3"])
def test_another_layer_may_score(name, action):
    """`scored_by` ranks by that layer's attention on that layer's input: FastV as its authors run it."""
    cuts = (Cut(3, 0.5, 2), Cut(5, 0.25, 4))
    _, expected = _agrees(name, "sdpa", cuts, action, new=3)
    own_scores = tuple(Cut(cut.layer, cut.keep_ratio) for cut in cuts)
    own = by_gathering(tiny(name).model, tiny(name).inputs(ONE), own_scores, action == "reroute")
    assert expected.kept != own.kept, "the sample cannot tell the two conventions apart"


@pytest.mark.parametrize("action", ACTIONS)
def test_stage_may_be_scored_by_the_layer_where_the_stage_before_began(action):
    """The earliest scoring layer allowed: its attention sees what that layer processes."""
    _agrees("llava", "sdpa", (Cut(1, 0.6), Cut(4, 0.3, 1)), action)


@pytest.mark.parametrize("name", ["llava", "qwen3_vl", "internvl"])
def test_reentered_tokens_are_those_deferred_before_and_kept_now(name):
    """The trace's own account of re-entry equals set arithmetic on the reference's kept sets."""
    ran, expected = _agrees(name, "sdpa", EVERY_LAYER, "reroute", new=1)
    told = [set(stage.reentered[0].tolist()) for stage in ran.trace.stages]
    before, after = expected.kept[:-1], expected.kept[1:]
    assert told == [set(), *(set(now) - set(then) for then, now in zip(before, after, strict=True))]
    assert any(told), "no token came back in this sample"


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_pruned_tokens_never_come_back(name):
    """Under prune each kept set is part of the one before."""
    ran, _ = _agrees(name, "sdpa", EVERY_LAYER, "prune", new=1)
    sets = [set(kept) for kept in ran.kept()]
    assert all(now <= then for then, now in pairwise(sets))
    assert not any(len(stage.reentered[0]) for stage in ran.trace.stages)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "glm4v", "paligemma", "ministral3"])
def test_scores_in_the_trace_are_attention_probabilities(name, action):
    """Head mean of the last prompt token's attention over all visible keys; -inf where not a candidate."""
    ran, expected = _agrees(name, "sdpa", HALF_THEN_QUARTER, action, new=1)
    candidates = range(len(expected.scores[0]))
    for stage, kept, scores in zip(ran.trace.stages, expected.kept, expected.scores, strict=True):
        told = stage.scores[0]
        assert all(abs(float(told[index]) - float(scores[index])) < 1e-6 for index in candidates)
        if action == "prune":
            assert all(told[i] == float("-inf") for i in range(len(told)) if i not in candidates)
            candidates = kept


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava"])
def test_score_is_the_last_rows_softmax_recomputed_in_numbers(name):
    """The reference's score itself, by plain matrix products, for layer 0 with RoPE switched off."""
    subject = tiny(name)
    seen = dense(subject.model, subject.inputs(ONE))
    layer = decoder(subject.model).layers[0]
    length = len(seen.hidden[0])
    still = (torch.ones_like(seen.rotary[0]), torch.zeros_like(seen.rotary[1]))  # cos 1, sin 0: no rotation
    given = {"position_embeddings": still, "attention_mask": seen.masks[0][None, None]}
    with torch.no_grad():
        told = score(layer, seen.hidden[0], given)
        x = layer.input_layernorm(seen.hidden[0])
        q = layer.self_attn.q_proj(x)[-1].view(4, 16)
        k = layer.self_attn.k_proj(x).view(length, 2, 16)
    rows = [(q[head] @ k[:, head // 2].T / 4.0).softmax(-1) for head in range(4)]
    assert torch.allclose(told, torch.stack(rows).mean(0), atol=1e-6)


def test_sdpa_and_eager_keep_the_same_tokens():
    """The attention implementation does not change what is kept or said."""
    schedule = plan(HALF_THEN_QUARTER, "reroute")
    runs = [generate_routed(tiny("llava", attention), schedule, ONE) for attention in ("sdpa", "eager")]
    assert runs[0].kept() == runs[1].kept()
    assert runs[0].tokens == runs[1].tokens


def test_dense_schedule_leaves_no_stages():
    """`Schedule()` is the dense model: same logits, an empty trace."""
    subject = tiny("llava")
    ran = generate_routed(subject, routing.Schedule(), ONE)
    expected = by_gathering(subject.model, subject.inputs(ONE), (), False)
    assert ran.trace.stages == ()
    assert close(ran.logits[0], expected.logits)
