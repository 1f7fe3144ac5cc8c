"""Caches in the caller's hands: given, forked, reset, filled before or used after the `with`."""

import copy

import pytest
import torch
from transformers import DynamicCache

import routing
from routing.checks.reference import Cut, after, by_gathering
from routing.checks.runs import HALF_THEN_QUARTER, close, generate, generate_routed, holding, plan, stored
from routing.checks.subjects import ONE, TEXT_ONLY, tiny
from routing.host import cache_of

SCHEDULE = plan(HALF_THEN_QUARTER, "reroute")
NAMES = ("llava", "qwen2_5_vl")
STEP = {"input_ids": torch.tensor([[33]])}


def _prefill(subject, sample=ONE):
    with torch.no_grad():
        return cache_of(subject.model(**subject.inputs(sample), use_cache=True))


def _step(subject, cache):
    with torch.no_grad():
        return subject.model(**STEP, **holding(cache)).logits[0, -1]


@pytest.mark.parametrize("name", NAMES)
def test_empty_cache_of_the_caller_is_used(name):
    """A DynamicCache of the caller, made with or without a configuration, is filled like our own."""
    subject = tiny(name)
    own = generate_routed(subject, SCHEDULE, ONE)
    for cache in (DynamicCache(), DynamicCache(config=subject.model.config.get_text_config())):
        ran = generate_routed(subject, SCHEDULE, ONE, **holding(cache))
        assert ran.tokens == own.tokens
        assert stored(cache) == stored(own.cache)


@pytest.mark.parametrize("name", NAMES)
def test_copied_cache_is_independent(name):
    """A deep copy of a routed cache continues on its own: forking a conversation works."""
    subject = tiny(name)
    with routing.route(subject.model, SCHEDULE):
        cache = _prefill(subject)
        fork = copy.deepcopy(cache)
        first = _step(subject, cache)
        assert stored(fork) == [length - 1 for length in stored(cache)]
        assert torch.equal(_step(subject, fork), first)


def _reset_empties():
    cache = DynamicCache()
    cache.update(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), 0)
    cache.reset()
    return cache.get_seq_length() == 0


@pytest.mark.parametrize("cuts", [HALF_THEN_QUARTER, (Cut(0, 0.5),)], ids=["from-2", "from-0"])
@pytest.mark.parametrize("name", NAMES)
def test_reset_cache_is_as_new(name, cuts):
    """After reset() nothing of the routed prompt remains: the next prompts, text or picture, are right."""
    if not _reset_empties():
        pytest.skip("in this transformers reset() zeroes a cache and keeps its length")
    subject, schedule = tiny(name), plan(cuts, "reroute")
    text = generate(subject.model, subject.inputs(TEXT_ONLY), 3)
    picture = generate_routed(subject, schedule, ONE, new=3)
    with routing.route(subject.model, schedule):
        cache = _prefill(subject)
        for inputs, expected in ((subject.inputs(TEXT_ONLY), text), (subject.inputs(ONE), picture)):
            cache.reset()
            assert cache.get_seq_length() == 0
            assert generate(subject.model, inputs, 3, **holding(cache)).tokens == expected.tokens
            seen = inputs["input_ids"].shape[1] + 2
            assert {cache.get_seq_length(layer) for layer in range(subject.layers)} == {seen}


@pytest.mark.parametrize("name", NAMES)
def test_cache_filled_before_the_block_decodes_densely_inside_it(name):
    """A dense prompt stays dense: entering the `with` later changes none of its bits."""
    subject = tiny(name)
    expected = _step(subject, _prefill(subject))
    cache = _prefill(subject)
    with routing.route(subject.model, SCHEDULE):
        assert torch.equal(_step(subject, cache), expected)


@pytest.mark.parametrize("name", NAMES)
def test_single_routed_cache_still_decodes_after_the_block(name):
    """Without padding nothing but the cache itself is needed to go on at the right position."""
    subject = tiny(name)
    with routing.route(subject.model, SCHEDULE):
        cache = _prefill(subject)
    inputs = subject.inputs(ONE)
    kept = by_gathering(subject.model, inputs, HALF_THEN_QUARTER, True).kept
    expected = after(subject.model, inputs, HALF_THEN_QUARTER, True, kept, [33])
    assert close(_step(subject, cache), expected)


def _reordered(cache):
    cache.reorder_cache(torch.tensor([1, 0]))


def _selected(cache):
    cache.batch_select_indices(torch.tensor([1, 0]))


def _repeated(cache):
    cache.batch_repeat_interleave(2)


@pytest.mark.parametrize(
    ("change", "rows"), [(_reordered, [1, 0]), (_selected, [1, 0]), (_repeated, [0, 0, 1, 1])]
)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rows_of_a_ragged_cache_can_be_moved(change, rows, attention):
    """Samples swapped or repeated in a routed cache take their own padding with them."""
    subject, samples = (
        tiny("mistral3", attention),
        ((5, (2, 3), 10), (4, (3, 3), 7)),
    )  # equal length, unequal V
    step = {"input_ids": torch.tensor([[33], [44]]), "attention_mask": torch.ones(2, 24, dtype=torch.long)}
    with routing.route(subject.model, SCHEDULE), torch.no_grad():
        caches = [cache_of(subject.model(**subject.inputs(*samples), use_cache=True)) for _ in range(2)]
        expected = subject.model(**step, **holding(caches[0])).logits
        change(caches[1])
        moved = {name: value[rows] for name, value in step.items()}
        logits = subject.model(**moved, **holding(caches[1])).logits
    assert close(logits, expected[rows])
