"""What a trial asks about, a benchmark or a manifest as the options name it, and what it needs to begin.

Files are checked, records locked, the model loaded and the questions read in an order in which whatever is
wrong with what was typed is said before a model is loaded. Below: the parts that every report of judged
answers has, scores, differences of arms, schedules and costs. Asks nothing itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import Progress, Sink, check_writable
from reroute_cli.console.study_options import ComparedQuestions
from reroute_cli.data.images import as_text
from reroute_cli.measure.scores import FEWEST_PICTURES, Estimate, JudgedImages, JudgedItem, Score
from reroute_cli.measure.stats import mcnemar
from reroute_cli.models.load import Loaded, quiet_libraries
from reroute_cli.models.sources import read_config
from reroute_cli.records.evaluation import (
    ArmChoicePart,
    CostPart,
    DifferencePart,
    MadePart,
    ScorePart,
    ScoresPart,
    SubsetPart,
)
from reroute_cli.records.store import RecordFile, records_at
from reroute_cli.run.schedules import place_of
from reroute_cli.studies.benchmarks import load_benchmark
from reroute_cli.studies.benchmarks.benchmark import Benchmark, Questions, Wanted
from reroute_cli.studies.benchmarks.scenes import of_manifest
from routing.methods import RESIZING

if TYPE_CHECKING:
    from reroute_cli.console.options import BenchmarkOptions, ModelOptions
    from reroute_cli.run.schedules import Arm
    from reroute_cli.run.session import Tally
    from reroute_cli.run.trial import ScheduleTally

DEFAULT = "scenes"
MANIFEST = "manifest"  # what a manifest is called where benchmarks have a name
NOT_KEPT = "the answers are not kept, so that a run that is cut off starts anew: add --records FILE.jsonl"
_LONGEST_ANSWER = 64  # tokens; of a manifest, whose answers may be of any kind
NO_ANSWER = "nothing was answered"


@dataclass(frozen=True)
class Subject:
    """A benchmark, and which of its questions are wanted.

    subset: "hard" scores those apart, too, that only a smaller image gets wrong.
    """

    benchmark: Benchmark
    split: str
    limit: int | None = None
    data: str | None = None
    subset: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether the questions come from files of this machine, whatever the model."""
        return not self.benchmark.source

    def unlimited(self) -> Subject:
        """The same for a search, whose limit is of the questions that its score is of: all that are here."""
        return replace(self, limit=None) if self.is_here else self

    def check(self) -> None:
        """Find what is wrong before a model is loaded: raises Failure."""
        if self.is_here:
            self.questions("")
        elif find_spec("datasets") is None:
            raise Failure(
                f"--bench {self.benchmark.name} reads a dataset of the hub: pip install 'reroute[eval]' first"
            )

    def questions(self, family: str) -> Questions:
        """The questions for a model of this family; raises Failure where one has no ground truth."""
        found = self.benchmark.load(Wanted(self.split, family, self.limit, self.data))
        if isinstance(found.items, Sequence):
            if not found.items:
                raise Failure(f"{self.benchmark.title} has no question: name another split or manifest")
            bare = [item for item in found.items if item.label is None and not item.problem]
            if bare:
                more = f", and {len(bare) - 1} more like it" if len(bare) > 1 else ""
                raise Failure(
                    f"{bare[0].where or repr(bare[0].id)} has no 'answer' and no 'box'{more}, so nothing can "
                    "be judged: add what is true, or ask with `reroute batch`"
                )
        return found


def subject_of(questions: BenchmarkOptions) -> Subject:
    """The benchmark or the manifest that these options ask for; raises UsageError."""
    split, data, manifest, limit = questions.split, questions.data, questions.manifest, questions.limit
    subset = questions.subset if isinstance(questions, ComparedQuestions) else None
    if manifest is not None:
        if names := questions.given("bench", "split", "data"):
            raise UsageError(f"a manifest has its own questions: drop {names[0]} or drop --manifest")
        as_benchmark = Benchmark(
            name=MANIFEST,
            title=f"'{as_text(str(manifest))}'",
            source="",
            splits=("",),
            max_new_tokens=_LONGEST_ANSWER,
            load=lambda wanted: of_manifest(manifest, wanted.limit),
        )
        return Subject(as_benchmark, "", limit, subset=subset)
    name = questions.bench or DEFAULT
    found = load_benchmark(name)
    if split is not None and split not in found.splits:
        raise UsageError(f"--bench {name} has no split '{split}': choose one of {', '.join(found.splits)}")
    if data is not None and not found.source:
        raise UsageError(f"--bench {name} comes with the package: drop --data, or give --manifest FILE")
    return Subject(found, split or found.splits[0], limit, data, subset)


