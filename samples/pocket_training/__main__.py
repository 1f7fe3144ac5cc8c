"""Trains the embedded model with one command.

    python -m samples.pocket_training --out FOLDER [--minutes 80] [--start MODEL_FOLDER]

Without --start: the vision tower first, then projector and decoder on it. With --start: the decoder of a
model trained before learns on. Progress is one JSON line at a time on stdout.
"""

import argparse
from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration

from samples.pocket_training.decoder import CONTINUED, FRESH, from_tower, train_decoder
from samples.pocket_training.scenes import FontMissingError, find_font
from samples.pocket_training.tokenizer import new_tokenizer
from samples.pocket_training.tower import train_tower

TOWER_SHARE = 0.2
"""Share of the minutes that the vision tower gets."""
TOWER_STEPS, DECODER_STEPS = 1500, 3000


def main() -> None:
    """The command."""
    parser = _parser()
    options = parser.parse_args()
    try:
        font = find_font(options.font)
    except FontMissingError as error:
        parser.exit(2, f"{error}\n")
    torch.set_flush_denormal(True)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.start is None:
        train(options.out, options.minutes, font)
    else:
        train_on(options.start, options.out, options.minutes, font)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the embedded model on rendered scenes.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--minutes", type=float, default=80, help="most minutes to train (default: 80)")
    parser.add_argument("--start", type=Path, help="folder of a trained model, whose decoder learns on")
    parser.add_argument("--font", type=Path, help="NotoColorEmoji.ttf, if not in a usual font folder")
    return parser


def train(out: Path, minutes: float, font: Path) -> None:
    """Both stages from random weights; the tower's weights are kept beside `out`."""
    tower = out.with_name(f"{out.name}-tower.safetensors")
    train_tower(tower, minutes=TOWER_SHARE * minutes, steps=TOWER_STEPS, font=font)
    model, tokenizer = from_tower(tower)
    rest = (1 - TOWER_SHARE) * minutes
    train_decoder(out, model, tokenizer, FRESH, minutes=rest, steps=DECODER_STEPS, font=font)


def train_on(start: Path, out: Path, minutes: float, font: Path) -> None:
    """The decoder stage once more, from the weights in `start`."""
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration.from_pretrained(start, dtype=torch.float32, local_files_only=True)
    train_decoder(out, model, new_tokenizer(), CONTINUED, minutes=minutes, steps=DECODER_STEPS, font=font)


if __name__ == "__main__":
    main()
