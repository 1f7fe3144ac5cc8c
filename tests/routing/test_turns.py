"""Conversations: later turns on a routed cache, and other prompts through the same `route`."""

import pytest
import torch

import routing
from routing.checks.reference import Cut, after, greedy
from routing.checks.runs import (
    ACTIONS,
    HALF_THEN_QUARTER,
    close,
    generate,
    generate_routed,
    holding,
    plan,
    stored,
)
from routing.checks.subjects import FIRST_LAYER, ONE, RAGGED, TEXT_ONLY, tiny
from routing.host import cache_of

LAYER_ZERO = (Cut(0, 0.5), Cut(3, 0.25))
FAMILIES = ("llava", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3", "mistral3", "glm4v")
CASES = [
    pytest.param(name, cuts, id=f"{name}-from-{cuts[0].layer}")
    for name in FAMILIES
    for cuts in (HALF_THEN_QUARTER, LAYER_ZERO)
    if cuts[0].layer >= FIRST_LAYER.get(name, 0)
]
QUESTION = [21, 35, 50, 66]


def _next_turn(inputs, answers, question):
    """Inputs of the second turn: the whole conversation in tokens, with the pictures left to the cache."""
    rows = len(answers)
    more = torch.cat([torch.tensor(answers), torch.tensor([question] * rows)], 1)
    turn = {
        "input_ids": torch.cat([inputs["input_ids"], more], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(more)], 1),
    }
    if "mm_token_type_ids" in inputs:
        turn["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(more).int()], 1)
    return turn


def _two_turns(subject, schedule, samples):
    inputs = subject.inputs(*samples)
    with routing.route(subject.model, schedule) as trace:
        first = generate(subject.model, inputs, 3)
        before = stored(first.cache)
        turn = _next_turn(inputs, first.tokens, QUESTION)
        second = generate(subject.model, turn, 4, **holding(first.cache))
    return first, before, second, trace


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("name", "cuts"), CASES)
def test_second_turn_continues_the_routed_cache(name, action, cuts):
    """A text question on the same cache gives what recomputing the conversation with the kept sets gives."""
    subject = tiny(name)
    inputs = subject.inputs(ONE)
    prefill, said = greedy(subject.model, inputs, cuts, action == "reroute", 3)
    tokens = said + QUESTION
    for _ in range(4):
        logits = after(subject.model, inputs, cuts, action == "reroute", prefill.kept, tokens)
        tokens = [*tokens, int(logits.argmax())]
    first, before, second, trace = _two_turns(subject, plan(cuts, action), (ONE,))
    assert first.tokens[0] == said
    assert second.tokens[0] == tokens[7:]
    assert len(trace.prefills) == 1, "the second turn was taken for a prompt with pictures"
    grown = [now - then for now, then in zip(stored(second.cache), before, strict=True)]
    assert grown == [1 + len(QUESTION) + 3] * subject.layers


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "idefics3"])
def test_second_turn_of_a_ragged_batch_equals_single(name):
    """Every row continues its own conversation, a text-only row among them."""
    subject, schedule = tiny(name), plan(HALF_THEN_QUARTER, "reroute")
    batch = _two_turns(subject, schedule, RAGGED)[2]
    for row, sample in enumerate(RAGGED):
        alone = _two_turns(subject, schedule, (sample,))[2]
        assert batch.tokens[row] == alone.tokens[0]
        assert close(batch.logits[row], alone.logits[0])


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "idefics3", "paligemma"])
def test_text_only_prompt_after_a_picture_is_dense(name, action):
    """Nothing of the picture's prompt is remembered: same logits, tokens and cache as without the engine."""
    subject = tiny(name)
    expected = generate(subject.model, subject.inputs(TEXT_ONLY))
    with routing.route(subject.model, plan(HALF_THEN_QUARTER, action)):
        generate(subject.model, subject.inputs(ONE), 2)
        ran = generate(subject.model, subject.inputs(TEXT_ONLY))
    assert ran.tokens == expected.tokens
    assert torch.equal(ran.logits, expected.logits)
    assert stored(ran.cache) == stored(expected.cache)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_prompts_through_one_route_do_not_know_each_other(name):
    """A second prompt with another picture gets what it gets alone, and the trace tells them apart."""
    subject, schedule = tiny(name), plan(HALF_THEN_QUARTER, "reroute")
    other = RAGGED[1]
    alone = generate_routed(subject, schedule, other)
    with routing.route(subject.model, schedule) as trace:
        generate(subject.model, subject.inputs(ONE), 2)
        ran = generate(subject.model, subject.inputs(other))
    assert ran.tokens == alone.tokens
    assert torch.equal(ran.logits, alone.logits)
    assert [prefill.visual_tokens for prefill in trace.prefills] == [
        (subject.visual(ONE),),
        (subject.visual(other),),
    ]
    assert tuple(tuple(stage.kept[0].tolist()) for stage in trace.stages) == alone.kept()


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_two_caches_may_be_decoded_in_turns(name):
    """The state of a prefill lives in its cache: decoding two prompts in turns mixes nothing up."""
    subject, schedule = tiny(name), plan(HALF_THEN_QUARTER, "reroute")
    samples = (
        ONE,
        (5, (3, 4), 6),
    )  # the same picture grid: transformers keeps Qwen's position offset on the model
    alone = [generate_routed(subject, schedule, sample, new=5).tokens[0] for sample in samples]
    with routing.route(subject.model, schedule), torch.no_grad():
        outputs = [subject.model(**subject.inputs(sample), use_cache=True) for sample in samples]
        said = [[int(output.logits[0, -1].argmax())] for output in outputs]
        for _ in range(4):
            for row, output in enumerate(outputs):
                step = subject.model(input_ids=torch.tensor([said[row][-1:]]), **holding(cache_of(output)))
                said[row].append(int(step.logits[0, -1].argmax()))
    assert said == alone
