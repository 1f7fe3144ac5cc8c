"""The library's functions that study a model: profile, evaluate, sweep, tune."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from reroute_cli.api.answers import seeded, told
from reroute_cli.console import keywords as k
from reroute_cli.console.errors import plain_errors
from reroute_cli.console.group import given
from reroute_cli.console.options import ArmsOptions, BenchmarkOptions, RunOptions
from reroute_cli.console.output import StudyProgress
from reroute_cli.console.study_options import (
    ComparedQuestions,
    CostOptions,
    GridOptions,
    MeasureOptions,
    ProfileItems,
    SearchOptions,
)

if TYPE_CHECKING:
    from reroute_cli.data.images import ImageLike
    from reroute_cli.models.load import Loaded
    from reroute_cli.records.evaluation import Evaluation
    from reroute_cli.records.report import Report
    from reroute_cli.records.store import RecordFile
    from reroute_cli.records.sweep import SweepReport
    from reroute_cli.records.tune import TuneReport
    from reroute_cli.studies.questions import Subject


@plain_errors()
def profile(
    model: Loaded,
    images: ImageLike | Sequence[ImageLike] = (),
    question: str | None = None,
    *,
    progress: StudyProgress | bool = False,
    **options: Unpack[k.ProfileKeywords],
) -> Report:
    """Measure schedules against the dense model, interleaved in one run: seconds, FLOPs, bytes, answers.

    Args:
        model: what `load` gave.
        images: paths or PIL images; the sample scenes without them.
        question: about each of the images.
        progress: see the module.
        options: one schedule as for `ask`, or several at one `ratio` or `budget` as `arms`
            ("pdrop,fastv@3+5:prune,sparsevlm:version=2"); `manifest` in place of images; `limit`;
            `max_new_tokens` (16, forced), `warmup` (1, or "auto") and `repeat` (3) rounds; `batch_size` (1),
            the requests timed together; `slo`, the objectives of goodput ("ttft:200ms,itl:30ms").

    Returns:
        Every metric of every arm, with its ratio to dense: `reroute.report`.

    Raises:
        UsageError: options that contradict each other, or a schedule that this model can't have.
        Failure: an item that can't be asked; nothing is measured then.
    """
    from reroute_cli.data.images import as_list
    from reroute_cli.data.items import check_images, choose_items
    from reroute_cli.models.load import quiet_libraries
    from reroute_cli.run.schedules import arms_of
    from reroute_cli.studies.profile import MeasurePlan
    from reroute_cli.studies.profile import profile as measured

    named = {**seeded(model, options), "question": question}
    chosen, schedules, measure = given(named, ProfileItems, ArmsOptions, MeasureOptions)
    arms = arms_of(schedules)
    with quiet_libraries(), told(progress) as bar:
        items = check_images(choose_items(as_list(images), question, chosen.manifest, chosen.limit).chosen)
        plan = MeasurePlan.of(measure)
        return measured(model, items, arms, plan, seed=schedules.seed, progress=bar)


@plain_errors()
def evaluate(
    model: Loaded,
    bench: str | None = None,
    *,
    records: k.Path | None = None,
    progress: StudyProgress | bool = False,
    **options: Unpack[k.EvaluateKeywords],
) -> Evaluation:
    """Score answers to questions with ground truth, under schedules and dense, pair by pair.

    Args:
        model: what `load` gave.
        bench: a benchmark, "scenes" by default; `reroute eval --list` lists them.
        records: a file of JSON lines that keeps every answer; what it holds is not asked again.
        progress: see the module.
        options: `manifest` (a path) in place of a benchmark, or its `split` and `data`; `limit`; schedules as
            for `profile`; `subset` ("hard": the questions that only downsample gets wrong are scored apart,
            too); `batch_size` (8); `max_new_tokens`; `feature_cache` ("512MiB": memory for encoded images, so
            that each passes the vision tower once; 0 turns that off).

    Returns:
        Scores and differences from dense with 95% confidence intervals: `reroute.eval`.

    Raises:
        UsageError: options that contradict each other, or a schedule that this model can't have.
        Failure: questions that can't be read.
    """
    from reroute_cli.run.schedules import arms_of
    from reroute_cli.studies.evaluate import evaluate as evaluated
    from reroute_cli.studies.questions import check_subset

    named = {**seeded(model, options), "bench": bench}
    questions, schedules, run = given(named, ComparedQuestions, ArmsOptions, RunOptions)
    arms = arms_of(schedules)
    check_subset(questions.subset, arms)
    with _asked(questions, records) as (subject, file), told(progress) as bar:
        return evaluated(
            model,
            subject,
            subject.questions(model.family),
            arms,
            run,
            file,
            seed=schedules.seed,
            progress=bar,
        )


@plain_errors()
def sweep(
    model: Loaded,
    bench: str | None = None,
    *,
    records: k.Path | None = None,
    progress: StudyProgress | bool = False,
    **options: Unpack[k.SweepKeywords],
) -> SweepReport:
    """Compare methods, actions and amounts: the quality of answers against what they cost.

    Args:
        model: what `load` gave.
        bench: as for `evaluate`.
        records: as for `evaluate`; measured costs are kept in it, too.
        progress: see the module.
        options: questions as for `evaluate`; `arms`, by default every method; `ratios` (0.667, 0.778, 0.889)
            or `budgets`; `subset` as for `evaluate`; `cost_items` (4), `cost_tokens` (16), `warmup`,
            `repeat`, `against`.

    Returns:
        Every arm with scores, costs and Pareto fronts: `reroute.sweep`.

    Raises:
        UsageError: options that contradict each other.
        Failure: questions that can't be read, or no arm that the model reaches.
    """
    from reroute_cli.run.schedules import arms_of
    from reroute_cli.studies.questions import check_subset
    from reroute_cli.studies.sweep import SweepRequest
    from reroute_cli.studies.sweep import sweep as swept

    named = {**seeded(model, options), "bench": bench}
    questions, schedules, run, costs = given(named, ComparedQuestions, GridOptions, RunOptions, CostOptions)
    arms = arms_of(schedules)
    check_subset(questions.subset, arms)
    with _asked(questions, records) as (subject, file), told(progress) as bar:
        request = SweepRequest.of(subject, run, costs, schedules.seed)
        return swept(model, subject.questions(model.family), arms, request, file, progress=bar)


@plain_errors()
def tune(
    model: Loaded,
    bench: str | None = None,
    *,
    records: k.Path | None = None,
    progress: StudyProgress | bool = False,
    **options: Unpack[k.TuneKeywords],
) -> TuneReport:
    """Search the best schedule on half of the images, and report its scores on the other half.

    Args:
        model: what `load` gave.
        bench: as for `evaluate`.
        records: as for `evaluate`.
        progress: see the module.
        options: questions as for `evaluate`; `budget`, `ratio` or `floor` (a score, or a share such as
            "95%"), exactly one; `score`, `methods` ("all", or names with settings: "sparsevlm:version=2"),
            `actions`, `answers`, `seed`.

    Returns:
        What was found beside the published methods: `reroute.tune`. `view(report, "profile")` is the text of
        a file for `profile=`, and `routing.Schedule.from_dict(report.found.schedule)` the schedule itself
        (None where smaller images were best);
        `report.floor.holds` says whether a floor holds on the reported half.

    Raises:
        UsageError: an amount that is out of reach, with the nearest one.
        Failure: questions that can't be read, or no schedule above the floor.
    """
    from reroute_cli.studies.tune.report import Where
    from reroute_cli.studies.tune.request import choose_questions, tune_request
    from reroute_cli.studies.tune.session import tune as searched

    named = {**seeded(model, options), "bench": bench}
    questions, search, run = given(named, BenchmarkOptions, SearchOptions, RunOptions)
    request = tune_request(search)
    with _asked(questions, records) as (limited, file), told(progress) as bar:
        subject = limited.unlimited()
        benchmark, found = subject.benchmark, subject.questions(model.family)
        items = tuple(found.items)
        return searched(
            model,
            choose_questions(items, benchmark.scores, search.score, questions.limit, request.seed),
            request,
            file,
            Where(subject, found.source),
            max_new_tokens=run.max_new_tokens or benchmark.max_new_tokens,
            batch_size=run.batch_size,
            feature_cache=run.feature_cache,
            progress=bar,
        )


@contextmanager
def _asked(questions: BenchmarkOptions, records: k.Path | None) -> Iterator[tuple[Subject, RecordFile]]:
    """What questions are asked, and the file that keeps the answers, while libraries are silent."""
    from reroute_cli.models.load import quiet_libraries
    from reroute_cli.records.store import records_at
    from reroute_cli.studies.questions import check_files, subject_of

    subject = subject_of(questions)
    kept = None if records is None else Path(records)
    check_files({"--records": kept}, {"--manifest": questions.manifest})
    subject.check()
    with quiet_libraries(), records_at(kept) as file:
        yield subject, file
