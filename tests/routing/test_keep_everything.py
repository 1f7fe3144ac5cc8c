"""Keeping every visual token is the unhooked model, to the last bit."""

import pytest
import torch

import routing
from routing.checks.reference import Cut
from routing.checks.runs import ACTIONS, generate, generate_routed, plan
from routing.checks.subjects import ALL, COUSINS, ONE, RAGGED, tiny

EVERYTHING = (Cut(2, 1.0), Cut(4, 1.0))


def _forward(subject, inputs):
    with torch.no_grad():
        return subject.model(**inputs).logits


@pytest.mark.parametrize("samples", [(ONE,), RAGGED], ids=["single", "padded-batch"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ALL)
def test_logits_are_bit_identical(name, attention, samples):
    """All logits of a forward pass, single and left-padded, for both actions."""
    subject = tiny(name, attention)
    inputs = subject.inputs(*samples)
    expected = _forward(subject, inputs)
    for action in ACTIONS:
        with routing.route(subject.model, plan(EVERYTHING, action)):
            assert torch.equal(_forward(subject, inputs), expected)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", [*ALL, *COUSINS])
def test_generation_is_bit_identical(name, action):
    """Greedy tokens and first-step logits of a left-padded batch."""
    subject = tiny(name)
    expected = generate(subject.model, subject.inputs(*RAGGED), 4)
    ran = generate_routed(subject, plan(EVERYTHING, action), *RAGGED, new=4)
    assert ran.tokens == expected.tokens
    assert torch.equal(ran.logits, expected.logits)


@pytest.mark.parametrize("action", ACTIONS)
def test_trace_says_that_everything_was_kept(action):
    """A keep-everything stage still appears in the trace, with all indices."""
    ran = generate_routed(tiny("llava"), plan(EVERYTHING, action), ONE, new=1)
    assert ran.kept() == (tuple(range(25)),) * 2


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "paligemma"])
def test_keep_everything_stage_before_a_real_one_changes_nothing(name, action):
    """(all, then half) equals half alone, bit by bit."""
    subject = tiny(name)
    alone = generate_routed(subject, plan((Cut(4, 0.5),), action), *RAGGED, new=3)
    behind = generate_routed(subject, plan((Cut(2, 1.0), Cut(4, 0.5)), action), *RAGGED, new=3)
    assert behind.kept(1)[1:] == alone.kept(1)
    assert torch.equal(behind.logits, alone.logits)
    assert behind.tokens == alone.tokens


def test_text_only_prompt_is_untouched_under_any_schedule():
    """A prompt without pictures has nothing to reduce: same bits as without the engine."""
    subject = tiny("qwen2_5_vl")
    inputs = subject.inputs((9,))
    expected = _forward(subject, inputs)
    with routing.route(subject.model, plan((Cut(0, 0.5),), "reroute")):
        assert torch.equal(_forward(subject, inputs), expected)
