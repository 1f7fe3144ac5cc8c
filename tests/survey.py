"""The survey of all image-text-to-text types of the installed transformers: `python -m tests.survey`.

Runs the engine's check of every type and writes the table of routing/families/README.md. With types as
arguments only their rows are made anew. It takes a quarter of an hour and is no part of the tests, which
compare what is cheap to see (tests/routing/test_survey.py).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers

from routing.checks.check import INVARIANTS, WINDOW, check
from routing.checks.copies import inputs, placeholder_ids, tiny_copy
from routing.checks.defaults import default_config, model_types
from routing.errors import UnsupportedModelError
from routing.families import FAMILIES, describe_config, locate

ROOT = Path(__file__).resolve().parents[1]
FOUND = ROOT / "tests" / "fixtures" / "survey.json"
PAGE = ROOT / "routing" / "families" / "README.md"
BEGIN, END = "<!-- survey: python -m tests.survey -->\n", "<!-- end of the survey -->"
HEADS = ("type", "routed", "decoder", "layers", "attention", "norms", "positions", "masks", "seconds")


def refusal(kind: str) -> str | None:
    """Why a type can't be routed, as the engine says it; None where its config can be described."""
    try:
        describe_config(default_config(kind))
    except UnsupportedModelError as why:
        return str(why)
    return None


def row(kind: str) -> dict[str, Any]:
    """What one type is, and whether the engine's check of it holds."""
    if (why := refusal(kind)) is not None:
        return {"type": kind, "refused": why}
    start = perf_counter()
    try:
        facts = _facts(kind)
        (result,) = check([kind])
    except Exception as error:  # noqa: BLE001  # the library's own models may fail: the row says how
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        return {"type": kind, "refused": f"the library does not run it alone ({said})"}
    failed = {finding.invariant: finding.detail for finding in result.findings if not finding.passed}
    not_asked = {
        finding.invariant: finding.detail for finding in result.findings if finding.passed and finding.detail
    }
    return {
        "type": kind,
        "file": kind in FAMILIES,
        **facts,
        "held": len(result.findings) - len(failed),
        "failed": failed,
        "not_asked": not_asked,
        "seconds": round(perf_counter() - start, 1),
    }


def _facts(kind: str) -> dict[str, Any]:
    """Read off a tiny copy while it runs."""
    model = tiny_copy(default_config(kind), window=WINDOW)
    location = locate(model)
    seen: list[dict[str, Any]] = []
    handles = [
        layer.register_forward_pre_hook(lambda _l, _a, given: seen.append(given), with_kwargs=True)
        for layer in location.layers
    ]
    image = placeholder_ids(model.config)[0]
    with torch.no_grad():
        model(**inputs(model, [[11, 23, *[image] * 6, 31, 77]]))
    for handle in handles:
        handle.remove()
    path = next(name for name, module in model.named_modules() if module is location.decoder)
    attention = [part for layer in location.layers for name, part in layer.named_children() if "attn" in name]
    last = next((part for part in attention if "linear" not in type(part).__name__.lower()), None)
    rotary = {type(given.get("position_embeddings")).__name__ for given in seen}
    masks = {None if (mask := given.get("attention_mask")) is None else mask.ndim for given in seen}
    return {
        "decoder": f"{path}.layers",
        "kinds": dict(Counter(kind.title for kind in location.info.kinds)),
        "attention": sorted(name for name, _ in last.named_children()) if last is not None else [],
        "norms": sorted({n for layer in location.layers for n, _ in layer.named_children() if "norm" in n}),
        "rotary": sorted(rotary),
        "masks": sorted(map(str, masks)),
        "first_layer": location.info.first_layer,
        "last_layer": location.info.last_layer,
    }


def table(rows: list[dict[str, Any]], version: str) -> str:
    """The rows as Markdown."""
    routed = [entry for entry in rows if "refused" not in entry and not entry["failed"]]
    uncounted = sum("flops" in entry["not_asked"] for entry in routed)
    lines = [
        f"transformers {version} has {len(rows)} image-text-to-text types; {len(routed)} are routed, of them "
        f"{sum(entry['file'] for entry in routed)} with a file. Each was proven by all {len(INVARIANTS)} "
        f"invariants of `reroute check`, {uncounted} of them but for FLOPs, since the cost of their layers "
        "is not modelled; default configs, shrunk. *Layers* are those of the tiny copy. "
        "*Positions*: what the layers are given, cos and sin, one tensor, or nothing.",
        "",
        f"| {' | '.join(HEADS)} |",
        f"|{'---|' * len(HEADS)}",
    ]
    lines += [_line(entry) for entry in rows if "refused" not in entry]
    lines += ["", "Not routed:", "", "| type | why |", "|---|---|"]
    lines += [f"| {entry['type']} | {entry['refused']} |" for entry in rows if "refused" in entry]
    return "\n".join(lines) + "\n"


def _line(entry: dict[str, Any]) -> str:
    proven = "with a file" if entry["file"] else "by its structure"
    if entry["failed"]:
        proven = f"no: {'; '.join(f'{name}: {why}' for name, why in entry['failed'].items())}".replace(
            "|", "/"
        )
    positions = {"tuple": "cos, sin", "Tensor": "one tensor", "NoneType": "none"}
    cells = (
        entry["type"],
        proven,
        f"`{entry['decoder']}`",
        ", ".join(f"{count} {kind}" for kind, count in entry["kinds"].items()),
        ", ".join(entry["attention"]),
        ", ".join(entry["norms"]),
        ", ".join(positions.get(name, name) for name in entry["rotary"]),
        ", ".join("causal" if ndim == "None" else f"{ndim}-D" for ndim in entry["masks"]),
        f"{entry['seconds']}",
    )
    return f"| {' | '.join(cells)} |"


def main(kinds: list[str]) -> None:
    """Make the rows of these types, or of all, and write both files."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    rows = (
        {entry["type"]: entry for entry in json.loads(FOUND.read_text())["types"]} if FOUND.exists() else {}
    )
    for kind in kinds or model_types():
        rows[kind] = row(kind)
        print(
            kind,
            rows[kind].get("refused") or rows[kind]["failed"] or "holds",
            rows[kind].get("seconds"),
            flush=True,
        )
        found = {
            "transformers": transformers.__version__,
            "types": [rows[k] for k in model_types() if k in rows],
        }
        FOUND.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    page = (
        before + BEGIN + "\n" + table(found["types"], found["transformers"]) + "\n" + END + rest.split(END)[1]
    )
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
