"""A deciding layer takes over the keys that were projected to rank its tokens: what that must not change."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import routing
from routing.checks.reference import Cut, decoder
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, close, generate, generate_routed, plan
from routing.checks.subjects import ONE, RAGGED, fresh, tiny

EARLY = (Cut(2, 0.5), Cut(4, 0.25, 3))


class _Adapted(torch.nn.Linear):
    """A linear map with something of its own, as adapters and quantised weights are: not fit for no rows."""

    def forward(self, states):
        assert states.shape[-2]
        return super().forward(states)


def _rows_projected(subject, schedule):
    """Rows that each layer's k_proj multiplies in one prefill, wherever it is called from."""
    counter = FlopCounterMode(display=False)
    with routing.route(subject.model, schedule), torch.no_grad(), counter:
        subject.model(**subject.inputs(ONE))
    counts = counter.get_flop_counts()
    found = []
    for index, layer in enumerate(decoder(subject.model).layers):
        weight = layer.self_attn.k_proj.weight
        flops = [sum(c.values()) for name, c in counts.items() if name.endswith(f"{index}.self_attn.k_proj")]
        found.append(max(flops) // (2 * weight.numel()))
    return found


@pytest.mark.parametrize(
    ("action", "cuts", "rows"),
    [
        ("prune", HALF_THEN_QUARTER, [36, 36, 36, 23, 23, 17]),
        ("reroute", HALF_THEN_QUARTER, [36, 36, 36, 23, 36, 17]),
        ("prune", EARLY, [36, 36, 36, 23, 17, 17]),
        ("reroute", EARLY, [36, 36, 36, 36, 17, 17]),
        ("reroute", (Cut(2, 0.5), Cut(4, 0.25, 2)), [36, 36, 36, 23, 17, 17]),
    ],
    ids=["prune", "reroute", "prune-early", "reroute-early", "reroute-two-at-one-layer"],
)
def test_every_layer_projects_each_key_once(action, cuts, rows):
    """11 text and 25 visual tokens, 12 and then 6 kept: a deciding layer projects its candidates, no more."""
    assert _rows_projected(tiny("llava"), plan(cuts, action)) == rows


def _same(left, right):
    return left.kept() == right.kept() and left.tokens == right.tokens and close(left.logits, right.logits)


@pytest.mark.parametrize("samples", [(ONE,), RAGGED], ids=["single", "batch"])
@pytest.mark.parametrize("cuts", [HALF_THEN_QUARTER, EARLY], ids=["own", "early"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "ministral3"])
def test_an_adapted_projection_runs_whole_and_gives_the_same(name, action, cuts, samples):
    """Keys projected by anything but a plain linear map are not shared; tokens, choice and logits agree."""
    shared = generate_routed(tiny(name), plan(cuts, action), *samples)
    subject = fresh(name)
    for layer in decoder(subject.model).layers:
        layer.self_attn.k_proj.__class__ = _Adapted
    assert _same(generate_routed(subject, plan(cuts, action), *samples), shared)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_watched_projection_is_called_as_ever(action):
    """Who hooks a deciding layer's k_proj sees all candidates, then all rows of the layer, never none."""
    subject, rows = fresh("llava"), []
    k_proj = decoder(subject.model).layers[2].self_attn.k_proj
    k_proj.register_forward_hook(lambda _module, _args, output: rows.append(output.shape[-2]))
    watched = generate_routed(subject, plan(HALF_THEN_QUARTER, action), ONE, new=1)
    assert rows == [36, 23]
    assert _same(watched, generate_routed(tiny("llava"), plan(HALF_THEN_QUARTER, action), ONE, new=1))


def test_a_wrapped_projection_is_called_as_ever():
    """Offloading libraries replace forward on the instance: theirs gets the layer's own rows."""
    subject, rows = fresh("llava"), []
    k_proj = decoder(subject.model).layers[2].self_attn.k_proj
    forward = k_proj.forward

    def wrapped(states):
        rows.append(states.shape[-2])
        return forward(states)

    k_proj.forward = wrapped
    generate_routed(subject, plan(HALF_THEN_QUARTER), ONE, new=1)
    assert rows == [36, 23]


def _gradients(subject, schedule):
    inputs = subject.inputs(*RAGGED)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    with routing.route(subject.model, schedule):
        subject.model(**inputs, labels=labels).loss.backward()
    return {name: p.grad for name, p in subject.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("action", ACTIONS)
def test_shared_keys_carry_gradients(action):
    """Training through a routed prefill gives every weight the gradient that it has without sharing."""
    schedule = plan(HALF_THEN_QUARTER, action)
    shared, whole = fresh("llava"), fresh("llava")
    for layer in decoder(whole.model).layers:
        layer.self_attn.k_proj.__class__ = _Adapted
    expected = _gradients(whole, schedule)
    found = _gradients(shared, schedule)
    assert found.keys() == expected.keys()
    assert any("layers.2.self_attn.k_proj" in name for name in found)
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name], atol=1e-5), name


@pytest.mark.parametrize("action", ACTIONS)
def test_an_interrupted_layer_leaves_no_keys_behind(action):
    """A layer that fails between ranking and its own keys does not hand them to the next prompt."""
    subject, schedule = fresh("llava"), plan(HALF_THEN_QUARTER, action)
    expected = generate_routed(subject, schedule, RAGGED[1])
    q_proj = decoder(subject.model).layers[2].self_attn.q_proj
    calls = []

    def fail_second(_module, _args):
        calls.append(1)
        if len(calls) == 2:  # the first is the ranking's
            raise InterruptedError

    with routing.route(subject.model, schedule) as trace:
        handle = q_proj.register_forward_pre_hook(fail_second)
        with pytest.raises(InterruptedError):
            generate(subject.model, subject.inputs(ONE))
        handle.remove()
        ran = generate(subject.model, subject.inputs(RAGGED[1]))
        kept = tuple(tuple(stage.kept[0].tolist()) for stage in trace.stages)
    assert kept == expected.kept()
    assert ran.tokens == expected.tokens
    assert torch.equal(ran.logits, expected.logits)
