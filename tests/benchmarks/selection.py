"""What choosing visual tokens costs: `python -m tests.benchmarks.selection`.

For each selection, on the shapes of published 7B models: the FLOPs of choosing and of all that it asks of the
vision tower, and what a rerouted schedule ranks in the decoder, as shares of the dense decoder prefill, by
arithmetic; and the seconds of choosing among one image's tokens of the real width on this machine, beside
those of one dense decoder layer's largest matrix product, interleaved in one run. Then, an image, the seconds
of the greedy choices among the 576 tokens of several images at once, beside one image after another.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from reroute_cli.measure.environment import describe_environment
from reroute_cli.models.shapes import Shaped, read_shape
from routing import solve
from routing.cost import PromptSize, plan
from routing.methods import METHODS, SELECTIONS
from routing.methods.selection import Choose, Need, Seen
from routing.schedule import VisionStage
from tests.benchmarks.limits import median
from tests.benchmarks.rounds import Timed, interleave

SCHEMA = "reroute.selection-cost/1"
MODELS = ("llava-1.5-7b", "qwen2.5-vl-7b")
RATIOS = (0.667, 0.889)
TEXT = 64
KEY = 64  # numbers of a tower's key
GREEDY = ("divprune", "cdpruner", "vispruner", "flashvid")
IMAGES = (1, 8, 32)


@dataclass(frozen=True)
class Share:
    """FLOPs of one schedule's choosing over those of the dense decoder prefill; None where not modelled."""

    model: str
    method: str
    action: str
    ratio: float
    before_decoder: float | None
    in_decoder: float

    @property
    def total(self) -> float:
        """All of it that is known."""
        return (self.before_decoder or 0.0) + self.in_decoder


def shares(model: str) -> Iterator[Share]:
    """Every method with every action, at every ratio that it reaches on this model's own image."""
    shaped = read_shape(model)
    assert shaped.visual is not None
    for name, method in METHODS.items():
        for action in (action for action in method.actions if method.scored != "none"):
            for ratio in RATIOS:
                target, offered = shaped.target, {"vision_scorer": shaped.target.vision_scorer}
                options: dict[str, Any] = {key: offered[key] for key in offered if key in method.options}
                schedule = solve(
                    name,
                    action=action,
                    ratio=ratio,
                    layers=target.layers,
                    first_layer=target.first_layer,
                    visual=target.visual,
                    **options,
                )
                prompt = PromptSize(TEXT, shaped.visual)
                costs = plan(shaped.shape, schedule, [prompt], grids=shaped.grids)
                dense, routed = costs.dense.prefill_flops, costs.routed
                before = None if routed.anchor_flops is None else routed.anchor_flops / dense
                yield Share(model, name, str(action), ratio, before, routed.scoring_flops / dense)


def seen_of(shaped: Shaped, needs: frozenset[Need], seed: int = 0) -> Seen:
    """Seeded noise of a model's real sizes, everything that a selection may ask for."""
    assert shaped.visual is not None
    tower, tokens, generator = shaped.shape.tower, shaped.visual, torch.Generator().manual_seed(seed)
    assert tower is not None
    rows = next(side for side in range(math.isqrt(tokens), 0, -1) if tokens % side == 0)
    width = tower.width if needs - {Need.TEXT} else shaped.shape.hidden

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Seen(
        noise(tokens, width),
        (rows, tokens // rows),
        attention=noise(tokens).exp(),
        received=noise(tokens).exp(),
        shallow=noise(tokens).exp(),
        keys=noise(tokens, KEY),
        states=noise(tokens, width),
        text=noise(TEXT // 2, width),
    )


def choosing(model: str, ratio: float) -> dict[str, Callable[[], object]]:
    """What is timed: each selection on one image, and beside it one product of a dense decoder layer."""
    shaped = read_shape(model)
    assert shaped.visual is not None
    work: dict[str, Callable[[], object]] = {}
    for name, selection in SELECTIONS.items():
        stage = VisionStage(1 - ratio, selection=name)
        seen, count = seen_of(shaped, selection.needs), int(stage.keep_ratio * shaped.visual)
        work[name] = partial(selection.choose, [seen], [count], stage)
    hidden, width = shaped.shape.hidden, 4 * shaped.shape.hidden
    left, right = torch.randn(TEXT + shaped.visual, hidden), torch.randn(hidden, width)
    work["(one product of a layer)"] = lambda: left @ right
    return work


def batches(images: int) -> dict[str, Callable[[], object]]:
    """What is timed of so many images of LLaVA-1.5-7B: each greedy selection on all at once, and in turn."""
    shaped, work = read_shape(MODELS[0]), dict[str, Callable[[], object]]()
    assert shaped.visual is not None
    for name in GREEDY:
        stage = VisionStage(1 - RATIOS[1], selection=name)
        choose, count = SELECTIONS[name].choose, int(stage.keep_ratio * shaped.visual)
        seen = [seen_of(shaped, SELECTIONS[name].needs, seed) for seed in range(images)]
        work[f"{name}, {images} at once"] = partial(choose, seen, [count] * images, stage)
        work[f"{name}, {images} in turn"] = partial(_in_turn, choose, seen, count, stage)
    return work


def _in_turn(choose: Choose, seen: list[Seen], count: int, stage: VisionStage) -> None:
    for one in seen:
        choose([one], [count], stage)


def timed(work: dict[str, Callable[[], object]], rounds: int, images: int = 1) -> dict[str, dict[str, Any]]:
    """Median seconds of each call, one of `images`, with a confidence interval."""
    courses: dict[str, list[float]] = defaultdict(list)
    calls = {name: Timed(call) for name, call in work.items()}
    interleave(calls, rounds, lambda: None, lambda name, spent: courses[name].append(spent / images))
    return {name: asdict(median(course)) for name, course in courses.items()}


def main(arguments: list[str] | None = None) -> int:
    """Prints both tables, and writes them as JSON where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.selection", description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="timed rounds, after one that warms up")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    asked = parser.parse_args(arguments)
    found = [share for model in MODELS for share in shares(model)]
    for one in found:
        before = "not modelled" if one.before_decoder is None else f"{one.before_decoder:.3%}"
        print(f"{one.model}  {one.method} {one.action} {one.ratio}: {before} + {one.in_decoder:.3%}")
    seconds = {model: timed(choosing(model, RATIOS[1]), asked.rounds) for model in MODELS}
    batched = {f"{images} images": timed(batches(images), asked.rounds, images) for images in IMAGES}
    for model, course in (seconds | batched).items():
        for name, spent in course.items():
            low, middle, high = (f"{1e3 * spent[end]:.2f}" for end in ("low", "median", "high"))
            print(f"{model}  {name}: {middle} ms [{low}, {high}]")
    if asked.json:
        report = {
            "schema": SCHEMA,
            "rounds": asked.rounds,
            "environment": describe_environment(),
            "shares": [asdict(one) for one in found],
            "seconds": seconds,
            "seconds_an_image": batched,
        }
        asked.json.write_text(json.dumps(report, indent=1, default=str) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
