"""Compiled models are routed as the eager model is: hooks stay outside of the graphs."""

import subprocess
import sys

import pytest
import torch

import routing
from routing.checks.reference import decoder
from routing.checks.runs import HALF_THEN_QUARTER, close, generate, plan
from routing.checks.subjects import ONE, fresh

pytestmark = pytest.mark.filterwarnings("ignore")  # dynamo's own, about graph breaks inside the framework
SCHEDULE = plan(HALF_THEN_QUARTER, "reroute")


def _whole(model):
    return torch.compile(model, backend="eager")


def _forward(model):
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def _each_layer(model):
    for layer in decoder(model).layers:
        layer.compile(backend="eager")
    return model


def _wrapped_layers(model):
    layers = decoder(model).layers
    for index, layer in enumerate(layers):
        layers[index] = torch.compile(layer, backend="eager")
    return model


@pytest.mark.parametrize("compile_", [_whole, _forward, _each_layer, _wrapped_layers])
def test_a_compiled_model_is_routed_like_the_eager_one(compile_):
    """Kept sets and greedy tokens exactly, logits within 1e-5, whatever part of the model was compiled."""
    torch._dynamo.reset()
    subject = fresh("llava")
    with routing.route(subject.model, SCHEDULE) as eager:
        expected = generate(subject.model, subject.inputs(ONE), 4)
    model = compile_(subject.model)
    with routing.route(subject.model, SCHEDULE) as trace:
        ran = generate(model, subject.inputs(ONE), 4)
    assert [stage.kept[0].tolist() for stage in trace.stages] == [s.kept[0].tolist() for s in eager.stages]
    assert ran.tokens == expected.tokens
    assert close(ran.logits, expected.logits)


def test_a_model_compiled_inside_the_block_is_routed():
    """Hooks that were placed before dynamo came stay outside of its graphs, too."""
    torch._dynamo.reset()
    subject = fresh("llava")
    with routing.route(subject.model, SCHEDULE):
        expected = generate(subject.model, subject.inputs(ONE), 3)
    with routing.route(subject.model, SCHEDULE):
        ran = generate(_whole(subject.model), subject.inputs(ONE), 3)
    assert ran.tokens == expected.tokens
    assert close(ran.logits, expected.logits)


def test_the_engine_does_not_load_dynamo():
    """Only who compiles pays for it: more than a second of imports."""
    code = "import routing.engine, sys; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
