"""What goes wrong in published code, pinned: each test fails on an implementation with that bug."""

import pytest
import torch

import routing
from routing.checks.reference import Cut
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, close, generate, generate_routed, plan, stored
from routing.checks.subjects import ONE, TEXT_ONLY, tiny

PAIR = ((3, (3, 3), 5), (4, (3, 3), 9))
SINGLE_SHOT = (Cut(2, 0.3),)


@pytest.mark.parametrize("action", ACTIONS)
def test_second_sample_of_a_batch_has_a_selection_of_its_own(action):
    """Reroute release: sample 0's kept tokens were applied to the whole batch."""
    subject, schedule = tiny("qwen2_5_vl"), plan(SINGLE_SHOT, action)
    batch = generate_routed(subject, schedule, *PAIR, new=1)
    alone = [generate_routed(subject, schedule, sample, new=1).kept() for sample in PAIR]
    assert [batch.kept(0), batch.kept(1)] == alone
    assert batch.kept(0) != batch.kept(1)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_is_neither_attended_nor_scored(attention):
    """Reroute release: with the mask dropped, the content of padding changed the answer."""
    subject = tiny("llava", attention)
    inputs = subject.inputs(*PAIR)
    other = {key: value.clone() for key, value in inputs.items()}
    other["input_ids"][inputs["attention_mask"] == 0] = 77
    with routing.route(subject.model, plan(HALF_THEN_QUARTER, "reroute")) as trace:
        one, two = (generate(subject.model, given, 4) for given in (inputs, other))
    assert one.tokens == two.tokens
    assert torch.equal(one.logits, two.logits)
    first, second = (
        [stage.kept[0].tolist() for stage in prefill.stages]
        for prefill in (trace.prefills[0], trace.prefills[-1])
    )
    assert first == second


@pytest.mark.parametrize("action", ACTIONS)
def test_all_pictures_are_routed(action):
    """Reroute release: only the first picture of a prompt was reduced."""
    subject, sample = tiny("llava"), (3, (1, 1), 2, (1, 1), 2, (1, 1), 5)
    ran = generate_routed(subject, plan(SINGLE_SHOT, action), sample, new=1)
    assert stored(ran.cache)[2:] == [12 + int(75 * 0.3)] * 4
    assert {index // 25 for index in ran.kept()[0]} == {0, 1, 2}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_text_only_prompt_after_a_picture_loses_no_text(attention):
    """Reroute release: the stale picture span deleted 26 of 60 text tokens of the next prompt."""
    subject = tiny("llava", attention)
    with routing.route(subject.model, plan(SINGLE_SHOT, "prune")):
        generate(subject.model, subject.inputs(ONE), 1)
        ran = generate(subject.model, subject.inputs((60,)), 1)
    assert stored(ran.cache) == [60] * 6


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "internvl"])
def test_generate_is_routed(name):
    """Reroute release on transformers 5.23: generate() encodes pictures first and was silently not routed."""
    subject = tiny(name)
    ran = generate_routed(subject, plan(SINGLE_SHOT, "prune"), ONE, new=2)
    assert len(ran.trace.prefills) == 1
    assert stored(ran.cache)[2] < stored(ran.cache)[1]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_eager_attention_is_causal(name, action):
    """Reroute release: eager without a mask saw the future. Sdpa's causal kernel is the truth here."""
    logits = []
    for attention in ("sdpa", "eager"):
        subject = tiny(name, attention)
        with routing.route(subject.model, plan(SINGLE_SHOT, action)), torch.no_grad():
            logits.append(subject.model(**subject.inputs(ONE)).logits[0])
    text = tiny(name).inputs(ONE)["input_ids"][0] != tiny(name).model.config.image_token_id
    assert close(logits[0][text], logits[1][text])


def test_cache_is_not_doubled_by_the_scoring_layer():
    """FastV in lmms-eval: the layer that scores ran twice and stored its keys twice."""
    subject = tiny("llava")
    ran = generate_routed(subject, plan((Cut(3, 0.5, 2),), "prune"), ONE, new=1)
    prompt = len(subject.ids(ONE))
    assert stored(ran.cache) == [prompt] * 3 + [prompt - 13] * 3


def test_positions_do_not_shift_when_tokens_are_removed():
    """PyramidDrop renumbered positions: decoding must go on at the length of the prompt, not of the cache."""
    subject, positions = tiny("llava"), []
    handle = subject.model.model.language_model.register_forward_pre_hook(
        lambda _, args, given: positions.append(given["position_ids"]), with_kwargs=True
    )
    try:
        generate_routed(subject, plan((Cut(0, 0.2),), "prune"), ONE, new=4)
    finally:
        handle.remove()
    prompt = len(subject.ids(ONE))
    assert [int(ids[0, -1]) for ids in positions] == [prompt - 1, prompt, prompt + 1, prompt + 2]


def test_kept_counts_follow_each_samples_own_pictures():
    """Published configurations fix one visual count; a ratio is of every sample's own original tokens."""
    samples = ((2, (2, 2), 3), (2, (4, 5), 3), TEXT_ONLY, (2, (6, 7), 3))
    ran = generate_routed(tiny("qwen2_vl"), plan(HALF_THEN_QUARTER, "reroute"), *samples, new=1)
    assert [len(ran.kept(row)[0]) for row in range(4)] == [2, 10, 0, 21]
    assert [len(ran.kept(row)[1]) for row in range(4)] == [1, 5, 0, 10]
