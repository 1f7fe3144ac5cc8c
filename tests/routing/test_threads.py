"""One routed model may serve several threads: each prompt is routed as if it were alone."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from transformers import AutoModelForImageTextToText

import routing
from reroute_cli.models.pocket import WEIGHTS
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, generate, plan
from routing.checks.subjects import RAGGED, tiny

ROUNDS = 4


def _together(run, jobs):
    """run(job) of every job at once, several rounds of it."""
    start = Barrier(len(jobs))

    def repeat(job):
        start.wait()
        return [run(job) for _ in range(ROUNDS)]

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(repeat, jobs))


@pytest.mark.parametrize("action", ACTIONS)
def test_threads_get_what_each_prompt_gets_alone(action):
    """Different prompts in different threads, inside one route, give the logits and tokens of turns taken."""
    subject = tiny("llava")
    inputs = [subject.inputs(sample) for sample in RAGGED[:2]]
    with routing.route(subject.model, plan(HALF_THEN_QUARTER, action)):
        alone = [generate(subject.model, prompt, 3) for prompt in inputs]
        together = _together(lambda prompt: generate(subject.model, prompt, 3), inputs)
    for expected, runs in zip(alone, together, strict=True):
        assert all(run.tokens == expected.tokens for run in runs)
        assert all(torch.allclose(run.logits, expected.logits, atol=1e-5) for run in runs)


def test_threads_do_not_mix_pictures_of_the_vision_stage():
    """With a reduction at the vision tower, each thread's prompt gets the anchors of its own picture."""
    model = AutoModelForImageTextToText.from_pretrained(WEIGHTS, dtype=torch.float32).eval()
    schedule = routing.solve("nuwa", ratio=0.8, layers=12)
    ids = torch.tensor([[1, 5, *[model.config.image_token_id] * 256, 7, 16, 6]])
    pictures = [torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]

    def run(picture):
        with torch.no_grad():
            return model(input_ids=ids, pixel_values=picture).logits[0, -1]

    with routing.route(model, schedule):
        alone = [run(picture) for picture in pictures]
        together = _together(run, pictures)
    assert not torch.allclose(*alone, atol=1e-3)
    for expected, runs in zip(alone, together, strict=True):
        assert all(torch.allclose(run, expected, atol=1e-4) for run in runs)
