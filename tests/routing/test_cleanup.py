"""After the `with`, and after an exception inside it, the model is as it was."""

import gc
import weakref

import pytest
import torch

import routing
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, generate, hooks, plan
from routing.checks.subjects import ALL, ONE, RAGGED, fresh, tiny


class _Boom(Exception):
    pass


@pytest.mark.parametrize("name", ALL)
def test_hooks_and_logits_are_as_before(name):
    """The same hook dictionaries and attributes on every module, and bit-identical logits."""
    subject = tiny(name)
    inputs = subject.inputs(*RAGGED)
    before = generate(subject.model, inputs, 2)  # also lets Qwen models note their position offsets
    state = hooks(subject.model)
    for action in ACTIONS:
        with routing.route(subject.model, plan(HALF_THEN_QUARTER, action)):
            generate(subject.model, inputs, 2)
    assert hooks(subject.model) == state
    after = generate(subject.model, inputs, 2)
    assert after.tokens == before.tokens
    assert torch.equal(after.logits, before.logits)


@pytest.mark.parametrize("layer", [0, 3, 5])
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "paligemma"])
def test_exception_in_the_middle_of_a_prefill_leaves_nothing(name, layer):
    """A layer that fails half-way through leaves no hook and no state; the next prompt is right."""
    subject = fresh(name)
    inputs = subject.inputs(ONE)
    expected, state = generate(subject.model, inputs, 2), hooks(subject.model)
    with routing.route(subject.model, plan(HALF_THEN_QUARTER, "reroute")):
        routed = generate(subject.model, inputs, 2)
    layers = [
        module for part, module in subject.model.named_modules() if part.endswith(f"layers.{layer}.mlp")
    ]

    def fail(*_):
        raise _Boom

    handle = layers[-1].register_forward_hook(fail)
    with pytest.raises(_Boom), routing.route(subject.model, plan(HALF_THEN_QUARTER, "reroute")):
        generate(subject.model, inputs, 2)
    handle.remove()
    assert hooks(subject.model) == state
    assert torch.equal(generate(subject.model, inputs, 2).logits, expected.logits)
    with routing.route(subject.model, plan(HALF_THEN_QUARTER, "reroute")):
        assert torch.equal(generate(subject.model, inputs, 2).logits, routed.logits)


def test_prompt_after_a_failed_one_in_the_same_route_is_right():
    """Inside one `with`, a prefill that failed leaves nothing behind for the next prompt."""
    subject = fresh("llava")
    schedule = plan(HALF_THEN_QUARTER, "reroute")
    with routing.route(subject.model, schedule):
        expected = generate(subject.model, subject.inputs(ONE), 3)
    handle = subject.model.model.language_model.layers[4].mlp.register_forward_hook(lambda *_: 1 / 0)
    with routing.route(subject.model, schedule) as trace:
        with pytest.raises(ZeroDivisionError):
            generate(subject.model, subject.inputs(RAGGED[1]), 3)
        handle.remove()
        ran = generate(subject.model, subject.inputs(ONE), 3)
    assert ran.tokens == expected.tokens
    assert torch.equal(ran.logits, expected.logits)
    assert trace.prefills[-1].visual_tokens == (25,)


def _interrupt(*_):
    raise KeyboardInterrupt


def test_text_only_prompt_after_an_interrupted_prefill_runs_untouched():
    """Ctrl-C skips even the hooks that always run; the next prompt must not inherit the prefill it left."""
    subject = fresh("llava")
    text = subject.inputs((30,))
    expected = generate(subject.model, text, 3)
    with routing.route(subject.model, plan(HALF_THEN_QUARTER, "reroute")) as trace:
        handle = subject.model.model.language_model.layers[4].mlp.register_forward_hook(_interrupt)
        with pytest.raises(KeyboardInterrupt):
            generate(subject.model, subject.inputs(ONE), 3)
        handle.remove()
        ran = generate(subject.model, text, 3)
    assert torch.equal(ran.logits, expected.logits)
    assert trace.prefills == ()


def test_exception_of_the_caller_undoes_everything():
    """An exception between two calls, not in the model, undoes the hooks too and passes through."""
    subject = tiny("llava")
    state = hooks(subject.model)
    with pytest.raises(_Boom), routing.route(subject.model, plan(HALF_THEN_QUARTER)):
        raise _Boom
    assert hooks(subject.model) == state


def test_hooks_of_others_survive():
    """A hook that the caller had placed is still there, still called, and called while routed."""
    subject, calls = fresh("llava"), []
    layer = subject.model.model.language_model.layers[3]
    layer.register_forward_pre_hook(lambda *_: calls.append("pre"))
    layer.register_forward_hook(lambda *_: calls.append("post"))
    with routing.route(subject.model, plan(HALF_THEN_QUARTER)), torch.no_grad():
        subject.model(**subject.inputs(ONE))
    with torch.no_grad():
        subject.model(**subject.inputs(ONE))
    assert calls == ["pre", "post"] * 2


def test_weights_configuration_and_mode_are_untouched():
    """No parameter, buffer, configuration entry or training flag changes."""
    subject = fresh("qwen2_5_vl")
    weights = {name: value.clone() for name, value in subject.model.state_dict().items()}
    settings, generation = subject.model.config.to_dict(), subject.model.generation_config.to_dict()
    with routing.route(subject.model, plan(HALF_THEN_QUARTER, "reroute")):
        generate(subject.model, subject.inputs(ONE), 2)
    assert all(torch.equal(value, weights[name]) for name, value in subject.model.state_dict().items())
    assert subject.model.config.to_dict() == settings
    assert subject.model.generation_config.to_dict() == generation
    assert not subject.model.training


def test_same_model_can_be_routed_again_and_again():
    """Two schedules one after the other give what each gives alone."""
    subject = tiny("llava")
    first, second = plan(HALF_THEN_QUARTER, "prune"), plan(HALF_THEN_QUARTER, "reroute")
    runs = []
    for schedule in (first, second, first, second):
        with routing.route(subject.model, schedule):
            runs.append(generate(subject.model, subject.inputs(ONE), 2).logits)
    assert torch.equal(runs[0], runs[2])
    assert torch.equal(runs[1], runs[3])
    assert not torch.equal(runs[0], runs[1])


def test_trace_can_be_read_after_the_block_and_keeps_no_model():
    """The trace outlives the `with`, but does not keep the model's memory alive."""
    subject = fresh("llava")
    with routing.route(subject.model, plan(HALF_THEN_QUARTER)) as trace:
        generate(subject.model, subject.inputs(ONE), 1)
    model = weakref.ref(subject.model)
    del subject
    gc.collect()
    assert len(trace.stages[0].kept[0]) == 12
    assert model() is None
