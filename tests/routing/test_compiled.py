"""Compiled models are routed as eager ones are, also when they ran before; compiled layers run compiled."""

import shutil
import subprocess
import sys

import pytest
import torch
from transformers import CONFIG_MAPPING

import routing
from routing.checks.configs import SUPPORTED, from_configuration
from routing.checks.reference import Cut, decoder
from routing.checks.runs import close, generate, plan
from routing.checks.subjects import ONE, Tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # dynamo's own, about graph breaks inside the framework
SCHEDULE = plan((Cut(1, 0.5), Cut(3, 0.25)), "reroute")
COMPILED = (1, 2)  # layers, a ranking one and a routed one
LONGER, SHORTER = (6, (3, 4), 12), (2, (3, 4), 3)


def fresh(name):
    """A model of its own of that family, of four layers instead of six: compiling takes long."""
    settings = SUPPORTED[name]()
    text = settings["text_config"] | {"num_hidden_layers": 4}
    config = CONFIG_MAPPING[name](**settings | {"text_config": text})
    return Tiny(name, from_configuration(config, "sdpa"))


class Backend:
    """A backend of torch.compile that runs graphs as they are, and counts graphs and their runs."""

    def __init__(self):
        self.graphs = self.runs = 0

    def __call__(self, graph, _examples):
        self.graphs += 1

        def run(*args):
            self.runs += 1
            return graph.forward(*args)

        return run


@pytest.fixture
def backend():
    """A counting backend in a process without compiled code, and with room for a graph of every layer."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=64):
        yield Backend()


def _model(model, backend):
    return torch.compile(model, backend=backend)


def _forward(model, backend):
    model.forward = torch.compile(model.forward, backend=backend)
    return model


def _base(model, backend):
    model.model.compile(backend=backend)
    return model


def _decoder(model, backend):
    model.model.language_model = torch.compile(model.model.language_model, backend=backend)
    return model


def _layers(model, backend):
    for index in COMPILED:
        decoder(model).layers[index].compile(backend=backend, fullgraph=True)
    return model


def _wrapped_layers(model, backend):
    layers = decoder(model).layers
    for index in COMPILED:
        layers[index] = torch.compile(layers[index], backend=backend)
    return model


WHOLES = [_model, _forward, _base, _decoder]
LAYERS = [_layers, _wrapped_layers]


def same(model, subject, sample=ONE):
    """Assert that `model`, compiled from the subject's, gives what an eager twin gives, routed."""
    twin = fresh("llava")
    with routing.route(twin.model, SCHEDULE) as eager, torch.no_grad():
        expected = twin.model(**twin.inputs(sample)).logits
    with routing.route(subject.model, SCHEDULE) as trace, torch.no_grad():
        logits = model(**subject.inputs(sample)).logits
    assert [stage.kept[0].tolist() for stage in trace.stages] == [s.kept[0].tolist() for s in eager.stages]
    assert close(logits, expected)


@pytest.mark.parametrize("compile_", [*WHOLES, *LAYERS])
def test_a_compiled_model_is_routed_like_the_eager_one(compile_, backend):
    """Kept sets exactly, logits within 1e-5, although graphs without hooks were there before."""
    subject = fresh("llava")
    model = compile_(subject.model, backend)
    with torch.no_grad():
        model(**subject.inputs(ONE))
    same(model, subject)


@pytest.mark.parametrize("compile_", [_forward, *LAYERS])
def test_a_compiled_model_decodes_like_the_eager_one(compile_, backend):
    """Greedy tokens exactly, logits within 1e-5, on the routed cache."""
    subject, twin = fresh("llava"), fresh("llava")
    model = compile_(subject.model, backend)
    generate(model, subject.inputs(ONE), 2)
    with routing.route(twin.model, SCHEDULE):
        expected = generate(twin.model, twin.inputs(ONE), 4)
    with routing.route(subject.model, SCHEDULE):
        ran = generate(model, subject.inputs(ONE), 4)
    assert ran.tokens == expected.tokens
    assert close(ran.logits, expected.logits)


