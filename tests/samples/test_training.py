"""The trainer's parts against transformers and against arithmetic."""

import random

import pytest
import torch

from samples.pocket_training.decoder import FRESH, LESSON, Trainer, lesson_weight
from samples.pocket_training.forward import text_bias
from samples.pocket_training.model import new_model
from samples.pocket_training.optimiser import Clock, orthogonalise, rate_factor
from samples.pocket_training.packing import PATCHES, PREFIX, Example, Packer
from samples.pocket_training.scenes import Painter
from samples.pocket_training.tokenizer import new_tokenizer


@pytest.fixture(scope="module")
def example(painter: Painter) -> Example:
    """A batch of one packed scene, no question blind."""
    one = Packer(new_tokenizer(), blind=0.0).pack(painter.paint(3), random.Random(3))
    return {name: value[None] for name, value in one.items()}


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    """A trainer of a random model."""
    torch.manual_seed(0)
    tokenizer = new_tokenizer()
    return Trainer(new_model(tokenizer), tokenizer, FRESH, compiled=False)


def answered(trainer: Trainer, example: Example) -> torch.Tensor:
    """Logits of the packed pass."""
    bias = text_bias(example["block"], example["blind"])
    names = ("tokens", "position", "rows", "targets")
    return trainer._text(trainer._vision(example["pixels"]), bias, *(example[name] for name in names))[0]


@torch.no_grad()
def test_packed_questions_get_what_each_gets_alone(trainer: Trainer, example: Example) -> None:
    """The packed pass gives the logits that transformers' own LLaVA gives for one question at a time."""
    torch.manual_seed(0)
    tokenizer = new_tokenizer()
    model = new_model(tokenizer).eval()
    packed = answered(Trainer(model, tokenizer, FRESH, compiled=False), example)[0]
    blocks = example["block"][0]
    assert int(blocks.max()) >= 5
    for block in range(3):
        rows = blocks == block
        image = torch.full((PATCHES,), model.config.image_token_id)
        ids = torch.cat((torch.tensor([1, 5]), image, example["tokens"][0][rows]))[None]
        alone = model(
            input_ids=ids, pixel_values=example["pixels"], attention_mask=torch.ones_like(ids)
        ).logits
        assert (alone[0, PREFIX:] - packed[rows]).abs().max() < 1e-4


@torch.no_grad()
def test_a_blind_question_does_not_see_the_picture(trainer: Trainer, example: Example) -> None:
    """With every row blind another picture changes nothing; with none blind it changes the answer."""
    other = {**example, "pixels": example["pixels"].flip(-1)}
    asked = example["block"] >= 0
    blind = {"blind": torch.ones_like(example["blind"])}
    assert torch.equal(
        answered(trainer, {**example, **blind})[asked], answered(trainer, {**other, **blind})[asked]
    )
    assert not torch.allclose(answered(trainer, example)[asked], answered(trainer, other)[asked])


def test_a_few_steps_lower_the_loss(example: Example) -> None:
    """Three updates on one example bring the answers' loss down."""
    torch.manual_seed(0)
    tokenizer = new_tokenizer()
    trainer = Trainer(new_model(tokenizer), tokenizer, FRESH, compiled=False)
    clock = Clock(steps=1000, minutes=1000, step=40)
    losses = [trainer.step(example, clock)["answer"] for _ in range(3)]
    assert losses[-1] < losses[0]


def test_labels_are_the_answers_tokens(example: Example) -> None:
    """Read row by row, the labels of each block spell an answer that ends the text."""
    tokenizer = new_tokenizer()
    for block in range(int(example["block"].max()) + 1):
        labels = example["labels"][(example["block"] == block) & (example["labels"] >= 0)]
        if len(labels):
            assert labels[-1] == tokenizer.eos_token_id
            assert (labels[:-1] != tokenizer.eos_token_id).all()


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    """Newton-Schulz brings every singular value of tall and wide matrices into 0.3..1.3."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((2, 96, 32), (2, 32, 96)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=generator)))
        assert values.min() > 0.3
        assert values.max() < 1.3


def test_rates_rise_hold_and_fall() -> None:
    """The factor is 1/10 at the first of ten warm-up steps, 1 in the middle and `final` at the end."""
    assert rate_factor(0, 0.0, warmup=10) == pytest.approx(0.1)
    assert rate_factor(50, 0.5, warmup=10) == 1
    assert rate_factor(99, 1.0, warmup=10, final=0.05) == pytest.approx(0.05)


def test_the_lesson_fades_to_nothing() -> None:
    """The attention loss is whole at first and gone before the end."""
    assert lesson_weight(0.2) == LESSON
    assert lesson_weight(0.9) == 0
