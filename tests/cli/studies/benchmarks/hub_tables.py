"""Small datasets in the very schema of the hub, written by `datasets` as Parquet, with the README's configs.

The features are typed from the dataset cards: lmms-lab/RefCOCO, POPE, GQA, MME, MMBench (lmms-lab-encoder/*
are the same datasets under their new owner).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

REFCOCO = {
    "question_id": "string",
    "image": "image",
    "question": "string",
    "answer": ["string"],
    "segmentation": ["float32"],
    "bbox": ["float32"],
    "iscrowd": "int8",
    "file_name": "string",
}
POPE = {
    "id": "string",
    "question_id": "string",
    "question": "string",
    "answer": "string",
    "image_source": "string",
    "image": "image",
    "category": "string",
}
GQA_QUESTIONS = {
    "id": "string",
    "imageId": "string",
    "question": "string",
    "isBalanced": "bool",
    "groups": {"global": "string", "local": "string"},
    "entailed": "string",
    "equivalent": "string",
    "types": {"structural": "string", "semantic": "string", "detailed": "string"},
    "annotations": {"answer": [{"objectId": "string", "value": "string"}]},
    "semantic": [{"operation": "string", "argument": "string", "dependencies": ["int32"]}],
    "semanticStr": "string",
    "answer": "string",
    "fullAnswer": "string",
}
GQA_PICTURES = {"id": "string", "image": "image"}
MME = {
    "question_id": "string",
    "image": "image",
    "question": "string",
    "answer": "string",
    "category": "string",
}
MMBENCH = {
    "index": "int64",
    "question": "string",
    "hint": "string",
    "answer": "string",
    "A": "string",
    "B": "string",
    "C": "string",
    "D": "string",
    "category": "string",
    "image": "image",
    "source": "string",
    "L2-category": "string",
    "comment": "string",
    "split": "string",
}


def picture(seed: int = 0, size: tuple[int, int] = (120, 90)) -> dict[str, Any]:
    """A drawn picture as `datasets` stores one; other seeds give other bytes."""
    image = Image.new("RGB", size, ((37 * seed) % 256, (91 * seed) % 256, 120))
    ImageDraw.Draw(image).ellipse((10 + seed % 40, 10, 60 + seed % 40, 60), fill="white")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def write_dataset(
    folder: Path, schema: dict[str, Any], splits: dict[str, list[dict[str, Any]]], config: str = ""
) -> Path:
    """A dataset's folder as the hub has it; rows lack what they do not name. Configs go one by one."""
    from datasets import Dataset, Features, disable_progress_bars

    disable_progress_bars()
    features = Features({name: _feature(kind) for name, kind in schema.items()})
    data = folder / (config or "data")
    data.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        whole = [{name: row.get(name) for name in schema} for row in rows]
        Dataset.from_list(whole, features=features).to_parquet(data / f"{split}-00000-of-00001.parquet")
    _name_configs(folder)
    return folder


def _feature(kind: Any) -> Any:
    from datasets import Image as ImageFeature
    from datasets import List, Value

    if isinstance(kind, list):
        return List(_feature(kind[0]))
    if isinstance(kind, dict):
        return {name: _feature(inner) for name, inner in kind.items()}
    return ImageFeature() if kind == "image" else Value(kind)


def _name_configs(folder: Path) -> None:
    """The README.md whose front matter says which files are which split of which configuration."""
    lines = ["---", "configs:"]
    for data in sorted(path for path in folder.iterdir() if path.is_dir()):
        lines += [f"- config_name: {'default' if data.name == 'data' else data.name}", "  data_files:"]
        for file in sorted(data.iterdir()):
            split = file.name.split("-")[0]
            lines += [f"  - split: {split}", f"    path: {data.name}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
