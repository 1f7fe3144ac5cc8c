"""Copies of a routed model: deep ones and replicas are routed while the block lasts, pickles are refused."""

import copy
import gc
import io
import pickle  # noqa: TID251  what it does to a routed model is what is tested
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load, save

import routing
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, close, generate, generate_routed, plan
from routing.checks.subjects import ONE, RAGGED, fresh

VISION = routing.VisionStage(keep_ratio=0.5, scorer="column_mean")
SCHEDULES = {
    "decoder": plan(HALF_THEN_QUARTER, "reroute"),
    "vision": plan(HALF_THEN_QUARTER, "prune", vision=VISION),
}


def shaken(model):
    """The model with other weights than those that it was copied with."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_deep_copy_is_routed_with_its_own_weights(kind):
    """As a model with these weights under a block of its own, into the trace of the block it was made in."""
    subject = fresh("qwen2_5_vl")
    with routing.route(subject.model, SCHEDULES[kind]) as trace:
        twin = shaken(copy.deepcopy(subject.model))
        ran = generate(twin, subject.inputs(ONE), 3)
    model = shaken(fresh("qwen2_5_vl").model)
    with routing.route(model, SCHEDULES[kind]) as expected:
        wanted = generate(model, subject.inputs(ONE), 3)
    assert ran.tokens == wanted.tokens
    assert close(ran.logits, wanted.logits)
    assert [stage.kept[0].tolist() for stage in trace.stages] == [s.kept[0].tolist() for s in expected.stages]


def test_a_deep_copy_is_dense_when_the_block_ends():
    """Bit for bit the model that was never routed, and free to be routed, copied and pickled."""
    subject = fresh("llava")
    with routing.route(subject.model, SCHEDULES["decoder"]):
        twin = copy.deepcopy(subject.model)
    expected = generate(fresh("llava").model, subject.inputs(ONE), 3)
    ran = generate(twin, subject.inputs(ONE), 3)
    assert torch.equal(ran.logits, expected.logits)
    with routing.route(twin, SCHEDULES["decoder"]) as trace:
        generate(twin, subject.inputs(ONE), 3)
    assert len(trace.prefills) == 1


def test_a_deep_copy_does_not_keep_the_model_alive():
    """A block that is over holds nothing: the memory of the routed model is free when its owner frees it."""
    model = fresh("llava").model
    with routing.route(model, SCHEDULES["decoder"]):
        twin = copy.deepcopy(model)
    model = weakref.ref(model)
    gc.collect()
    assert model() is None
    assert twin is not None


@pytest.mark.parametrize("dump", [pickle.dumps, lambda model: torch.save(model, io.BytesIO())])
def test_a_routed_model_is_not_pickled(dump):
    """One sentence, since the other process would not be routed; behind the block it works."""
    subject = fresh("llava")
    with (
        routing.route(subject.model, SCHEDULES["decoder"]),
        pytest.raises(routing.RoutingError, match="leave the `with` first"),
    ):
        dump(subject.model)
    dump(subject.model)


def test_weights_of_a_routed_model_can_be_saved():
    """A state dict has nothing of the routing in it."""
    subject = fresh("llava")
    expected = subject.model.state_dict()
    with routing.route(subject.model, SCHEDULES["decoder"]):
        state = load(save(subject.model.state_dict()))
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def replicated(model):
    """A replica as DataParallel makes one for every device: it shares hooks, but no tensors."""
    replicas = {module: module._replicate_for_data_parallel() for module in model.modules()}
    for module, replica in replicas.items():
        for name, child in module.named_children():
            setattr(replica, name, replicas[child])
        for name, parameter in module._parameters.items():
            setattr(replica, name, None if parameter is None else parameter.detach().clone())
        for name, buffer in module.named_buffers(recurse=False):
            setattr(replica, name, buffer.clone())
    return replicas[model]


def last_logits(model, inputs):
    """Logits of the last prompt token, (B, vocabulary)."""
    with torch.no_grad():
        return model(**inputs).logits[:, -1]


@pytest.mark.parametrize("action", ACTIONS)
def test_replicas_run_in_threads_are_routed(action):
    """As DataParallel does it: each sample in a thread of its own, with the logits that it has alone."""
    subject, schedule = fresh("llava"), plan(HALF_THEN_QUARTER, action)
    samples = [sample for sample in RAGGED if subject.visual(sample)]
    expected = [generate_routed(subject, schedule, sample, new=1).logits for sample in samples]
    inputs = [subject.inputs(sample) for sample in samples]
    with routing.route(subject.model, schedule) as trace, ThreadPoolExecutor(len(samples)) as threads:
        ran = list(threads.map(lambda given: last_logits(replicated(subject.model), given), inputs))
    assert len(trace.prefills) == len(samples)
    assert all(close(found, wanted) for found, wanted in zip(ran, expected, strict=True))


def test_data_parallel_is_routed():
    """The wrapper itself; on a machine without GPUs it hands on what it gets."""
    subject = fresh("llava")
    model = torch.nn.DataParallel(subject.model)
    with torch.no_grad():
        expected = model(**subject.inputs(ONE)).logits
        with routing.route(model, SCHEDULES["decoder"]) as trace:
            model(**subject.inputs(ONE))
        assert len(trace.prefills) == 1
        assert torch.equal(model(**subject.inputs(ONE)).logits, expected)
