"""Measures a model's answers on a manifest: a table by kind of question with 95% Wilson intervals.

    python -m samples.pocket_training.measure --model FOLDER [--manifest FILE] [--json FILE]

Knows nothing of schedules or training; the asking and scoring are in evaluate.py.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from samples.pocket_training.evaluate import Result, evaluate, read_manifest, summary
from samples.pocket_training.questions import BOX_KINDS, REFERRING_KINDS

MANIFEST = Path(__file__).resolve().parent.parent / "heldout" / "manifest.jsonl"


def grouped(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """The summary by kind, and two groups over kinds: all referring expressions, all boxes."""
    groups = {"all referring": REFERRING_KINDS, "all boxes": BOX_KINDS}
    extra = [
        replace(result, item=replace(result.item, kind=name))
        for name, kinds in groups.items()
        for result in results
        if result.item.kind in kinds
    ]
    return summary(results) | summary(extra)


def markdown(lines: dict[str, dict[str, float]]) -> str:
    """A table: kind, n, share right with its interval, mean IoU of boxes."""
    rows = ["| kind | n | right | 95% interval | mean IoU |", "|---|---|---|---|---|"]
    for kind, line in lines.items():
        shared = f"{line['mean_iou']:.3f}" if "mean_iou" in line else ""
        interval = f"{line['low']:.3f} to {line['high']:.3f}"
        rows.append(f"| {kind} | {line['n']} | {line['right']:.3f} | {interval} | {shared} |")
    return "\n".join(rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Measure a model's answers on a manifest.")
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument(
        "--manifest", type=Path, default=MANIFEST, help="default: samples/heldout/manifest.jsonl"
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--json", type=Path, help="file for the table and the answers that were wrong")
    options = parser.parse_args()
    model = AutoModelForImageTextToText.from_pretrained(options.model, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(options.model)
    results = evaluate(model, processor, read_manifest(options.manifest), options.batch)
    lines = grouped(results)
    print(markdown(lines))
    if options.json:
        wrong = [
            {"id": result.item.id, "right": result.item.answer, "said": result.answer}
            for result in results
            if not result.right
        ]
        options.json.write_text(
            json.dumps({"kinds": lines, "wrong": wrong}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
