"""Stage 2: projector and decoder learn to answer packed questions; late on the tower learns along, slowly.

The loss is cross-entropy on the answers, with coordinates as soft labels; beside it the projected patches
are drawn to their names' embeddings, and one head in each of layers 5 to 8 is taught where to look, a
lesson that fades to nothing before the end. Knows nothing of files but the folder it writes to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from samples.pocket_training.export import export
from samples.pocket_training.forward import Watched, decode, text_bias
from samples.pocket_training.model import LOOKUP_LAYERS, lookup_head, new_model
from samples.pocket_training.optimiser import Clock, Optimiser, rate_factor
from samples.pocket_training.packing import Example, PackedScenes
from samples.pocket_training.questions import BOX_KINDS, KINDS
from samples.pocket_training.scenes import NAMES
from samples.pocket_training.tokenizer import COORDINATES, new_tokenizer
from samples.pocket_training.tower import IGNORE, is_hidden, report, watch

BATCH = 12
BLIND = 0.75
ALIGNMENT = 0.3
LESSON = 0.25
LESSON_FADES = (0.55, 0.8)
TOWER_SHARE = 0.1
"""The tower's rate as a share of the decoder's."""
LOOKUPS = tuple((layer, lookup_head(layer)) for layer in LOOKUP_LAYERS)


@dataclass(frozen=True)
class Course:
    """Peak rate, where in 0..1 it begins to fall, when the tower joins (1: never), and the first scene."""

    rate: float
    decay_from: float
    tower_joins: float
    first_scene: int


FRESH = Course(rate=2e-3, decay_from=0.6, tower_joins=0.6, first_scene=100_000_000)
CONTINUED = Course(rate=6e-4, decay_from=0.25, tower_joins=1.0, first_scene=200_000_000)


@dataclass(frozen=True)
class Parts:
    """What one pass gives: logits (B, T, words), masses (pairs, B, R), patch-name scores (B, V, kinds)."""

    logits: Tensor
    masses: Tensor
    names: Tensor


def soft_labels(tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """(words, words): the target distribution of each label; a coordinate spreads over its neighbours."""
    targets = torch.eye(len(tokenizer))
    first = tokenizer.convert_tokens_to_ids(COORDINATES[0])
    places = torch.arange(len(COORDINATES)).float()
    bell = torch.exp(-0.5 * (places[:, None] - places) ** 2)
    end = first + len(COORDINATES)
    targets[first:end, first:end] = bell / bell.sum(1, keepdim=True)
    return targets


def lesson_weight(progress: float) -> float:
    """Weight of the attention loss: constant, then down to 0."""
    start, end = LESSON_FADES
    return LESSON * min(1.0, max(0.0, (end - progress) / (end - start)))


class Trainer:
    """One model in training: its two optimisers, its compiled passes and its losses."""

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        course: Course,
        compiled: bool,
    ) -> None:
        core = model.model
        self._core, self._head, self._course = core, model.lm_head, course
        self._soft = soft_labels(tokenizer)
        self._first = tokenizer.convert_tokens_to_ids(COORDINATES[0])
        self._names = torch.tensor(tokenizer.convert_tokens_to_ids(["▁" + name for name in NAMES]))
        self._opening = torch.tensor([[tokenizer.bos_token_id, tokenizer.convert_tokens_to_ids("USER:")]])
        towers = list(core.vision_tower.named_parameters())
        others = [(name, p) for name, p in core.named_parameters() if "vision_tower" not in name]
        self._optimiser = Optimiser(others, is_hidden, rate=course.rate, adam_rate=course.rate)
        tower_rate = TOWER_SHARE * course.rate
        self._tower_optimiser = Optimiser(towers, is_hidden, rate=tower_rate, adam_rate=tower_rate)
        wrap: Callable[..., Callable[..., Tensor]] = (
            torch.compile if compiled else (lambda function: function)
        )
        self._see = wrap(self._vision)
        self._answer = wrap(self._text)

    def step(self, example: Example, clock: Clock) -> dict[str, float]:
        """One update of the weights; returns what to watch."""
        joins = clock.progress >= self._course.tower_joins
        with torch.set_grad_enabled(joins):
            features = self._see(example["pixels"])
        bias = text_bias(example["block"], example["blind"])
        fields = (example[name] for name in ("tokens", "position", "rows", "targets"))
        parts = Parts(*self._answer(features, bias, *fields))
        losses = self.losses(parts, example)
        lesson = lesson_weight(clock.progress) * losses["lesson"]
        torch.autograd.backward(losses["answer"] + ALIGNMENT * losses["align"] + lesson)
        factor = rate_factor(clock.step, clock.progress, warmup=40, decay_from=self._course.decay_from)
        norm = self._optimiser.step(factor)
        if joins:
            self._tower_optimiser.step(factor)
        return {
            **{k: float(v.detach()) for k, v in losses.items()},
            "norm": norm,
            **self.readings(parts, example),
        }

    def _vision(self, pixels: Tensor) -> Tensor:
        features: Tensor = self._core.vision_tower(pixel_values=pixels).last_hidden_state[:, 1:]
        return features

    def _text(
        self, features: Tensor, bias: Tensor, tokens: Tensor, position: Tensor, rows: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        llama = self._core.language_model
        picture = self._core.multi_modal_projector(features)
        opening = llama.embed_tokens(self._opening.expand(tokens.shape[0], -1))
        states = torch.cat((opening, picture, llama.embed_tokens(tokens)), 1)
        final, masses = decode(llama, states, position, bias, Watched(LOOKUPS, rows, targets))
        return self._head(final), masses, picture @ llama.embed_tokens.weight[self._names].T

    def losses(self, parts: Parts, example: Example) -> dict[str, Tensor]:
        """answer: on the labelled rows; align: on owned patches; lesson: on supervised rows."""
        labels, owned = example["labels"], example["kinds"] > 0
        chosen = labels != IGNORE
        log = F.log_softmax(parts.logits[chosen], -1)
        taught = (example["targets"].sum(-1) > 0).expand_as(parts.masses)
        return {
            "answer": -(self._soft[labels[chosen]] * log).sum(-1).mean(),
            "align": F.cross_entropy(parts.names[owned], example["kinds"][owned] - 1),
            "lesson": -(parts.masses[taught] + 1e-4).log().mean(),
        }

    @torch.no_grad()
    def readings(self, parts: Parts, example: Example) -> dict[str, float]:
        """Per kind: coordinates within 3 hundredths, or words right; and the attention on the targets."""
        labels, kinds = example["labels"], example["kind"]
        best = parts.logits.argmax(-1)
        coordinate = labels >= self._first
        taught = (example["targets"].sum(-1) > 0).expand_as(parts.masses)
        values = {"mass": float(parts.masses[taught].mean())}
        for number, kind in enumerate(KINDS):
            box = kind in BOX_KINDS
            rows = (kinds == number) & (coordinate if box else (labels != 2))
            if rows.any():
                values[kind] = float(((best - labels).abs()[rows] <= (3 if box else 0)).float().mean())
        return values


def from_tower(tower: Path) -> tuple[LlavaForConditionalGeneration, PreTrainedTokenizerFast]:
    """A fresh model on the trained tower, and its tokenizer."""
    tokenizer = new_tokenizer()
    model = new_model(tokenizer)
    model.model.vision_tower.load_state_dict(load_file(tower))
    return model, tokenizer


def train_decoder(
    out: Path,
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    course: Course,
    *,
    minutes: float,
    steps: int,
    font: Path | None = None,
) -> None:
    """Train `model` and export to `out`; one JSON line every 25 steps, an export every 100."""
    trainer = Trainer(model, tokenizer, course, compiled=True)
    scenes = PackedScenes(font, course.first_scene, BLIND)
    batches = DataLoader(scenes, batch_size=BATCH, num_workers=1, prefetch_factor=6)
    clock, averages = Clock(steps, minutes), dict[str, float]()
    for example in batches:
        if clock.progress >= 1:
            break
        watch(averages, trainer.step(example, clock), keep=0.95)
        clock.step += 1
        if clock.step in (3, 10) or clock.step % 25 == 0:
            report("decoder", clock, BATCH, averages)
        if clock.step % 100 == 0:
            export(model, tokenizer, out)
    export(model, tokenizer, out)
