"""The table of what reduction costs in answers: dense, and each method x action at four reduction ratios.

    python -m samples.reduction_table --out FOLDER [--scenes 150] [--model FOLDER]

Asks the box and yes/no questions of the first `--scenes` held-out pictures under every schedule and writes
arms.jsonl (one line an arm, with every item right or wrong; a second call goes on where the first stopped),
table.json and table.md. Intervals are 95% percentile bootstraps over pictures; differences are paired, item
by item. Knows the engine's public names and the evaluation; knows nothing of how either works.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForImageTextToText, AutoProcessor

import routing
from reroute_cli.pocket import WEIGHTS
from samples.pocket_training.evaluate import Item, evaluate, read_manifest
from samples.pocket_training.questions import BOX_KINDS

MANIFEST = Path(__file__).resolve().parent / "heldout" / "manifest.jsonl"
ACTIONS = ("prune", "reroute")
RATIOS = (0.5, 0.667, 0.778, 0.889)
LATE_RATIOS = (0.5, 0.667)  # a first decision at layer 3 of 12 cannot reduce by more than 0.75
LATE: dict[str, tuple[int, ...]] = {"prune": (3,), "reroute": (3, 5, 8)}
RESAMPLES = 2000
Rights = NDArray[np.float64]


@dataclass(frozen=True)
class Arm:
    """One schedule to ask under; dense has ratio 0. `schedule` is None where the ratio can't be reached."""

    method: str
    action: str
    ratio: float
    schedule: routing.Schedule | None
    reason: str | None = None

    @property
    def name(self) -> str:
        return f"{self.method} {self.action} {self.ratio:g}"


def arms(layers: int, visual: int) -> Iterator[Arm]:
    """Dense first, then method by method, ratio by ratio, prune before reroute.

    Each method decides at its default layers; fastv and random also where this model's attention knows more.
    """
    yield Arm("none", "prune", 0.0, routing.Schedule())
    for method in ("fastv", "pdrop", "nuwa", "random"):
        for ratio, action in product(RATIOS, ACTIONS):
            yield _arm(method, method, action, ratio, layers=layers, visual=visual)
    for method in ("fastv", "random"):
        for ratio, action in product(LATE_RATIOS, ACTIONS):
            name = f"{method}, from layer 3"
            yield _arm(name, method, action, ratio, layers=layers, visual=visual, cuts=LATE[action])


def _arm(name: str, method: str, action: str, ratio: float, **options: Any) -> Arm:
    """The arm `name` under a solved schedule, or why there is none."""
    try:
        return Arm(name, action, ratio, routing.solve(method, action=action, ratio=ratio, **options))
    except routing.BudgetError as error:
        return Arm(name, action, ratio, None, str(error))


def choose(items: Sequence[Item], scenes: int) -> list[Item]:
    """The box and yes/no questions of the first `scenes` pictures."""
    pictures = sorted({item.image for item in items})[:scenes]
    return [item for item in items if item.image in pictures and item.kind in {*BOX_KINDS, "exists"}]


def run(
    folder: Path, model: Any, processor: Any, items: Sequence[Item], batch_size: int
) -> list[dict[str, Any]]:
    """Ask under every arm that `folder`/arms.jsonl does not hold yet; returns all of its lines."""
    info = routing.describe(model)
    visual = model.config.image_seq_length
    path = folder / "arms.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {line["key"] for line in lines}
    for arm in arms(info.layers, visual):
        key = f"{arm.name} {arm.schedule.digest() if arm.schedule else '-'} {len(items)}"
        if key not in done:
            line = {"key": key, **_ask(arm, model, processor, items, batch_size, info.layers, visual)}
            lines.append(line)
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(arm.name, {name: line[name] for name in ("achieved", "seconds")}, flush=True)
    return lines


def _ask(
    arm: Arm, model: Any, processor: Any, items: Sequence[Item], batch_size: int, layers: int, visual: int
) -> dict[str, Any]:
    """One line of arms.jsonl."""
    line: dict[str, Any] = {
        "method": arm.method,
        "action": arm.action,
        "ratio": arm.ratio,
        "reason": arm.reason,
    }
    if arm.schedule is None:
        return line | {"achieved": None, "seconds": None, "right": None, "stages": []}
    started = time.monotonic()
    context = partial(routing.route, model, arm.schedule)
    results = evaluate(model, processor, items, batch_size, context)
    return line | {
        "achieved": round(arm.schedule.achieved_ratio(visual, layers), 4),
        "seconds": round(time.monotonic() - started, 1),
        "right": "".join(str(int(result.right)) for result in results),
        "stages": _stages(arm.schedule),
    }


