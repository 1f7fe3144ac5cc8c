"""How much faster batches are: items per second of `reroute batch` at several batch sizes, interleaved.

    python -m tests.benchmarks.batching --out FILE            # the embedded model, ten minutes; no test
    python -m tests.benchmarks.batching --forced --out FILE   # the same, all answers of the full length
    python -m tests.benchmarks.batching --shape --out FILE    # the shape of tests.benchmarks.prefill, longer
    python -m tests.benchmarks.batching --model ID --load-format dummy --device cuda

Every round runs all schedules and sizes one after the other over the same items, forwards and backwards in
turn, so that what else the machine does hits them alike; and beside them the loop that one would write with
transformers alone: read the images of a batch, preprocess and pad them, `model.generate`, decode its answers.
What the columns say: see batch_results.py.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from reroute_cli.data.items import (
    Item,
    batch_items,
)
from reroute_cli.data.prompts import build_prompt
from reroute_cli.measure.environment import describe_environment
from reroute_cli.measure.passes import on_device, pad_token
from reroute_cli.models.load import (
    Loaded,
    quiet_libraries,
)
from reroute_cli.run.batch import BatchRun, collate
from reroute_cli.run.prepare import (
    BatchRequest,
    make_request,
)
from tests.benchmarks.batch_results import PLAIN, SCHEMA, Course, arm_results, table
from tests.benchmarks.command import ARMS, add_model, add_rounds, load_asked, publish
from tests.benchmarks.rounds import Timed, interleave
from tests.benchmarks.subject import DECODERS

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SIZES = (1, 2, 4, 8, 16)


def once(request: BatchRequest, items: Sequence[Item], size: int) -> Course:
    """All items in batches of a size; fails where one of them has no answer."""
    run = BatchRun(replace(request, batch_size=size))
    start, worked = perf_counter(), process_time()
    outcomes = list(run.outcomes(items, lambda key: False))
    seconds, busy = perf_counter() - start, process_time() - worked
    records = [outcome.record for outcome in outcomes]
    assert all(record is not None and record.error is None for record in records), records[0]
    return Course(seconds, busy, run.waiting.seconds)


def plainly(loaded: Loaded, items: Sequence[Item], size: int, most: int) -> Course:
    """The same items through transformers' own generate, in batches of a size, in their order."""
    model, pad = loaded.model, pad_token(loaded)
    start, worked = perf_counter(), process_time()
    for first in range(0, len(items), size):
        prompts = [
            build_prompt(loaded.processor, [image.open() for image in item.images], item.question)
            for item in items[first : first + size]
        ]
        inputs = on_device(collate([prompt.inputs for prompt in prompts], pad), model)
        made = model.generate(**inputs, do_sample=False, max_new_tokens=most, pad_token_id=pad)
        new = made[:, inputs["input_ids"].shape[1] :]
        loaded.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
    return Course(perf_counter() - start, process_time() - worked, 0.0)


def measure(loaded: Loaded, options: argparse.Namespace) -> dict[str, dict[int, list[Course]]]:
    """Every schedule at every size, in every round after the first, which warms up."""
    items = batch_items(None, None, SAMPLES / "manifest.jsonl", options.items).chosen
    raw: dict[str, dict[int, list[Course]]] = {name: defaultdict(list) for name in (PLAIN, *ARMS)}
    last: dict[tuple[str, int], Course] = {}

    def call(name: str, size: int) -> Callable[[], object]:
        most = options.max_new_tokens
        request = None if name == PLAIN else make_request(loaded, [ARMS[name]], most, 1)

        def timed() -> None:
            plain = request is None
            last[name, size] = plainly(loaded, items, size, most) if plain else once(request, items, size)

        return timed

    calls = {f"{name} {size}": Timed(call(name, size)) for size in SIZES for name in raw}

    def done(label: str, _seconds: float) -> None:
        name, size = label.split(" ")
        raw[name][int(size)].append(last[name, int(size)])
        print(f"\r{len(raw[name][int(size)])} of {options.rounds}: {label}    ", end="", file=sys.stderr)

    interleave(calls, options.rounds, lambda: None, done)  # an answer is on the host when it is there
    print(file=sys.stderr)
    return raw


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.batching", description=__doc__)
    add_model(parser, "the model of tests.benchmarks.prefill instead")
    parser.add_argument("--items", type=int, help="at most so many questions (default: 32; 16 with --shape)")
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--forced", action="store_true", help="no answer ends before it is as long as that")
    add_rounds(parser, 7)
    options = parser.parse_args(arguments)
    if options.items is None:
        options.items = max(SIZES) if options.shape else 2 * max(SIZES)
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    options = _options(arguments)
    with quiet_libraries():
        loaded = load_asked(options, "benchmark shape", DECODERS["plain"])
        if options.forced:
            loaded.model.generation_config.eos_token_id = None
        raw = measure(loaded, options)
    results = {name: arm_results(courses, raw[PLAIN]) for name, courses in raw.items()}
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "model": {"name": loaded.name, "device": loaded.device, "dtype": loaded.dtype},
        "items": options.items,
        "max_new_tokens": options.max_new_tokens,
        "forced": options.forced or options.shape,
        "rounds": options.rounds,
        "environment": describe_environment(),
        "results": results,
    }
    publish(report, table(report), options.out)


if __name__ == "__main__":
    main()
