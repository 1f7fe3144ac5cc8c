"""A trial: the same items under every arm, batch by batch, each answer judged by what is true of its item.

Answers are kept as records in a file of their own, so that a trial that ends early goes on where it ended,
and arms that another trial has asked already cost nothing. Knows runs, record files and judges; not what the
verdicts are compared for, nor the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from pydantic import ValidationError

from reroute_cli.arms import Arm
from reroute_cli.batch_inputs import BatchItem
from reroute_cli.batching.loop import BatchRun, Outcome
from reroute_cli.batching.passes import turn_parts
from reroute_cli.batching.prepare import Request, make_request
from reroute_cli.batching.session import keep
from reroute_cli.batching.summary import Tally
from reroute_cli.boxes import Box
from reroute_cli.console.errors import Failure
from reroute_cli.evaluation.fingerprint import Fingerprint
from reroute_cli.judges import Truth, Verdict, judge
from reroute_cli.models import Loaded
from reroute_cli.record_file import RecordFile
from reroute_cli.records.answer import AnswerRecord, SchedulePart, told


@dataclass(frozen=True, slots=True)
class Said:
    """One arm's answer to one item. verdict: None where there is an error, which is one sentence.

    box: the first one in the answer, in pixels of the picture, where it has any.
    """

    answer: str
    verdict: Verdict | None
    error: str | None
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One item, and what each arm said to it, in the order of the arms. image: the first image's name.

    truth: None where the item could not even be read. images: what each of its images is known by: the digest
    of its bytes, or its name where it can't be read.
    """

    id: str
    image: str
    question: str
    group: str
    truth: Truth | None
    said: tuple[Said, ...]
    images: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether every arm has an answer: only such rows compare the arms."""
        return all(said.verdict is not None for said in self.said)


@dataclass(frozen=True)
class Course:
    """What a trial did itself. answered: new answers; resumed: those that the file had before.

    wall_s: seconds from its first item to its last. waiting_s: of them, until an item was prepared.
    """

    answered: int
    resumed: int
    wall_s: float
    waiting_s: float


@dataclass
class Schedules:
    """The schedules of one arm. first: of the first answered item; digests: of all of them.

    cut: how many answers the limit of new tokens ended.
    """

    first: SchedulePart | None = None
    digests: set[str] = field(default_factory=set)
    cut: int = 0

    def note(self, record: dict[str, Any]) -> None:
        """One more record, perhaps of a failed item, which has no schedule."""
        if (made := record["schedule"]) is not None:
            self.first = self.first or SchedulePart.model_validate(made)
            self.digests.add(made["digest"])
            self.cut += record["tokens"]["finish"] == "length"


@dataclass(frozen=True)
class Trial:
    """Everything that was asked and said. costs: what each arm's answers took, summed up as in a batch.

    items_digest: SHA-256 over what was asked: ids, pictures, questions, truths; the same under any model.
    """

    arms: tuple[Arm, ...]
    request: Request
    rows: tuple[Row, ...]
    costs: tuple[Tally, ...]
    schedules: tuple[Schedules, ...]
    items_digest: str
    course: Course

    @property
    def failed(self) -> int:
        """How many answers are errors."""
        return sum(said.error is not None for row in self.rows for said in row.said)


@dataclass
class _Sheet:
    """The rows while they are being filled, by the place at which their item came."""

    arms: int
    items: list[BatchItem] = field(default_factory=list)
    images: list[tuple[str, ...]] = field(default_factory=list)
    said: list[list[Said | None]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def note(self, outcome: Outcome, said: Said) -> None:
        """One answer. The items of each ask come in the same order."""
        ask, item = outcome.ask, outcome.item
        if not self.places:
            self.places = [0] * self.arms
        place = self.places[ask]
        self.places[ask] += 1
        if place == len(self.items):
            self.items.append(item)
            self.images.append(outcome.digests)
            self.said.append([None] * self.arms)
        assert self.items[place].id == item.id
        self.said[place][ask] = said

    def digest(self) -> str:
        """SHA-256 over all items, see `Fingerprint`."""
        mark = Fingerprint()
        for item, images in zip(self.items, self.images, strict=True):
            mark.add(item, images)
        return mark.digest()

    def rows(self) -> Iterator[Row]:
        """The rows in the items' order."""
        for item, images, said in zip(self.items, self.images, self.said, strict=True):
            whole = tuple(one for one in said if one is not None)
            asked = told(item.question, [image.name for image in item.images], turn_parts(item))
            yield Row(item.id, item.image, asked, item.group, item.truth, whole, images)


def hold_trial(
    loaded: Loaded,
    arms: Sequence[Arm],
    items: Iterable[BatchItem],
    file: RecordFile,
    *,
    max_new_tokens: int,
    batch_size: int,
    done: Callable[[], None],
) -> Trial:
    """Ask every item under every arm what the file has no answer of, and judge all answers.

    items: taken one by one, each with a truth (raises Failure for the first without one).
    done: called after every answer.
    """
    request = make_request(loaded, [arm.choice for arm in arms], max_new_tokens, batch_size)
    run, sheet = BatchRun(request), _Sheet(len(arms))
    costs, schedules = tuple(Tally() for _ in arms), tuple(Schedules() for _ in arms)
    start, answered, resumed = perf_counter(), 0, 0
    with closing(run.outcomes(_with_truth(items), file.is_done)) as outcomes:
        for outcome in outcomes:
            record = _kept(outcome, file)
            costs[outcome.ask].add(record, outcome.item)
            schedules[outcome.ask].note(record)
            sheet.note(outcome, _said(record, outcome.item))
            resumed += outcome.record is None
            answered += outcome.record is not None and outcome.record.error is None
            done()
    course = Course(answered, resumed, perf_counter() - start, run.waiting.seconds)
    return Trial(tuple(arms), request, tuple(sheet.rows()), costs, schedules, sheet.digest(), course)


def _kept(outcome: Outcome, file: RecordFile) -> dict[str, Any]:
    """The record that counts; one that another run has written, perhaps changed since, is checked."""
    record = file.get(keep(outcome, file))
    if outcome.record is None:
        try:
            AnswerRecord.model_validate(record)
        except ValidationError as error:
            raise Failure(
                f"'{file.path}' has a record of '{outcome.item.id}' that is no whole answer: "
                "drop its line, or name another file"
            ) from error
    return record


@contextmanager
def records_at(path: Path | None) -> Iterator[RecordFile]:
    """The file that keeps the answers; without a path, one that is gone at the end."""
    if path is not None:
        with RecordFile(path) as file:
            yield file
        return
    with TemporaryDirectory(prefix="reroute-") as folder, RecordFile(Path(folder) / "answers.jsonl") as file:
        yield file


def _with_truth(items: Iterable[BatchItem]) -> Iterator[BatchItem]:
    for item in items:
        if item.truth is None and not item.problem:
            raise Failure(
                f"{item.where or repr(item.id)} has no 'answer' and no 'box', so nothing can be judged: "
                "add what is true"
            )
        yield item


def _said(record: dict[str, Any], item: BatchItem) -> Said:
    if record["error"] is not None:
        return Said("", None, record["error"])
    assert item.truth is not None
    boxes: list[Box] = [tuple(box) for box in record["boxes"] or ()]
    verdict = judge(record["answer"], boxes, item.truth)
    return Said(record["answer"], verdict, None, boxes[0] if boxes else None)
