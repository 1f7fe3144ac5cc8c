"""The published Reroute release on tiny seeded models is reproduced, by the engine and by our references."""

import functools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

import routing
from routing.checks.reference import Cut, by_masking, greedy
from routing.checks.runs import TOLERANCE, generate, plan, stored

FIXTURES = Path(__file__).parents[1] / "fixtures" / "parity"
CASES = [
    pytest.param(
        name, case, id=f"{name}-{case['router']}-{case['action']}-{'-'.join(case['stages'])}-{number}"
    )
    for name in ("llava", "qwen3vl")
    for number, case in enumerate(json.loads((FIXTURES / name / "expected.json").read_text())["cases"])
]


@functools.cache
def _model(name: str, attention: str = "sdpa") -> torch.nn.Module:
    folder = FIXTURES / name
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention
    )
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model.eval()


def _inputs(name: str) -> dict:
    return load_file(FIXTURES / name / "inputs.safetensors")


def _cuts(case: dict) -> tuple[Cut, ...]:
    return tuple(Cut(int(layer), ratio) for layer, ratio in case["stages"].items())


def _action(case: dict) -> str:
    return "prune" if case["action"] == "physical_delete" else "reroute"


def _near(logits: torch.Tensor, case: dict) -> bool:
    return bool((logits - torch.tensor(case["last_logits"])).abs().max() <= TOLERANCE)


@pytest.mark.parametrize("name", ["llava", "qwen3vl"])
def test_unrouted_model_reproduces_the_dense_record(name):
    """The models, inputs and framework at hand are those of the fixtures."""
    expected = json.loads((FIXTURES / name / "expected.json").read_text())["dense"]
    ran = generate(_model(name), _inputs(name), 16)
    assert _near(ran.logits[0], expected)
    assert ran.tokens[0] == expected["greedy16"]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_engine_reproduces_the_release(name, case):
    """Kept indices, KV lengths and 16 greedy tokens exactly, last logits within 1e-5."""
    with routing.route(_model(name), plan(_cuts(case), _action(case))) as trace:
        ran = generate(_model(name), _inputs(name), 16)
    kept = {str(stage.layer): stage.kept[0].tolist() for stage in trace.stages}
    assert kept == case["kept"]
    assert [length - 15 for length in stored(ran.cache)] == case["kv_lengths"]  # 15 of 16 were fed back
    assert _near(ran.logits[0], case)
    assert ran.tokens[0] == case["greedy16"]


@pytest.mark.parametrize(("name", "case"), [case for case in CASES if "stagewise" not in case.id])
def test_gathering_reference_reproduces_the_release(name, case):
    """Our layer-by-layer reference is right, independently of the engine."""
    prefill, tokens = greedy(_model(name), _inputs(name), _cuts(case), _action(case) == "reroute", 16)
    assert [list(kept) for kept in prefill.kept] == list(case["kept"].values())
    assert list(prefill.lengths) == case["kv_lengths"]
    assert _near(prefill.logits, case)
    assert tokens == case["greedy16"]


@pytest.mark.parametrize(("name", "case"), [case for case in CASES if "stagewise" not in case.id])
def test_masking_reference_reproduces_the_release(name, case):
    """Our full-length masked reference is right too, though it never gathers a token."""
    prefill = by_masking(_model(name), _inputs(name), _cuts(case), _action(case) == "reroute")
    assert [list(kept) for kept in prefill.kept] == list(case["kept"].values())
    assert _near(prefill.logits, case)


@pytest.mark.parametrize("name", ["llava", "qwen3vl"])
def test_eager_attention_reproduces_the_release_too(name):
    """One case per model with eager attention, where a missing mask would be silently non-causal."""
    case = next(
        case.values[1] for case in CASES if case.values[0] == name and case.values[1]["router"] == "pdrop"
    )
    with routing.route(_model(name, "eager"), plan(_cuts(case), _action(case))) as trace:
        ran = generate(_model(name, "eager"), _inputs(name), 16)
    assert {str(stage.layer): stage.kept[0].tolist() for stage in trace.stages} == case["kept"]
    assert _near(ran.logits[0], case)
    assert ran.tokens[0] == case["greedy16"]
