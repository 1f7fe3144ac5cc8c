"""Prompts prepared one by one make the batch that a processor would have made of them together."""

import pytest
import torch

import routing
from reroute_cli.data.images import open_image
from reroute_cli.data.prompts import build_prompt, render_template
from reroute_cli.run.batch import collate
from routing.checks.runs import HALF_THEN_QUARTER, plan
from routing.checks.subjects import ALL, COUSINS, ONE, RAGGED, tiny

PICTURED = tuple(sample for sample in RAGGED if any(isinstance(part, tuple) for part in sample))


@pytest.mark.parametrize("name", [*ALL, *COUSINS])
def test_a_collated_batch_answers_like_each_prompt_alone(name):
    """Left padding, pictures of several sizes and numbers of tiles, for every family, under a schedule."""
    subject, schedule = tiny(name), plan(HALF_THEN_QUARTER, "reroute")
    samples = [(5, (2, 3), 10), (2, (4, 4), 3), ONE]
    alone = [_tokens(subject.model, subject.inputs(sample), schedule)[0] for sample in samples]
    batch = collate([subject.inputs(sample) for sample in samples], pad=0)
    assert _tokens(subject.model, batch, schedule) == alone


@pytest.mark.parametrize("name", ["llava", "llava_next", "qwen2_5_vl", "paligemma"])
def test_a_collated_batch_is_the_batch_made_at_once(name):
    """Tensor for tensor what the left-padded batch of the same samples holds."""
    subject = tiny(name)
    made = collate([subject.inputs(sample) for sample in PICTURED], pad=0)
    expected = subject.inputs(*PICTURED)
    assert made.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(made[key], value), key


def test_the_embedded_models_processor_makes_the_same_batch(pocket, drawn, tmp_path):
    """The processor itself, told to pad on the left, is the truth for the embedded model."""
    questions = ["where is the cup?", "is there a red cup in the image?", "where is it?"]
    pictures = []
    for index, size in enumerate([(224, 224), (100, 300), (640, 480)]):
        drawn(size).save(tmp_path / f"{index}.png")
        pictures.append(open_image(str(tmp_path / f"{index}.png")))
    singles = [
        build_prompt(pocket.processor, [picture], words).inputs
        for picture, words in zip(pictures, questions, strict=True)
    ]
    together = pocket.processor(
        images=[picture.pixels for picture in pictures],
        text=[render_template(pocket.processor, words, 1) for words in questions],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    made = collate(singles, pad=pocket.processor.tokenizer.pad_token_id)
    assert made.keys() == together.keys()
    for key, value in together.items():
        assert torch.equal(made[key], value), key


def test_a_prompt_without_a_mask_gets_one():
    """Where a processor gives no attention mask, padding is masked all the same."""
    made = collate([{"input_ids": torch.tensor([[7, 8, 9]])}, {"input_ids": torch.tensor([[5]])}], pad=1)
    assert made["input_ids"].tolist() == [[7, 8, 9], [1, 1, 5]]
    assert made["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]


def _tokens(model, inputs, schedule):
    with routing.route(model, schedule), torch.no_grad():
        made = model.generate(**inputs, do_sample=False, max_new_tokens=5)
    return made[:, inputs["input_ids"].shape[1] :].tolist()
