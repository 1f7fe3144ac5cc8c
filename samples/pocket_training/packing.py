"""Training examples of the decoder: one picture, about ten questions packed behind it.

Each question is a block that sees the picture and itself only. Most blocks are blind: until ASSISTANT:
their tokens do not see the picture, so what the picture shows must be looked up late, at the last prompt
token, as in large models, and not while the question is read. Knows scenes, questions and tokens; knows
nothing of models.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerFast

from samples.pocket_training.questions import BOX_KINDS, KINDS, Question, all_questions, pick
from samples.pocket_training.scenes import GRID, TRAINING, Painter, Scene
from samples.pocket_training.tokenizer import new_tokenizer
from samples.pocket_training.tower import IGNORE, centre_patches, normalise, patch_counts, patch_kinds

PATCHES = GRID * GRID
PREFIX = 2 + PATCHES
"""<s> USER: and the visual tokens."""
TEXT = 174
ROWS = 48
"""Rows a picture whose attention may be supervised."""
FIRST = {"where": 3, "size": 1, "side": 1, "relation": 1, "exists": 2, "count": 1, "region": 1, "beside": 1}
"""How many questions of a kind are packed before the rest fills what room is left."""
SEEN_PIXELS = 20
Example = dict[str, Tensor]


@dataclass(frozen=True)
class Packer:
    """Packs questions; `blind` is the share of blocks whose question does not see the picture."""

    tokenizer: PreTrainedTokenizerFast
    blind: float

    def pack(self, scene: Scene, chance: random.Random) -> Example:
        """Tensors of one example: see `blank` for names and shapes."""
        counts = patch_counts(scene)
        example = blank()
        example["pixels"] = normalise(scene.pixels)
        example["kinds"] = torch.from_numpy(patch_kinds(counts, scene))
        start, row = 0, 0
        questions = self._order(scene, chance)
        for block, (question, prompt, answer) in enumerate(
            zip(questions, *self._encode(questions), strict=True)
        ):
            length = len(prompt) + len(answer) - 1
            if start + length > TEXT or row + 5 > ROWS:
                continue
            blind = chance.random() < self.blind
            _write(example, start, block, prompt, answer, blind, KINDS.index(question.kind))
            row = _supervise(
                example, row, start + len(prompt) - 1, question, target_patches(question, counts, scene)
            )
            start += length
        return example

    def _order(self, scene: Scene, chance: random.Random) -> list[Question]:
        asked = all_questions(scene, chance)
        first = pick(asked, FIRST)
        return first + [question for question in asked if question not in first]

    def _encode(self, questions: list[Question]) -> tuple[list[list[int]], list[list[int]]]:
        prompts = [f"\n{question.text} ASSISTANT:" for question in questions]
        answers = [f" {question.answer}</s>" for question in questions]
        encode = partial(self.tokenizer, add_special_tokens=False)
        return encode(prompts).input_ids, encode(answers).input_ids


def blank() -> Example:
    """An example without questions (pixels and kinds are to be set)."""
    return {
        "tokens": torch.zeros(TEXT, dtype=torch.long),
        "labels": torch.full((TEXT,), IGNORE),
        "block": torch.full((TEXT,), -1),
        "position": torch.zeros(TEXT, dtype=torch.long),
        "kind": torch.full((TEXT,), -1),
        "blind": torch.zeros(TEXT, dtype=torch.bool),
        "rows": torch.zeros(ROWS, dtype=torch.long),
        "targets": torch.zeros(ROWS, PATCHES),
    }


def _write(
    example: Example, start: int, block: int, prompt: list[int], answer: list[int], blind: bool, kind: int
) -> None:
    """Write one block in place; the label of a token is the next one, on the answer only."""
    tokens = torch.tensor(prompt + answer)
    end, last = start + len(tokens) - 1, start + len(prompt) - 1
    example["tokens"][start:end] = tokens[:-1]
    example["block"][start:end] = block
    example["position"][start:end] = PREFIX + torch.arange(end - start)
    example["labels"][last:end] = torch.tensor(answer)
    example["kind"][last:end] = kind
    example["blind"][start:last] = blind


def target_patches(question: Question, counts: NDArray[np.int64], scene: Scene) -> Tensor:
    """Patches the answer is read from (256,): all of the things asked for; for counting, one in each."""
    masks = centre_patches(counts, scene) if question.kind == "count" else counts >= SEEN_PIXELS
    return torch.from_numpy(masks[list(question.targets)].any(0).astype(np.float32))


def _supervise(example: Example, row: int, last: int, question: Question, patches: Tensor) -> int:
    """Note the rows to teach: ASSISTANT: and those that predict a coordinate. Returns the next free row."""
    steps = (0, 1, 3, 5, 7) if question.kind in BOX_KINDS else (0,)
    if not patches.any():
        return row
    for step in steps:
        example["rows"][row] = last + step
        example["targets"][row] = patches
        row += 1
    return row


class PackedScenes(IterableDataset[Example]):
    """Endless examples of the training split, from scene number `first` on."""

    def __init__(self, font: Path | None, first: int, blind: float) -> None:
        self._font, self._first, self._blind = font, first, blind

    def __iter__(self) -> Iterator[Example]:
        torch.set_num_threads(1)
        painter, packer = Painter(TRAINING, self._font), Packer(new_tokenizer(), self._blind)
        index = self._first
        while True:
            yield packer.pack(painter.paint(index), random.Random(index))
            index += 1
