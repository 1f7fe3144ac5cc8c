"""Inputs of a page: real outputs of commands, as files, and a trace made by hand whose cells are known."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[3] / "fixtures" / "pages"
REPORTS = Path(__file__).resolve().parents[3] / "fixtures" / "reports"
SWEEP, EVAL, TUNE = FOLDER / "sweep.json", FOLDER / "eval.json", FOLDER / "tune.json"
BATCH, ANSWERS, COMPARISON = FOLDER / "batch.json", FOLDER / "answers.jsonl", FOLDER / "comparison.json"
PROFILE = REPORTS / "current.json"
SIDE = 4  # cells of the hand-made trace: 4 × 4 of 10 pixels
PRUNED = ["kkkkkkkkpppppppp", "kkpppppppppppppp"]
REROUTED = ["kkkkkkkkdddddddd", "ddddddddddddrrrr"]


def content(path: Path) -> Any:
    """The values in a file of JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, value: Any) -> Path:
    """A file of JSON, with every character as it is."""
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def draw(path: Path) -> str:
    """A picture of 40 × 40 pixels with a light square in the last row; its digest."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (40, 40), (90, 140, 190))
    ImageDraw.Draw(picture).rectangle((0, 30, 39, 39), fill=(250, 240, 200))
    picture.save(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trace(picture: str, digest: str, question: str = "where is the light?") -> dict[str, Any]:
    """A trace of `reroute.trace/2`: eight kept, then two under prune and the last four under reroute."""
    spans = [[10.0 * at, 10.0 * at + 10] for at in range(SIDE)]
    return {
        "schema": "reroute.trace/2",
        "picture": {"path": picture, "width": 40, "height": 40, "digest": digest},
        "question": question,
        "model": _model(),
        "layers": 6,
        "visual_tokens": 16,
        "prompt_tokens": 20,
        "unplaced": 0,
        "grids": [{"view": "detail", "rows": spans, "columns": spans, "first": 0, "row_ends": False}],
        "target": {
            "basis": "given",
            "boxes": [[0.0, 30.0, 40.0, 40.0]],
            "tokens": [12, 13, 14, 15],
            "reasons": {},
        },
        "arms": [
            _arm("dense", None, []),
            _arm("pdrop-prune", "prune", PRUNED),
            _arm("pdrop-reroute", "reroute", REROUTED),
        ],
        "reasons": {},
    }


def _model() -> dict[str, Any]:
    names = {"id": "pocket", "family": "llava", "dtype": "float32", "attention": "sdpa", "device": "cpu"}
    config = {"config_digest": "c0ffee", "layers": 6, "weights": "loaded"}
    return names | config | {"revision": None, "reasons": {"revision": "a local folder"}}


def _arm(name: str, action: str | None, states: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "method": None if action is None else "pdrop",
        "action": action,
        "profile": None,
        "ratio": None if action is None else 0.5,
        "achieved_ratio": 0.5,
        "schedule_digest": "0" * 64,
        "answer": f"[{len(states)}]",
        "finish": "stop",
        "boxes": [[0.0, 30.0, 40.0, 40.0]],
        "overlap": 1.0,
        "visual_tokens_per_layer": 8.0,
        "never_used": 0,
        "stages": [_stage(2 * at + 1, text) for at, text in enumerate(states)],
        "reasons": {},
    }


def _stage(layer: int, states: str) -> dict[str, Any]:
    back = states.count("r")
    return {
        "where": "decoder",
        "layer": layer,
        "keep_ratio": 0.5,
        "kept": states.count("k") + back,
        "reentered": back,
        "kept_unplaced": 0,
        "recall": 1.0 if back else 0.0,
        "states": states,
        "scores": None,
        "reasons": {"scores": "left out"},
    }
