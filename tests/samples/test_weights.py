"""The embedded model: its size, its format, and that it answers."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor

from reroute_cli.models.pocket import WEIGHTS
from samples.pocket_training.evaluate import Item, Result, evaluate, read_manifest

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="module")
def pocket() -> tuple[Any, Any]:
    """The embedded model and its processor."""
    model = AutoModelForImageTextToText.from_pretrained(WEIGHTS, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(WEIGHTS)


@pytest.fixture(scope="module")
def items() -> list[Item]:
    """The sample questions."""
    return read_manifest(SAMPLES / "manifest.jsonl")


@pytest.fixture(scope="module")
def results(pocket: tuple[Any, Any], items: list[Item]) -> list[Result]:
    """What the embedded model answers to them."""
    return evaluate(*pocket, items)


def test_the_folder_fits_in_20_megabytes() -> None:
    """All files of the embedded model together."""
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) <= 20_000_000


def test_every_weight_is_half_precision() -> None:
    """bfloat16 or float16 throughout, in safetensors, and no other file of weights."""
    with safe_open(WEIGHTS / "model.safetensors", "pt") as file:
        names = file.keys()
        kinds = {file.get_slice(name).get_dtype() for name in names}
    assert kinds <= {"BF16", "F16"}
    assert [path.name for path in WEIGHTS.iterdir() if path.suffix in {".safetensors", ".bin", ".pt"}] == [
        "model.safetensors"
    ]


def test_it_is_an_ordinary_llava() -> None:
    """The configuration names transformers' own architecture and carries no code."""
    config = json.loads((WEIGHTS / "config.json").read_text())
    assert config["model_type"] == "llava"
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert "auto_map" not in config


def test_it_answers_the_sample_questions(results: list[Result]) -> None:
    """At least 40 of the 42 sample questions; 42 when this was written."""
    assert len(results) == 42
    assert sum(result.right for result in results) >= 40


def test_it_finds_the_cup_on_the_desk(results: list[Result]) -> None:
    """The example of the README is answered rightly."""
    result = next(result for result in results if result.item.id == "desk-0")
    assert result.item.question == "where is the cup?"
    assert result.iou is not None
    assert result.iou >= 0.5


def test_a_batch_answers_as_one_by_one(
    pocket: tuple[Any, Any], items: list[Item], results: list[Result]
) -> None:
    """Left padding and the order of asking change no answer."""
    alone = [evaluate(*pocket, [item])[0].answer for item in items[:6]]
    assert alone == [result.answer for result in results[:6]]


def test_every_batch_is_asked_inside_the_context(pocket: tuple[Any, Any], items: list[Item]) -> None:
    """The context is entered and left once a batch."""
    entered = []

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    evaluate(*pocket, items[:3], batch_size=2, context=context)
    assert entered == ["in", "out"] * 2
