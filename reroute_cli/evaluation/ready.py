"""What commands that hold trials do first: files checked, records locked, model loaded, questions read.

Knows the order of these things, so that whatever is wrong with what was typed is said before a model is
loaded; not what is asked then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from reroute_cli import models
from reroute_cli.arms import Arm
from reroute_cli.benchmarks.benchmark import Questions
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import Progress, Sink, check_writable
from reroute_cli.evaluation.subject import Subject
from reroute_cli.evaluation.trial import records_at
from reroute_cli.models import Loaded, LoadOptions, quiet_libraries
from reroute_cli.record_file import RecordFile
from reroute_cli.sources import read_config

NOT_KEPT = "the answers are not kept, so that a run that is cut off starts anew: add --records FILE.jsonl"


@dataclass(frozen=True)
class Ready:
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
        if _is_file(named[one]) and os.path.realpath(named[one]) == os.path.realpath(named[other]):
            raise UsageError(f"{one} and {other} both name '{named[one]}': give two files")


def _is_file(path: Path) -> bool:
    """Whether it is one, or will be: a device such as /dev/null may be named twice."""
    return path.is_file() or not path.exists()


def _family(loading: LoadOptions, subject: Subject) -> str | None:
    """The model's family as its config alone tells it, so that a dataset that can't be read is known early.

    None where the questions have been looked at already, and for dummy weights, which are there at once.
    """
    if subject.is_here or loading.load_format == "dummy":
        return None
    return str(read_config(loading.model).get("model_type"))


@contextmanager
def made_ready(
    sink: Sink, loading: LoadOptions, subject: Subject, arms: Sequence[Arm], records: Path | None
) -> Iterator[Ready]:
    """The model, the questions and the open file of records, while the block runs.

    Raises Failure or UsageError, as early as each can be known; another writer of the file is refused before
    a model is loaded.
    """
    subject.check()
    if records is None:
        sink.talk(NOT_KEPT)
    with ExitStack() as stack:
        stack.enter_context(quiet_libraries())
        file = stack.enter_context(records_at(records))
        progress = stack.enter_context(sink.progress())
        progress.tell("reading the questions")
        family = _family(loading, subject)
        early = subject.questions(family) if family else None
        progress.tell("loading the model")
        loaded = models.load(loading)
        for remark in loaded.remarks:
            sink.talk(remark)
        for arm in arms:
            if caveat := arm.choice.caveat(loaded.family, loaded.layers):
                sink.talk(caveat)
        progress.tell("answering")
        questions = early if early and family == loaded.family else subject.questions(loaded.family)
        yield Ready(loaded, questions, file, progress)
