"""What encoding every image once saves: the same sweep with and without a feature cache, interleaved.

    python -m tests.benchmarks.encode_once --out FILE

Sample questions, several about each image, under several schedules, one by one: on the embedded model, and on
a model of Qwen2.5-VL-7B's shape with random weights, an eighth as wide, whose decoder is as deep beside its
tower as makes the tower weigh in an answer what it weighs in the 7B. Every round runs both ways, forwards and
backwards in turn. Answers are compared, and runs of the tower counted by a hook of this file.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import torch
from torch import nn

from profiles.models import model as well_known
from reroute_cli.console.options import ModelOptions
from reroute_cli.console.sizes import FEATURE_CACHE
from reroute_cli.data.items import Item, batch_items
from reroute_cli.measure.environment import describe_environment
from reroute_cli.measure.estimate import CostModel, Sample
from reroute_cli.measure.stats import ratio_of_medians
from reroute_cli.models.dummy import build_config, build_model, build_processor
from reroute_cli.models.load import Loaded, load, quiet_libraries
from reroute_cli.run.batch import BatchRun
from reroute_cli.run.prepare import make_request
from reroute_cli.run.schedules import ScheduleChoice
from routing.cost import PromptSize
from routing.families import describe_config
from routing.model_shape import ModelShape
from routing.schedule import Schedule
from tests.benchmarks.command import add_rounds, publish
from tests.benchmarks.rounds import Timed, interleave

SCHEMA = "reroute.encode-once/1"
SAMPLES = Path(__file__).resolve().parents[2] / "samples"
QWEN = "qwen2.5-vl-7b"
SIDE = 448  # pixels of an image's side; more are scaled down
TEXT = 64  # text tokens, for the tower's share
ARMS = {
    "dense": ScheduleChoice(),
    "fastv prune 0.667": ScheduleChoice("fastv", "prune", 0.667),
    "pdrop reroute 0.667": ScheduleChoice("pdrop", "reroute", 0.667),
    "visionzip prune 0.667": ScheduleChoice("visionzip", "prune", 0.667),
    "nuwa reroute 0.667": ScheduleChoice("nuwa", "reroute", 0.667),
}
WAYS = {"encoded every time": 0, "encoded once": FEATURE_CACHE}


def small(config: Mapping[str, Any]) -> dict[str, Any]:
    """A Qwen2.5-VL config with every width an eighth, 8 tower blocks of 32 and 11 decoder layers of 28."""
    text, vision = dict(config.get("text_config") or config), dict(config["vision_config"])
    text |= {
        **{name: text[name] // 8 for name in ("hidden_size", "intermediate_size")},
        **{name: text[name] // 4 for name in ("num_attention_heads", "num_key_value_heads")},
        "num_hidden_layers": 11,
        "rope_scaling": {"type": "default", "rope_type": "default", "mrope_section": [8, 12, 12]},
        "model_type": "qwen2_5_vl_text",
    }
    vision |= {name: vision[name] // 8 for name in ("hidden_size", "intermediate_size", "out_hidden_size")}
    vision |= {"depth": vision["depth"] // 4, "num_heads": vision["num_heads"] // 4}
    vision["fullatt_block_indexes"] = [1, 3, 5, 7]
    return {**config, "text_config": text, "vision_config": vision}


def qwen() -> Loaded:
    """The small model, with the processor of the large one for images of SIDE x SIDE pixels."""
    entry = well_known(QWEN)
    assert entry.processor is not None
    config = build_config(small(entry.config))
    area = dict.fromkeys(("min_pixels", "max_pixels"), SIDE * SIDE)
    size = dict.fromkeys(("shortest_edge", "longest_edge"), SIDE * SIDE)
    image = {**entry.processor.image, **area, "size": size}
    model = build_model("shape", config, {"dtype": torch.float32, "attn_implementation": "sdpa"}, "cpu", 0)
    info = describe_config(model.config)
    return Loaded(
        name="Qwen2.5-VL shape",
        model=model,
        processor=build_processor(replace(entry.processor, image=image), config.text_config.vocab_size),
        family=info.family,
        layers=info.layers,
        first_layer=info.first_layer,
        last_layer=info.last_layer,
        image_token_ids=info.image_token_ids,
        revision=None,
        device="cpu",
        dtype="float32",
        attention="sdpa",
        random=True,
    )


def tower_share(config: Mapping[str, Any]) -> float | None:
    """FLOPs of the tower over those of the dense prefill, for one image of SIDE x SIDE and TEXT words."""
    entry = well_known(QWEN)
    assert entry.processor is not None
    model = CostModel(ModelShape.from_config(config), config=dict(config), image=dict(entry.processor.image))
    sample = Sample(PromptSize(TEXT, (SIDE // 28) ** 2, TEXT), [(SIDE, SIDE)])
    found = model.flops(Schedule(), sample, 1, sample)
    if found.vision_flops is None or found.prefill_flops is None:
        return None
    return found.vision_flops / found.prefill_flops


@contextmanager
def tower_runs(loaded: Loaded) -> Iterator[list[int]]:
    """A list that gets an entry whenever the tower makes patches of pixels."""
    runs: list[int] = []
    embeds = next(one for one in loaded.model.modules() if isinstance(one, nn.Conv2d | nn.Conv3d))
    handle = embeds.register_forward_hook(lambda *_: runs.append(1))
    try:
        yield runs
    finally:
        handle.remove()


def swept(loaded: Loaded, items: Sequence[Item], most: int, size: int) -> dict[str, Any]:
    """One sweep with a feature cache of `size` bytes: its course, and what was answered."""
    run = BatchRun(make_request(loaded, list(ARMS.values()), most, 1, size))
    with tower_runs(loaded) as runs:
        start, worked = perf_counter(), process_time()
        records = [outcome.record for outcome in run.outcomes(items, lambda _: False)]
        seconds, busy = perf_counter() - start, process_time() - worked
    assert all(record is not None and record.error is None for record in records), records[0]
    answers = [record.answer for record in records if record is not None]
    return {
        "seconds": seconds,
        "busy": busy,
        "tower_runs": len(runs),
        "answers": answers,
        "bytes": run.store.bytes,
    }


def measure(loaded: Loaded, items: Sequence[Item], most: int, rounds: int) -> dict[str, Any]:
    """Both ways in every round after the first, which warms up; fails where an answer differs."""
    raw: dict[str, list[dict[str, Any]]] = defaultdict(list)
    last: dict[str, dict[str, Any]] = {}

    def once(way: str) -> None:
        last[way] = swept(loaded, items, most, WAYS[way])

    def done(way: str, _seconds: float) -> None:
        raw[way].append(last[way])
        print(f"\r{loaded.name}: {len(raw[way])} of {rounds}, {way}    ", end="", file=sys.stderr)

    interleave({way: Timed(partial(once, way)) for way in WAYS}, rounds, lambda: None, done)
    print(file=sys.stderr)
    every, single = (raw[way] for way in WAYS)
    assert all(one["answers"] == every[0]["answers"] for one in (*every, *single)), "answers differ"
    ratios = {
        name: ratio_of_medians([one[key] for one in every], [one[key] for one in single])
        for name, key in (("times_faster", "seconds"), ("times_less_processor", "busy"))
    }
    return {
        "questions": len(items),
        "images": len({item.image for item in items}),
        "answers": len(every[0]["answers"]),
        "ways": {
            way: {
                "tower_runs": courses[0]["tower_runs"],
                "seconds": median(one["seconds"] for one in courses),
                "processor_seconds": median(one["busy"] for one in courses),
                "bytes_kept": courses[0]["bytes"],
                "raw_seconds": [one["seconds"] for one in courses],
                "raw_processor_seconds": [one["busy"] for one in courses],
            }
            for way, courses in raw.items()
        },
        **{name: None if ratio is None else asdict(ratio) for name, ratio in ratios.items()},
    }


def table(report: Mapping[str, Any]) -> list[str]:
    """Markdown: a row for each model and way."""
    columns = "| model | images, answers | way | tower runs | seconds | times faster | times less processor |"
    rows = []
    for name, found in report["results"].items():
        for way, course in found["ways"].items():
            once = WAYS[way] > 0
            ratios = (
                f"{found[key]['value']:.2f}" if once else ""
                for key in ("times_faster", "times_less_processor")
            )
            of = f"{found['images']}, {found['answers']}"
            cells = [name, of, way, str(course["tower_runs"]), f"{course['seconds']:.1f}", *ratios]
            rows.append(f"| {' | '.join(cells)} |")
    return [columns, "|---|---|---|--:|--:|--:|--:|", *rows]


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.encode_once", description=__doc__)
    parser.add_argument("--items", type=int, default=12, help="questions")
    parser.add_argument("--max-new-tokens", type=int, default=4)
    add_rounds(parser, 3)
    options = parser.parse_args(arguments)
    items = batch_items(None, None, SAMPLES / "manifest.jsonl", None).chosen[: options.items]
    with quiet_libraries():
        models = [load(ModelOptions(device="cpu")), qwen()]
        results = {one.name: measure(one, items, options.max_new_tokens, options.rounds) for one in models}
        shares = {
            QWEN: tower_share(well_known(QWEN).config),
            models[1].name: tower_share(models[1].model.config.to_dict()),
        }
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "arms": list(ARMS),
        "max_new_tokens": options.max_new_tokens,
        "rounds": options.rounds,
        "tower_flops_over_prefill_flops": shares,
        "environment": describe_environment(),
        "results": results,
    }
    publish(report, table(report), options.out)


if __name__ == "__main__":
    main()
