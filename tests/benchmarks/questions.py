"""How much sooner several questions about one image are answered together: alone, together, beginning shared.

    python -m tests.benchmarks.questions --out FILE            # the embedded model, minutes; no test
    python -m tests.benchmarks.questions --shape --out FILE    # the proportions of a 7B model, see SHAPE
    python -m tests.benchmarks.questions --model ID --load-format dummy --device cuda

1, 2, 4 and 8 questions, dense and routed, in three ways: a pass for each question; one pass of all; one pass
that computes the image, and all that stands before the questions, once (`routing.route(share_prefix=True)`).
Every round runs all of them, forwards and backwards in turn. FLOPs are counted, of tower and prefill.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from reroute_cli.data.images import open_image
from reroute_cli.data.prompts import build_prompt
from reroute_cli.measure import passes
from reroute_cli.measure.environment import describe_environment
from reroute_cli.measure.stats import ratio_of_medians
from reroute_cli.models.load import Loaded, quiet_libraries
from reroute_cli.run.batch import collate
from reroute_cli.run.prompts import count_visual, target_of
from reroute_cli.run.schedules import ScheduleChoice
from tests.benchmarks.batch_results import machine_of
from tests.benchmarks.command import ARMS, add_model, add_rounds, load_asked, publish
from tests.benchmarks.rounds import Timed, interleave
from tests.benchmarks.subject import Decoder

SCHEMA = "reroute.question-speed/1"
IMAGE = Path(__file__).resolve().parents[2] / "samples" / "desk.png"
COUNTS = (1, 2, 4, 8)
WAYS = ("alone", "together", "shared")
SHAPE = Decoder(hidden=512, layers=8, heads=8, mlp=1376)  # LLaMA 7B, an eighth as wide, a quarter as deep
THINGS = ("cup", "lamp", "key", "book", "plant", "clock", "pen", "bottle")


def jobs_of(loaded: Loaded, choice: ScheduleChoice, way: str, count: int) -> list[passes.Job]:
    """The passes that answer so many questions in one of WAYS."""
    picture = open_image(str(IMAGE))
    prompts = [
        build_prompt(loaded.processor, [picture], f"where is the {thing} ?") for thing in THINGS[:count]
    ]
    schedule = choice.build(target_of(loaded, count_visual(loaded, prompts[0])))
    groups = [[prompt] for prompt in prompts] if way == "alone" else [prompts]
    pad = passes.pad_token(loaded)
    return [
        passes.Job(
            loaded,
            passes.on_device(collate([one.inputs for one in group], pad), loaded.model),
            schedule,
            share_prefix=way == "shared",
        )
        for group in groups
    ]


def answer(jobs: Sequence[passes.Job], most: int) -> list[tuple[int, ...]]:
    """The new tokens of every question."""
    return [row.new for job in jobs for row in passes.timed_rows(job, most).rows]


def measure(loaded: Loaded, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and FLOPs of every schedule, number of questions and way; fails where answers differ."""
    raw: dict[str, list[float]] = defaultdict(list)
    calls, flops = {}, {}
    for name, choice in ARMS.items():
        for count in options.counts:
            answers = []
            for way in WAYS:
                jobs = jobs_of(loaded, choice, way, count)
                label = f"{name} {count} {way}"
                calls[label] = Timed(partial(answer, jobs, options.max_new_tokens))
                counted = [passes.count_flops(job, 1) for job in jobs]
                flops[label] = sum(one.vision + one.prefill + one.scoring for one in counted)
                answers.append(answer(jobs, options.max_new_tokens))
            assert answers[0] == answers[1] == answers[2], f"{name}, {count} questions: answers differ"

    def done(label: str, seconds: float) -> None:
        raw[label].append(seconds)
        print(f"\r{len(raw[label])} of {options.rounds}: {label}    ", end="", file=sys.stderr)

    interleave(calls, options.rounds, lambda: None, done)  # an answer is on the host when it is there
    print(file=sys.stderr)
    return {
        name: {str(count): result(raw, flops, f"{name} {count}") for count in options.counts} for name in ARMS
    }


def result(raw: Mapping[str, list[float]], flops: Mapping[str, int], label: str) -> dict[str, Any]:
    """Of one schedule and number of questions: every way, beside a pass for each question."""
    alone, made = raw[f"{label} alone"], {}
    for way in WAYS:
        own = raw[f"{label} {way}"]
        faster = ratio_of_medians(alone, own)
        assert faster is not None, "an answer takes time"
        made[way] = {
            "seconds": median(own),
            "times_faster": asdict(faster),
            "prefill_flops": flops[f"{label} {way}"],
            "flops_share": flops[f"{label} {way}"] / flops[f"{label} alone"],
            "raw": own,
        }
    return made


def table(report: Mapping[str, Any]) -> list[str]:
    """Markdown: a row for each schedule and number of questions."""
    asked = f"answers of at most {report['max_new_tokens']} tokens, {report['rounds']} rounds"
    head = f"{machine_of(report)}: {asked}"
    columns = (
        "| schedule | questions | a pass each | together | times faster | shared | times faster | "
        "FLOPs shared / each |"
    )
    rows = [
        _row(name, count, ways) for name, found in report["results"].items() for count, ways in found.items()
    ]
    return [head, "", columns, "|---|--:|--:|--:|--:|--:|--:|--:|", *rows]


def _row(name: str, count: str, ways: Mapping[str, Any]) -> str:
    cells = [name, count, f"{ways['alone']['seconds']:.3f} s"]
    for way in WAYS[1:]:
        faster = ways[way]["times_faster"]
        interval = "" if faster["low"] is None else f" [{faster['low']:.2f}, {faster['high']:.2f}]"
        cells += [f"{ways[way]['seconds']:.3f} s", f"{faster['value']:.2f}{interval}"]
    return f"| {' | '.join([*cells, format(ways['shared']['flops_share'], '.3f')])} |"


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.questions", description=__doc__)
    add_model(parser, "a model of random weights in SHAPE instead")
    parser.add_argument("--counts", type=int, nargs="+", choices=COUNTS, default=list(COUNTS))
    parser.add_argument("--max-new-tokens", type=int, default=16)
    add_rounds(parser, 7)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    options = _options(arguments)
    with quiet_libraries():
        loaded = load_asked(options, "7B proportions", SHAPE)
        results = measure(loaded, options)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "model": {"name": loaded.name, "device": loaded.device, "dtype": loaded.dtype},
        "max_new_tokens": options.max_new_tokens,
        "rounds": options.rounds,
        "environment": describe_environment(),
        "results": results,
    }
    publish(report, table(report), options.out)


if __name__ == "__main__":
    main()
