"""A whole run: every item's record goes to a file, or to whoever takes it, and all of them into one summary.

Records come one by one and are not kept. Knows record files, runs and scores; not models or the terminal.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from reroute_cli.console.output import SILENT, StudyProgress
from reroute_cli.data.items import Item
from reroute_cli.measure.judges import (
    Judgement,
    judge,
)
from reroute_cli.measure.stats import summarise, wilson
from reroute_cli.records.batch import (
    AccuracyPart,
    BatchSummary,
    BoxesPart,
    ChoicePart,
    CountsPart,
    LatenciesPart,
    MeansPart,
    SharePart,
    SpreadPart,
    ThisRunPart,
    ThroughputPart,
)
from reroute_cli.run.answer import (
    environment_part,
    generation_part,
    model_part,
)
from routing.methods import DENSE

if TYPE_CHECKING:
    from reroute_cli.data.items import Items
    from reroute_cli.records.base import ModelPart
    from reroute_cli.records.store import RecordFile
    from reroute_cli.run.batch import (
        Outcome,
    )
    from reroute_cli.run.prepare import (
        BatchRequest,
        Waiting,
    )

NO_ANSWER = "nothing was answered"
_UNKNOWN_FLOPS = "the FLOPs of some answers are not known: see their records"


class ItemRun(Protocol):
    """What answers items: `run.batch.BatchRun` here, `integrations.ray.run.ClusterRun` on many machines.

    workers: processes with a model. waiting: seconds that a model had nothing to do, the mean of all.
    """

    workers: int
    waiting: Waiting

    def outcomes(self, items: Iterable[Item], is_done: Callable[[str], bool]) -> Generator[Outcome]:
        """What becomes of every item, each once, in any order."""


def run_items(
    run: ItemRun,
    request: BatchRequest,
    items: Items,
    take: Callable[[dict[str, Any]], None],
    *,
    file: RecordFile | None = None,
    progress: StudyProgress = SILENT,
) -> BatchSummary:
    """Answer every item and sum up the records of all of them.

    Args:
        run: what answers.
        request: what is asked of every item.
        items: what is asked about.
        take: gets the record of every item as plain values: at once, or those of a file at the end.
        file: keeps the records; what it has an answer of is not asked again.
        progress: told of every item.
    """
    start, tally, mine = perf_counter(), Tally(), dict[str, Item]()
    answered = resumed = 0
    is_done = (lambda _: False) if file is None else file.is_done
    progress.expect(len(items.chosen))
    with closing(run.outcomes(items.chosen, is_done)) as outcomes:
        for outcome in outcomes:
            resumed += outcome.record is None
            answered += outcome.record is not None and outcome.record.error is None
            if file is not None:
                mine[outcome.keep(file)] = outcome.item
            else:
                assert outcome.record is not None, "nothing is done before a run without a file"
                plain = outcome.record.as_dict()
                take(plain)
                tally.add(plain, outcome.item)
            progress.done()
    for plain in () if file is None else file.records():
        if item := mine.get(plain["key"]):
            take(plain)
            tally.add(plain, item)
    seconds = perf_counter() - start
    facts = RunFacts(answered, resumed, items.skipped, seconds, run.waiting.seconds, run.workers)
    return tally.summary(request, model_part(request.loaded), facts)


@dataclass(frozen=True)
class RunFacts:
    """What only the run knows. waiting: seconds that the model stood still for want of prepared items.

    workers: processes with a model; of several, waiting is the mean.
    """

    answered: int
    resumed: int
    skipped: int
    wall: float
    waiting: float
    workers: int = 1


@dataclass
class Tally:
    """Sums and lists over records as they come: `add` each, then `summary`."""

    answered: int = 0
    errors: int = 0
    halved: int = 0
    reused_vision: int = 0
    first_error: str | None = None
    estimated: bool = False
    words: list[Judgement] = field(default_factory=list)
    boxes: list[Judgement] = field(default_factory=list)
    numbers: defaultdict[str, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    unknown: set[str] = field(default_factory=set)

    def add(self, record: dict[str, Any], item: Item) -> None:
        """One record (plain JSON values) of one item, with its truth where there is one."""
        if record["error"] is not None:
            self.errors += 1
            self.first_error = self.first_error or f"{record['id']}: {record['error']}"
            return
        self.answered += 1
        self.halved += record["latency"]["halvings"] > 0
        self.reused_vision += (
            record["latency"].get("reused_vision_s", 0.0) > 0
        )  # older files know nothing of it
        self.estimated |= record["kv_cache"]["source"] == "estimated"
        tokens, kv, latency, flops = (record[name] for name in ("tokens", "kv_cache", "latency", "flops"))
        parts = [flops[name] for name in ("vision_flops", "prefill_flops", "decode_flops")]
        numbers: dict[str, float | None] = {
            **{name: value for name, value in tokens.items() if name != "finish"},
            **{name: kv[name] for name in ("kv_end_bytes", "dense_kv_end_bytes")},
            **{name: flops[name] for name in ("prefill_flops", "scoring_flops", "dense_prefill_flops")},
            "total_flops": None if None in parts else sum(parts),
            **{name: latency[name] for name in ("preprocess_s", "ttft_s", "tpot_s", "e2e_s")},
            # the item's part of the time of its pass; older records had no other time than that of the pass
            "share_s": (latency.get("pass_s") or latency["e2e_s"]) / latency["batch_size"],
        }
        for name, value in numbers.items():
            if value is None:
                self.unknown.add(name)
            else:
                self.numbers[name].append(value)
        if item.label is not None:  # a true box is compared with boxes; a true answer without one, with words
            found = judge(record["answer"], [tuple(box) for box in record["boxes"] or ()], item.label)
            (self.words if found.iou is None else self.boxes).append(found)

    def summary(self, request: BatchRequest, model: ModelPart, facts: RunFacts) -> BatchSummary:
        """The summary of everything added."""
        rate = facts.answered / facts.wall if facts.answered and facts.wall else None
        parts: dict[str, Any] = dict.fromkeys(("accuracy", "means", "latency", "throughput"))
        if self.answered:
            seconds = sum(self.numbers["share_s"])
            parts = {
                "accuracy": self._accuracy(),
                "means": self.means(),
                "latency": self._latency(),
                "throughput": ThroughputPart(
                    passes_s=seconds,
                    samples_per_s=self.answered / seconds,
                    output_tokens_per_s=sum(self.numbers["new_tokens"]) / seconds,
                ),
            }
        return BatchSummary(
            counts=CountsPart(
                items=self.answered + self.errors,
                answered=self.answered,
                errors=self.errors,
                resumed=facts.resumed,
                skipped=facts.skipped,
                halved=self.halved,
                reused_vision=self.reused_vision,
            ),
            model=model,
            environment=environment_part(request.loaded),
            choice=_choice_part(request),
            generation=generation_part(request.loaded, request.max_new_tokens),
            this_run=ThisRunPart(
                answered=facts.answered,
                workers=facts.workers,
                wall_s=facts.wall,
                waiting_s=facts.waiting,
                samples_per_s=rate,
                reasons={} if rate else {"samples_per_s": "this run answered nothing"},
            ),
            first_error=self.first_error,
            reasons={name: NO_ANSWER for name, part in parts.items() if part is None},
            **parts,
        )

    def _accuracy(self) -> AccuracyPart:
        reasons = {}
        if not self.words:
            reasons["words"] = "no answered item has a true answer in words"
        if not self.boxes:
            reasons["boxes"] = "no answered item has a true box"
        words, boxes = None, None
        if self.words:
            words = _share([found.right for found in self.words])
        if self.boxes:
            boxes = BoxesPart(
                acc_at_05=_share([found.right for found in self.boxes]),
                mean_iou=sum(found.iou or 0.0 for found in self.boxes) / len(self.boxes),
                centre_in_box=_share([bool(found.centre) for found in self.boxes]),
            )
        return AccuracyPart(words=words, boxes=boxes, reasons=reasons)

    def means(self) -> MeansPart:
        """Means over the answers, of which there is one at least."""
        names = (
            "visual_tokens",
            "visual_tokens_per_layer",
            "prompt_tokens",
            "new_tokens",
            "kv_end_bytes",
            "dense_kv_end_bytes",
        )
        flops = ("total_flops", "prefill_flops", "scoring_flops", "dense_prefill_flops")
        values: dict[str, Any] = {name: self._mean(name) for name in names}
        values |= {name: None if name in self.unknown else self._mean(name) for name in flops}
        return MeansPart(
            **values,
            flops_source="estimated",
            kv_source="estimated" if self.estimated else "measured",
            reasons={name: _UNKNOWN_FLOPS for name in flops if name in self.unknown},
        )

    def _mean(self, name: str) -> float:
        return sum(self.numbers[name]) / len(self.numbers[name])

    def _latency(self) -> LatenciesPart:
        tpot = self.numbers["tpot_s"]
        return LatenciesPart(
            ttft_s=_spread(self.numbers["ttft_s"]),
            tpot_s=_spread(tpot) if tpot else None,
            e2e_s=_spread(self.numbers["e2e_s"]),
            preprocess_s=_spread(self.numbers["preprocess_s"]),
            reasons={} if tpot else {"tpot_s": "no answer has a second token"},
        )


def _spread(values: Sequence[float]) -> SpreadPart:
    found = summarise(values)
    return SpreadPart(p50=found.p50, p90=found.p90)


def _share(right: Sequence[bool]) -> SharePart:
    found = wilson(sum(right), len(right))
    return SharePart(value=found.value, low=found.low, high=found.high, n=found.n)


def _choice_part(request: BatchRequest) -> ChoicePart:
    (ask,) = request.asks
    choice = ask.choice
    named = choice.profile is None
    routed = named and choice.routes
    why = "the profile fixes the action" if choice.profile else "dense: nothing is removed"
    why = "images are made smaller: nothing is routed" if choice.resizes else why
    return ChoicePart(
        method=choice.method or DENSE if named else None,
        action=str(choice.action or "prune") if routed else None,
        ratio=choice.ratio,
        budget=choice.budget,
        profile=choice.profile,
        settings=choice.settings,
        batch_size=request.batch_size,
        max_new_tokens=request.max_new_tokens,
        reasons={} if routed else {"action": why},
    )
