"""How much faster batches are: items per second of `reroute batch` at several batch sizes, interleaved.

    python -m tests.benchmarks.batching                       # the embedded model, a minute; no test
    python -m tests.benchmarks.batching --model ID --load-format dummy --device cuda

Every round runs all sizes one after the other over the same items, so that what else the machine does hits
them alike. Medians over rounds: items per second of the wall clock, their ratio to batch 1, the same ratio of
processor seconds (which another program on the machine does not change), and how long the model waited for
pictures.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from reroute_cli.batch_inputs import BatchItems, batch_items
from reroute_cli.batching.loop import BatchRun
from reroute_cli.batching.prepare import Request, make_request
from reroute_cli.models import LoadOptions, load, quiet_libraries
from reroute_cli.schedules import ScheduleChoice

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SIZES = (1, 2, 4, 8)


def measured(request: Request, items: BatchItems, size: int) -> tuple[float, float, float]:
    """Items per second, processor seconds, and the share of the time that the model waited for pictures."""
    run = BatchRun(replace(request, batch_size=size))
    start, worked = perf_counter(), process_time()
    outcomes = list(run.outcomes(items.items, lambda key: False))
    seconds, busy = perf_counter() - start, process_time() - worked
    assert all(outcome.record is not None and outcome.record.error is None for outcome in outcomes)
    return len(outcomes) / seconds, busy, run.waiting.seconds / seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--load-format", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--method")
    parser.add_argument("--action")
    parser.add_argument("--ratio", type=float)
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    choice = ScheduleChoice(asked.method, asked.action, asked.ratio)
    items = batch_items(None, None, SAMPLES / "manifest.jsonl", None)
    with quiet_libraries():
        loaded = load(LoadOptions(asked.model, asked.device, load_format=asked.load_format))
        request = make_request(loaded, [choice], asked.max_new_tokens, 1)
        measured(request, items, SIZES[-1])  # warm-up
        rounds = [[measured(request, items, size) for size in SIZES] for _ in range(asked.rounds)]
    print(f"{len(items.items)} items, {asked.rounds} rounds, {choice.name}, {loaded.name} on {loaded.device}")
    for index, size in enumerate(SIZES):
        rates, _, waits = zip(*(row[index] for row in rounds), strict=True)
        ratio = median(row[index][0] / row[0][0] for row in rounds)
        busy = median(row[0][1] / row[index][1] for row in rounds)
        speed = f"{median(rates):6.2f} items/s  {ratio:.2f}x  processor {busy:.2f}x"
        print(f"batch {size}: {speed}  waiting {median(waits):.1%}")


if __name__ == "__main__":
    main()
