"""Stage 1: the vision tower learns what each patch shows and where that thing ends.

Trains a CLIPVisionModel on dense labels: per patch the kind, the box (as a distribution over 56 bins a
side) and whether it is the patch nearest to the middle of its thing; per picture the kinds present and
their number. The heads are thrown away. Knows nothing of language or of the decoder.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import CLIPVisionConfig, CLIPVisionModel

from samples.pocket_training.optimiser import Clock, Optimiser, rate_factor
from samples.pocket_training.scenes import GRID, IMAGE_SIZE, NAMES, PATCH, TRAINING, Painter, Scene

WIDTH = 192
LAYERS = 5
HEADS = 3
BINS = 56
BATCH = 32
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
IGNORE = -100
OWNED_PIXELS = 30
"""A patch belongs to a thing from this many of its 196 pixels on; between 1 and this it has no label."""
Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def vision_config() -> CLIPVisionConfig:
    """The tower: 224 px, patches of 14, width 192, 5 layers, 3 heads (2.4 million parameters)."""
    return CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        image_size=IMAGE_SIZE, patch_size=PATCH, hidden_act="gelu", projection_dim=WIDTH,
    )  # fmt: skip


def normalise(pixels: NDArray[np.uint8]) -> Tensor:
    """(224, 224, 3) uint8 -> (3, 224, 224) float32 with CLIP's mean and deviation."""
    return torch.from_numpy(((pixels.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1))


def patch_counts(scene: Scene) -> NDArray[np.int64]:
    """Pixels of each thing in each patch: (things, 256)."""
    masks = np.stack([scene.owner == index for index in range(len(scene.things))])
    patches = masks.reshape(len(masks), GRID, PATCH, GRID, PATCH)
    return np.asarray(patches.sum((2, 4)).reshape(len(masks), -1), dtype=np.int64)


def patch_kinds(counts: NDArray[np.int64], scene: Scene) -> NDArray[np.int64]:
    """0 background, 1 + kind where a thing owns the patch, IGNORE where it only touches it: (256,)."""
    kinds = np.array([thing.kind + 1 for thing in scene.things])[counts.argmax(0)]
    most = counts.max(0)
    return np.where(most >= OWNED_PIXELS, kinds, np.where(most > 0, IGNORE, 0))


def centre_patches(counts: NDArray[np.int64], scene: Scene) -> NDArray[np.bool_]:
    """For each thing, the one patch of its own nearest to the middle of its box: (things, 256)."""
    middles = (np.arange(GRID) + 0.5) * PATCH
    rows, columns = np.repeat(middles, GRID), np.tile(middles, GRID)
    chosen = np.zeros(counts.shape, bool)
    for index, thing in enumerate(scene.things):
        x1, y1, x2, y2 = thing.box
        distance = (columns - (x1 + x2) / 2) ** 2 + (rows - (y1 + y2) / 2) ** 2
        owned = counts[index] >= min(OWNED_PIXELS, counts[index].max())
        chosen[index, np.where(owned, distance, np.inf).argmin()] = True
    return chosen


def labelled(scene: Scene) -> Batch:
    """Picture, patch kinds (256,), patch boxes (256, 4) in 0..1, centres (256,), kinds present, number."""
    counts = patch_counts(scene)
    boxes = np.array([thing.box for thing in scene.things], np.float32)[counts.argmax(0)] / IMAGE_SIZE
    present = torch.zeros(len(NAMES))
    present[[thing.kind for thing in scene.things]] = 1
    return (
        normalise(scene.pixels),
        torch.from_numpy(patch_kinds(counts, scene)),
        torch.from_numpy(boxes),
        torch.from_numpy(centre_patches(counts, scene).any(0).astype(np.float32)),
        present,
        torch.tensor(len(scene.things)),
    )


class LabelledScenes(IterableDataset[Batch]):
    """Endless labelled scenes of the training split, from scene number `first` on."""

    def __init__(self, font: Path | None, first: int) -> None:
        self._font = font
        self._first = first

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        painter = Painter(TRAINING, self._font)
        index = self._first
        while True:
            yield labelled(painter.paint(index))
            index += 1


class Heads(nn.Module):
    """Linear heads of the tower's training."""

    def __init__(self) -> None:
        super().__init__()
        self.kind = nn.Linear(WIDTH, len(NAMES) + 1)
        self.box = nn.Linear(WIDTH, 4 * BINS)
        self.centre = nn.Linear(WIDTH, 1)
        self.present = nn.Linear(WIDTH, len(NAMES))
        self.number = nn.Linear(WIDTH, 8)

    def forward(self, patches: Tensor, whole: Tensor) -> tuple[Tensor, ...]:
        boxes = self.box(patches).view(*patches.shape[:2], 4, BINS)
        return (
            self.kind(patches),
            boxes,
            self.centre(patches)[..., 0],
            self.present(whole),
            self.number(whole),
        )


def new_tower() -> CLIPVisionModel:
    """A tower with random weights."""
    tower = CLIPVisionModel(vision_config())
    for name, parameter in tower.named_parameters():
        if "position" in name:
            nn.init.normal_(parameter, std=0.3)
        elif parameter.ndim == 2 or "patch_embedding" in name:
            nn.init.normal_(parameter, std=0.04)
    return tower


def losses(outputs: tuple[Tensor, ...], batch: Batch) -> dict[str, Tensor]:
    """The five weighted losses of a batch."""
    kind, box, centre, present, number = outputs
    _, kinds, boxes, centres, presents, numbers = batch
    weight = torch.where(kinds == 0, 0.3, 1.0) * (kinds != IGNORE)
    kind_loss = F.cross_entropy(kind.flatten(0, 1), kinds.flatten(), ignore_index=IGNORE, reduction="none")
    owned = kinds > 0
    centre_loss = F.binary_cross_entropy_with_logits(centre[owned], centres[owned])
    return {
        "kind": 2 * (kind_loss * weight.flatten()).sum() / weight.sum(),
        "box": 0.5 * _two_hot(box[owned], boxes[owned]),
        "centre": 0.5 * centre_loss,
        "present": 3 * F.binary_cross_entropy_with_logits(present, presents),
        "number": 0.1 * F.cross_entropy(number, numbers),
    }


def _two_hot(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of (n, 4, BINS) logits with the two bins around each target (n, 4) in 0..1."""
    place = (target * BINS - 0.5).clamp(0, BINS - 1 - 1e-4)
    low = place.floor().long()[..., None]
    share = place - place.floor()
    log = F.log_softmax(logits, -1)
    return -(log.gather(-1, low)[..., 0] * (1 - share) + log.gather(-1, low + 1)[..., 0] * share).mean()


@torch.no_grad()
def readings(outputs: tuple[Tensor, ...], batch: Batch) -> dict[str, float]:
    """What to watch: share of kinds right on owned patches, box error in pixels, and the other shares."""
    kind, box, centre, present, number = outputs
    owned = batch[1] > 0
    middle = (box[owned].softmax(-1) * ((torch.arange(BINS) + 0.5) / BINS)).sum(-1)
    right = ((centre[owned] > 0) == (batch[3][owned] > 0.5)).float().mean()
    return {
        "kind_acc": float((kind.argmax(-1) == batch[1])[owned].float().mean()),
        "box_px": float((middle - batch[2][owned]).abs().mean() * IMAGE_SIZE),
        "centre_acc": float(right),
        "present_acc": float(((present > 0) == (batch[4] > 0.5)).float().mean()),
        "number_acc": float((number.argmax(-1) == batch[5]).float().mean()),
    }


def is_hidden(name: str, parameter: nn.Parameter) -> bool:
    """Matrices inside the transformer blocks, which Muon updates."""
    return parameter.ndim == 2 and "layers" in name


def train_tower(out: Path, *, minutes: float, steps: int, font: Path | None = None) -> None:
    """Train the tower and write its weights to the file `out`; prints one JSON line every 50 steps."""
    torch.manual_seed(0)
    tower, heads = new_tower(), Heads()
    named = [*tower.named_parameters(), *((f"heads.{name}", p) for name, p in heads.named_parameters())]
    optimiser = Optimiser(named, is_hidden, rate=2e-3, adam_rate=1.5e-3)
    batches = DataLoader(LabelledScenes(font, 0), batch_size=BATCH, num_workers=1, prefetch_factor=6)

    def forward(pixels: Tensor) -> tuple[Tensor, ...]:
        seen = tower(pixel_values=pixels)
        outputs: tuple[Tensor, ...] = heads(seen.last_hidden_state[:, 1:], seen.pooler_output)
        return outputs

    run = torch.compile(forward)
    clock, averages = Clock(steps, minutes), dict[str, float]()
    for batch in batches:
        if clock.progress >= 1:
            break
        outputs = run(batch[0])
        parts = losses(outputs, batch)
        torch.autograd.backward(torch.stack(list(parts.values())).sum())
        optimiser.step(rate_factor(clock.step, clock.progress, warmup=100, final=0.05))
        clock.step += 1
        watch(
            averages,
            {**{name: float(loss.detach()) for name, loss in parts.items()}, **readings(outputs, batch)},
        )
        if clock.step == 3 or clock.step % 50 == 0:
            report("tower", clock, BATCH, averages)
            save_file(tower.state_dict(), out)
    save_file(tower.state_dict(), out)


def watch(averages: dict[str, float], values: dict[str, float], keep: float = 0.9) -> None:
    """Update running averages in place."""
    for name, value in values.items():
        averages[name] = keep * averages.get(name, value) + (1 - keep) * value


def report(stage: str, clock: Clock, batch: int, values: dict[str, float]) -> None:
    """One JSON line on stdout: stage, step, seconds, pictures a second, and the averages."""
    line = {
        "stage": stage,
        "step": clock.step,
        "seconds": round(clock.seconds),
        "progress": round(clock.progress, 3),
    }
    line["pictures_per_second"] = round(clock.step * batch / max(clock.seconds, 1e-9), 1)
    print(json.dumps(line | {name: round(value, 3) for name, value in values.items()}), flush=True)
