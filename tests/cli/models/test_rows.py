"""Rows that have ended leave the batch: what is computed, and that nobody's answer changes by it."""

import pytest
import torch
from transformers import StaticCache

from reroute_cli.models.rows import without_ended_rows
from routing.cache import keep_samples, keeps_samples
from routing.checks.reference import Cut
from routing.checks.runs import HALF_THEN_QUARTER, generate, holding, hooks, plan
from routing.checks.subjects import RAGGED, tiny
from routing.engine import routed
from routing.families import locate
from routing.schedule import Schedule
from tests.routing.kinds.truth import subject

EARLY = (Cut(0, 0.5), Cut(2, 0.25))  # fits every kind of layer, but for images that layers 0 and 1 add to
DENSE = Schedule()
MOST = 14  # beyond any window
FAMILIES = ("llava", "qwen2_5_vl", "qwen3_vl", "idefics3", "paligemma", "ministral3", "wide_window")
KINDS = ("gemma3", "mistral", "llama4", "qwen3_5", "lfm2", "nemotron", "gemma4")
EVERY = [pytest.param(tiny, name, HALF_THEN_QUARTER, id=name) for name in FAMILIES]
EVERY += [pytest.param(subject, name, EARLY, id=f"kind-{name}") for name in KINDS]


def until(tokens, ends):
    """Tokens up to the first end token, and it."""
    return tokens[: next((place + 1 for place, token in enumerate(tokens) if token in ends), len(tokens))]


def ends_of(answers):
    """End tokens under which these answers, none of which ends by itself, are of several lengths.

    Two tokens are tried at a time: of all pairs, the first under which most lengths are different.
    """
    tokens = sorted({token for answer in answers for token in answer})
    pairs = [{one, other} for one in tokens for other in tokens]
    return max(pairs, key=lambda ends: len({len(until(answer, ends)) for answer in answers}))


def alone(one, schedule=DENSE):
    """What each prompt is answered by itself, at the full length."""
    with routed(locate(one.model), schedule):
        return [generate(one.model, one.inputs(sample), MOST).tokens[0] for sample in RAGGED]


def watched(model, ends, schedule, inputs, **more):
    """Answers without ended rows, each up to its end, and how many rows each decoding step computed."""
    rows = []
    handle = locate(model).base.register_forward_pre_hook(
        lambda _module, _args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    try:
        with routed(locate(model), schedule), without_ended_rows(model, ends):
            ran = generate(model, inputs, MOST, eos_token_id=sorted(ends), pad_token_id=0, **more)
    finally:
        handle.remove()
    return [until(answer, ends) for answer in ran.tokens], rows[1:]


@pytest.mark.parametrize("routes", [False, True], ids=["dense", "routed"])
@pytest.mark.parametrize(("made", "name", "cuts"), EVERY)
def test_each_row_gets_what_it_gets_alone_and_no_step_more(made, name, cuts, routes):
    """Ragged prompts, every kind of cache: a row of n tokens is in n - 1 decoding steps, with its own ids."""
    one, schedule = made(name), plan(cuts, "reroute") if routes else DENSE
    answers = alone(one, schedule)
    ends = ends_of(answers)
    expected = [until(answer, ends) for answer in answers]
    found, steps = watched(one.model, ends, schedule, one.inputs(*RAGGED))
    assert found == expected
    assert len(set(map(len, expected))) > 1, "all rows end together: nothing is tested"
    assert sum(steps) == sum(len(answer) - 1 for answer in expected)
    assert steps == sorted(steps, reverse=True)


def test_all_rows_stay_in_a_cache_that_can_not_lose_any():
    """A static cache is of one batch size: every step computes all rows, and the answers are the same."""
    one = tiny("llava")
    ends = ends_of(alone(one))
    inputs = one.inputs(*RAGGED)
    free, _ = watched(one.model, ends, DENSE, inputs)
    room = inputs["input_ids"].shape[1] + MOST
    cache = StaticCache(config=one.model.config.get_text_config(), max_cache_len=room)
    fixed, steps = watched(one.model, ends, DENSE, inputs, **holding(cache))
    assert fixed == free
    assert set(steps) == {len(RAGGED)}


def test_all_rows_stay_where_a_step_is_told_something_unknown():
    """A tensor whose rows nobody has named here might be anybody's."""
    one = tiny("qwen2_5_vl")
    answers = alone(one)
    ends = ends_of(answers)
    prepare, unknown = one.model.prepare_inputs_for_generation, torch.zeros(len(RAGGED), 1)
    one.model.prepare_inputs_for_generation = lambda *args, **kwargs: (
        prepare(*args, **kwargs) | {"second_per_grid_ts": unknown}
    )
    try:
        found, steps = watched(one.model, ends, DENSE, one.inputs(*RAGGED))
    finally:
        del one.model.prepare_inputs_for_generation
    assert found == [until(answer, ends) for answer in answers]
    assert set(steps) == {len(RAGGED)}


def test_an_end_token_in_a_prompt_ends_nothing():
    """Prompts whose last token is an end token are answered, up to one of their own."""
    one = tiny("llava")
    answers = alone(one)
    last = one.inputs(RAGGED[0])["input_ids"][0, -1].item()
    ends = ends_of(answers) | {last}
    found, steps = watched(one.model, ends, DENSE, one.inputs(*RAGGED))
    assert found == [until(answer, ends) for answer in answers]
    assert sum(steps) == sum(len(answer) - 1 for answer in found)


@pytest.mark.parametrize("name", ["qwen3_5", "gemma3"])
def test_a_cache_keeps_the_very_numbers_of_the_samples_that_stay(name):
    """Keys, values and states of samples 2 and 0, bit by bit; a cache of another kind says that it can't."""
    one = subject(name)
    cache = generate(one.model, one.inputs(*RAGGED), 3).cache

    def held():
        both = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in cache.layers]
        states = [
            getattr(layer, kind, {}) for layer in cache.layers for kind in ("conv_states", "recurrent_states")
        ]
        return [t for pair in both for t in pair if t is not None] + [t for s in states for t in s.values()]

    before = [tensor.clone() for tensor in held()]
    assert keeps_samples(cache)
    keep_samples(cache, [2, 0])
    assert all(torch.equal(now, then[[2, 0]]) for now, then in zip(held(), before, strict=True))
    static = StaticCache(config=one.model.config.get_text_config(), max_cache_len=9)
    assert not keeps_samples(static)


def test_the_model_is_as_before_after_the_block():
    """No hook is left, also where the block ended in an exception."""
    model = tiny("llava").model
    before = hooks(model)
    with pytest.raises(ZeroDivisionError), without_ended_rows(model, {1}):
        _ = 1 / 0
    assert hooks(model) == before