@pytest.mark.parametrize("compile_", LAYERS)
def test_compiled_layers_run_compiled(compile_, backend):
    """In a routed prefill each of them is one run of a graph."""
    subject = fresh("llava")
    compile_(subject.model, backend)
    with routing.route(subject.model, SCHEDULE), torch.no_grad():
        subject.model(**subject.inputs(ONE))
    assert backend.runs == len(COMPILED)


@pytest.mark.parametrize("compile_", LAYERS)
def test_prompts_of_other_lengths_compile_nothing_more(compile_, backend):
    """The first two prompts make all graphs; more routes, stages and prompts of other lengths make none."""
    subject = fresh("llava")
    compile_(subject.model, backend)
    for sample in (ONE, LONGER):
        generate(subject.model, subject.inputs(sample), 3)
        with routing.route(subject.model, SCHEDULE):
            generate(subject.model, subject.inputs(sample), 3)
    made = backend.graphs
    assert made <= 6 * len(COMPILED)
    for sample in (SHORTER, (7, (3, 4), 21)):
        generate(subject.model, subject.inputs(sample), 3)
        with routing.route(subject.model, SCHEDULE):
            generate(subject.model, subject.inputs(sample), 3)
    assert backend.graphs == made


def test_a_compiled_vision_tower_runs_compiled(backend):
    """What holds no hook keeps its graphs inside the block."""
    subject = fresh("llava")
    subject.model.model.vision_tower.compile(backend=backend)
    same(subject.model, subject)
    assert backend.runs


def test_a_compiled_model_runs_compiled_again_behind_the_block(backend):
    """Its dense graphs are used, none is made, and the dense results are those of before."""
    subject = fresh("llava")
    model = _model(subject.model, backend)
    with torch.no_grad():
        expected = model(**subject.inputs(ONE)).logits
    made, runs = backend.graphs, backend.runs
    with pytest.raises(ZeroDivisionError), routing.route(subject.model, SCHEDULE):
        raise ZeroDivisionError
    with torch.no_grad():
        logits = model(**subject.inputs(ONE)).logits
    assert torch.equal(logits, expected)
    assert (backend.graphs, backend.runs) == (made, 2 * runs)


def test_a_compiled_model_is_routed_until_its_own_block_ends(backend):
    """The end of another model's block, opened before it and closed within it, changes nothing."""
    subject, other = fresh("llava"), fresh("qwen2_vl")
    model = _decoder(subject.model, backend)
    with torch.no_grad():
        model(**subject.inputs(ONE))
    first = routing.route(other.model, SCHEDULE)
    first.__enter__()
    with routing.route(subject.model, SCHEDULE) as trace, torch.no_grad():
        first.__exit__(None, None, None)
        model(**subject.inputs(ONE))
    assert len(trace.prefills) == 1


def test_a_model_compiled_inside_the_block_is_routed(backend):
    """Hooks that were placed before dynamo came stay outside of its graphs, too."""
    subject = fresh("llava")
    with routing.route(subject.model, SCHEDULE):
        expected = generate(subject.model, subject.inputs(ONE), 3)
    with routing.route(subject.model, SCHEDULE):
        ran = generate(_forward(subject.model, backend), subject.inputs(ONE), 3)
    assert ran.tokens == expected.tokens
    assert close(ran.logits, expected.logits)


@pytest.mark.skipif(shutil.which("g++") is None, reason="!!! NO C++ COMPILER: inductor WAS NOT TRIED")
def test_layers_compiled_by_inductor_are_routed(backend):
    """The backend that people use, on the CPU: kept sets exactly, logits within 1e-5."""
    subject = fresh("llava")
    decoder(subject.model).layers[COMPILED[0]].compile(dynamic=True)
    same(subject.model, subject)


def test_the_engine_does_not_load_dynamo():
    """Only who compiles pays for it: more than a second of imports."""
    code = "import routing.engine, sys; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
