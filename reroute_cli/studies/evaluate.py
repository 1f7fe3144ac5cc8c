"""How good answers are under each schedule: questions asked, answers judged, compared with dense."""

from __future__ import annotations

from collections.abc import Sequence

from reroute_cli.evaluation.feasible import checked
from reroute_cli.evaluation.report import Asked, make_evaluation
from reroute_cli.evaluation.subject import Subject
from reroute_cli.evaluation.trial import hold_trial
from reroute_cli.models import Loaded
from reroute_cli.record_file import RecordFile
from reroute_cli.records.evaluation import Evaluation
from reroute_cli.schedules import (
    Arm,
)
from reroute_cli.studies import SILENT, StudyProgress
from reroute_cli.studies.benchmarks.benchmark import Questions


def evaluate(
    loaded: Loaded,
    subject: Subject,
    questions: Questions,
    arms: Sequence[Arm],
    file: RecordFile,
    *,
    max_new_tokens: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    progress: StudyProgress = SILENT,
) -> Evaluation:
    """Ask every question under every arm, judge the answers, and compare the arms pair by pair.

    Args:
        loaded: the model.
        subject: the benchmark and which of its questions, see `subject_of`.
        questions: those, with what is true of each; see `Subject.questions`.
        arms: the schedules, the dense arm first; see `arms_of`.
        file: keeps the answers; what it holds already is not asked again. See `records_at`.
        max_new_tokens: the longest answer; by default the benchmark's.
        batch_size: items answered together.
        seed: noted in the report, as the seed of dummy weights and random schedules.
        progress: told what is going on, and of every answer.

    Raises:
        CliError: an arm that this model can't have, or no question to ask.
    """
    if questions.count is not None:
        progress.expect(questions.count * len(arms))
    trial = hold_trial(
        loaded,
        arms,
        checked(loaded, arms, questions.items),
        file,
        max_new_tokens=max_new_tokens or subject.benchmark.max_new_tokens,
        batch_size=batch_size,
        done=progress.done,
    )
    progress.tell("comparing")
    return make_evaluation(trial, Asked(subject, questions, seed))
