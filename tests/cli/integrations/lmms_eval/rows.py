"""Sample scenes as rows of the benchmarks in `task/`."""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parents[3] / "samples"
LINES = [json.loads(line) for line in (SAMPLES / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
WORDS = [line for line in LINES if not line.get("box")][:7]
BOXES = [line for line in LINES if line.get("box")][:4]
ONE = WORDS[0]
CHATS = [  # the parts of each chat's only turn
    ["PICTURE", ONE["question"]],
    [f"<image>{ONE['question']}", "PICTURE"],
    ["two pictures", "PICTURE", "and", "PICTURE", "what is there?"],
    ["is a cup a thing?"],
    ["PICTURE", "what is </s> there?"],
]
BROKEN = [["PICTURE", ONE["question"]], ["MISSING", "what?"], ["PICTURE", ONE["question"]]]


def row(line, parts=()):
    """A line of the manifest as a row of a benchmark."""
    picture = {"bytes": (SAMPLES / line["image"]).read_bytes(), "path": None}
    known = {"id": line["id"], "image": picture, "question": line["question"], "answer": line["answer"]}
    return known | {"box": line.get("box"), "parts": list(parts)}