@dataclass(frozen=True)
class TrialSetup:
    """Everything that a trial needs."""

    loaded: Loaded
    questions: Questions
    file: RecordFile
    progress: Progress


def check_files(written: Mapping[str, Path | None], read: Mapping[str, Path | None]) -> None:
    """Raise Failure where an option's file can't be written, UsageError where two options name one file.

    written, read: paths by the option that names them.
    """
    for option, path in written.items():
        if problem := check_writable(path):
            raise Failure(f"{option}: {problem}")
    named = {option: path for option, path in {**written, **read}.items() if path is not None}
    for one, other in combinations(named, 2):
        is_file = named[one].is_file() or not named[one].exists()  # a device may be named twice
        if is_file and os.path.realpath(named[one]) == os.path.realpath(named[other]):
            raise UsageError(f"{one} and {other} both name '{named[one]}': give two files")


def check_subset(subset: str | None, arms: Sequence[Arm]) -> None:
    """Raise UsageError where hard questions are asked for and no arm tells which they are."""
    if subset and not any(arm.choice.resizes for arm in arms):
        raise UsageError(
            f"--subset {subset} is of the questions that smaller images get wrong: add {RESIZING} to --arms"
        )


@contextmanager
def made_ready(
    sink: Sink, loading: ModelOptions, subject: Subject, arms: Sequence[Arm], records: Path | None
) -> Iterator[TrialSetup]:
    """The model, the questions and the open file of records, while the block runs.

    Raises Failure or UsageError, as early as each can be known; another writer of the file is refused before
    a model is loaded.
    """
    from reroute_cli.models.load import load_aloud

    subject.check()
    if records is None:
        sink.talk(NOT_KEPT)
    with ExitStack() as stack:
        stack.enter_context(quiet_libraries())
        file = stack.enter_context(records_at(records))
        progress = stack.enter_context(sink.progress())
        progress.tell("reading the questions")
        family = None  # known from the config alone, so that a dataset that can't be read is known early
        if not subject.is_here and loading.load_format != "dummy":
            family = str(read_config(loading.model).get("model_type"))
        early = subject.questions(family) if family else None
        progress.tell("loading the model")
        loaded = load_aloud(loading, sink, [arm.choice for arm in arms])
        progress.tell("answering")
        questions = early if early and family == loaded.family else subject.questions(loaded.family)
        yield TrialSetup(loaded, questions, file, progress)


def headlines(rows: Sequence[JudgedItem], scores: Sequence[Score]) -> list[str]:
    """The first score of each set of questions, by name: of boxes, of words."""
    first: dict[tuple[bool, ...], str] = {}
    for score in scores:
        of = tuple(score.of(row) for row in rows)
        if any(of):
            first.setdefault(of, score.name)
    return list(first.values())


def whole(rows: Iterable[JudgedItem]) -> JudgedImages:
    """The rows that compare the arms, those in which each has an answer, by image."""
    return JudgedImages([row for row in rows if row.whole])


def twin(arms: Sequence[Arm], place: int) -> int | None:
    """The arm that prunes what this one reroutes: the same method as typed, at the same amount.

    None where there is none.
    """
    if arms[place].action != "reroute":
        return None
    asked = [(place_of(arm.choice), arm.choice.ratio, arm.choice.budget) for arm in arms]
    pruning = (other for other, arm in enumerate(arms) if arm.action == "prune")
    return next((other for other in pruning if asked[other] == asked[place]), None)


def scores_part(images: JudgedImages, scores: Sequence[Score], arms: Sequence[Arm], place: int) -> ScoresPart:
    """One arm's scores over these rows, as far as they are of anything here. Arm 0 is the dense one."""
    other = twin(arms, place)
    parts = {}
    for score in scores:
        if (estimate := images.estimate(score, place)) is not None:
            parts[score.name] = ScorePart(
                title=score.title,
                value=estimate.value,
                low=estimate.low,
                high=estimate.high,
                n=images.questions(score),
                images=images.image_count(score),
                interval="bootstrap" if estimate.effect is None else "wilson",
                design_effect=estimate.effect,
                reasons=_reasons(estimate),
            )
    return ScoresPart(
        scores=parts,
        to_dense=differences(images, scores, arms, place, 0) if place else {},
        to_prune={} if other is None else differences(images, scores, arms, place, other),
    )