def _stages(schedule: routing.Schedule) -> list[dict[str, Any]]:
    vision = [{"layer": "tower", "keep_ratio": schedule.vision.keep_ratio}] if schedule.vision else []
    return [*vision, *({"layer": s.layer, "keep_ratio": round(s.keep_ratio, 4)} for s in schedule.stages)]


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Comparison:
    """Means over the items of one group, resampled by picture with the same draws for every arm."""

    def __init__(self, items: Sequence[Item], boxes: bool) -> None:
        pictures = sorted({item.image for item in items})
        self._chosen = np.array([(item.kind in BOX_KINDS) == boxes for item in items])
        place = {picture: index for index, picture in enumerate(pictures)}
        self._picture = np.array([place[item.image] for item in items])[self._chosen]
        self._number = np.bincount(self._picture, minlength=len(pictures))
        draws = np.random.default_rng(0).multinomial(
            len(pictures), [1 / len(pictures)] * len(pictures), RESAMPLES
        )
        self._draws = draws
        self.count = int(self._chosen.sum())

    def mean(self, values: Rights) -> Estimate:
        """Mean of values (items,), such as right or wrong, or the difference of two arms."""
        sums = np.bincount(self._picture, values[self._chosen], minlength=len(self._number))
        means = (self._draws @ sums) / (self._draws @ self._number)
        low, high = np.percentile(means, [2.5, 97.5])
        return Estimate(float(sums.sum() / self._number.sum()), float(low), float(high))


def table(lines: Sequence[dict[str, Any]], items: Sequence[Item]) -> list[dict[str, Any]]:
    """Per arm and group: the share right, its difference from dense, and reroute minus prune."""
    rights = {
        _key(line): _rights(line) for line in lines if line["right"] and len(line["right"]) == len(items)
    }
    dense = rights["none", "prune", 0.0]
    rows = []
    for line in lines:
        row = {name: line[name] for name in ("method", "action", "ratio", "achieved", "stages", "reason")}
        if _key(line) in rights:
            for group, boxes in (("boxes", True), ("yes_no", False)):
                row[group] = _group(Comparison(items, boxes), rights, dense, line)
        rows.append(row)
    return rows


def _group(
    compare: Comparison, rights: dict[Any, Rights], dense: Rights, line: dict[str, Any]
) -> dict[str, Any]:
    right = rights[_key(line)]
    pruned = rights.get((line["method"], "prune", line["ratio"])) if line["action"] == "reroute" else None
    return {
        "n": compare.count,
        "right": asdict(compare.mean(right)),
        "minus_dense": asdict(compare.mean(right - dense)),
        "minus_prune": None if pruned is None else asdict(compare.mean(right - pruned)),
    }


def _key(line: dict[str, Any]) -> tuple[str, str, float]:
    return line["method"], line["action"], line["ratio"]


def _rights(line: dict[str, Any]) -> Rights:
    return np.array([float(mark) for mark in line["right"]])


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table for people; an arm that can't be reached says why."""
    head = "| method | action | ratio | achieved | box Acc@0.5 | minus dense | minus prune "
    head += "| yes/no | minus dense | minus prune |"
    written = [head, "|---" * 10 + "|"]
    for row in rows:
        start = f"| {row['method']} | {row['action']} | {row['ratio']:g} | "
        if "boxes" not in row:
            written.append(f"{start}{row['reason']} |" + " |" * 6)
            continue
        cells = [f"{row['achieved']:.3f}"]
        for group in ("boxes", "yes_no"):
            cells += [_cell(row[group][name]) for name in ("right", "minus_dense", "minus_prune")]
        written.append(start + " | ".join(cells) + " |")
    return "\n".join(written) + "\n"


def _cell(estimate: dict[str, float] | None) -> str:
    return str(Estimate(**estimate)) if estimate else ""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Measure every method and action on the held-out pictures.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--model", type=Path, default=WEIGHTS, help="model folder (default: the embedded model)"
    )
    parser.add_argument(
        "--manifest", type=Path, default=MANIFEST, help="default: samples/heldout/manifest.jsonl"
    )
    parser.add_argument("--scenes", type=int, default=150, help="pictures to ask about (default: 150)")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = AutoModelForImageTextToText.from_pretrained(options.model, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(options.model)
    items = choose(read_manifest(options.manifest), options.scenes)
    rows = table(run(options.out, model, processor, items, options.batch), items)
    (options.out / "table.json").write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")
    (options.out / "table.md").write_text(markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    main()