def differences(
    images: JudgedImages, scores: Sequence[Score], arms: Sequence[Arm], place: int, base: int
) -> dict[str, DifferencePart]:
    """Every score of an arm minus that of another one, by name."""
    found = {score.name: difference(images, score, arms, place, base) for score in scores}
    return {name: part for name, part in found.items() if part is not None}


def difference(
    images: JudgedImages, score: Score, arms: Sequence[Arm], place: int, base: int
) -> DifferencePart | None:
    """One score of an arm minus that of another one; None where either is of nothing."""
    estimate = images.difference(score, place, base)
    if estimate is None:
        return None
    this, other = images.only(score, place, base) if score.share else (None, None)
    return DifferencePart(
        base=arms[base].name,
        title=score.title,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=images.questions(score),
        images=images.image_count(score),
        only_this=this,
        only_base=other,
        mcnemar_p=None if this is None or other is None else mcnemar(this, other),
        reasons=_reasons(estimate),
    )


def _reasons(estimate: Estimate) -> dict[str, str]:
    return {"low": estimate.reason, "high": estimate.reason} if estimate.low is None else {}


def hard_parts(images: JudgedImages, scores: Sequence[Score], arms: Sequence[Arm]) -> list[SubsetPart]:
    """For each arm of smaller images the questions that dense answers right and it wrong, scored apart.

    Arms at its amount and the dense one, by their shares of right answers: other scores need whole images.
    """
    shares, parts = [score for score in scores if score.share and not score.neutral], []
    for control, arm in enumerate(arms):
        if not arm.choice.resizes:
            continue
        right = [[bool(said.verdict and said.verdict.right) for said in row.said] for row in images.rows]
        pairs = zip(images.rows, right, strict=True)
        hard = JudgedImages([row for row, marks in pairs if marks[0] and not marks[control]])
        amount = arm.choice.ratio, arm.choice.budget
        beside = [0, *(at for at, one in enumerate(arms) if (one.choice.ratio, one.choice.budget) == amount)]
        parts.append(
            SubsetPart(
                name="hard",
                control=arm.name,
                compared=len(images.rows),
                n=len(hard.rows),
                images=len(hard.groups),
                few=len(hard.groups) < FEWEST_PICTURES,
                arms={arms[at].name: scores_part(hard, shares, arms, at) for at in beside},
            )
        )
    return parts


def choice_part(arm: Arm) -> ArmChoicePart:
    """What was asked for."""
    return ArmChoicePart(
        method=arm.method,
        action=arm.action,
        profile=arm.name if arm.choice.profile is not None else None,
        ratio=arm.choice.ratio,
        budget=arm.choice.budget,
        decision_layers=None if arm.choice.layers is None else list(arm.choice.layers),
        settings=arm.choice.settings,
    )


def made_part(schedules: ScheduleTally, tally: Tally) -> MadePart:
    """What came of it."""
    first, ratio = schedules.first, None
    if tally.answered:
        means = tally.means()
        ratio = 1 - means.visual_tokens_per_layer / means.visual_tokens if means.visual_tokens else 0.0
    missing = {
        name: NO_ANSWER for name, value in (("achieved_ratio", ratio), ("first", first)) if value is None
    }
    return MadePart(
        schedules=len(schedules.digests),
        ended_by_limit=schedules.cut,
        achieved_ratio=ratio,
        first=first,
        reasons=missing,
    )


def cost_part(tally: Tally) -> CostPart | None:
    """What an arm's answers took on average; None where there is none."""
    if not tally.answered:
        return None
    means = tally.means()
    prefill, dense = means.prefill_flops, means.dense_prefill_flops
    unknown = prefill is None or not dense
    why = means.reasons.get("prefill_flops") or means.reasons.get("dense_prefill_flops") or NO_ANSWER
    return CostPart(
        **{name: getattr(means, name) for name in type(means).model_fields if name != "reasons"},
        prefill_flops_ratio=None if prefill is None or not dense else prefill / dense,
        kv_end_ratio=means.kv_end_bytes / means.dense_kv_end_bytes,
        reasons=means.reasons | ({"prefill_flops_ratio": why} if unknown else {}),
    )
