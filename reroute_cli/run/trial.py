"""A trial: the same items under every arm, batch by batch, each answer judged by what is true of its item.

Answers are kept as records in a file of their own, so that a trial that ends early goes on where it ended,
and arms that another trial has asked already cost nothing. Knows runs, record files and judges; not what the
verdicts are compared for, nor the terminal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from reroute_cli.console.errors import Failure, sentence_of
from reroute_cli.data.prompts import prompt_of
from reroute_cli.measure.judges import (
    judge,
)
from reroute_cli.measure.scores import JudgedAnswer, JudgedItem
from reroute_cli.records.answer import AnswerRecord, SchedulePart, told
from reroute_cli.run.batch import (
    BatchRun,
    Outcome,
    turn_parts,
)
from reroute_cli.run.prepare import (
    BatchRequest,
    make_request,
)
from reroute_cli.run.prompts import count_visual, target_of
from reroute_cli.run.session import Tally

if TYPE_CHECKING:
    from reroute_cli.data.items import (
        Box,
        Item,
    )
    from reroute_cli.models.load import (
        Loaded,
    )
    from reroute_cli.records.store import RecordFile
    from reroute_cli.run.features import FeatureStore
    from reroute_cli.run.schedules import Arm
    from routing.solve import Target

_LOOKED_AT = 8  # items at most, in search of one that can be read


@dataclass(frozen=True)
class TrialCounts:
    """What a trial did itself. answered: new answers; resumed: those that the file had before.

    wall_s: seconds from its first item to its last. waiting_s: of them, until an item was prepared.
    """

    answered: int
    resumed: int
    wall_s: float
    waiting_s: float


@dataclass
class ScheduleTally:
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

    items_digest: SHA-256 over what was asked: ids, images, questions, truths; the same under any model.
    """

    arms: tuple[Arm, ...]
    request: BatchRequest
    rows: tuple[JudgedItem, ...]
    costs: tuple[Tally, ...]
    schedules: tuple[ScheduleTally, ...]
    items_digest: str
    counts: TrialCounts

    @property
    def failed(self) -> int:
        """How many answers are errors."""
        return sum(said.error is not None for row in self.rows for said in row.said)


@dataclass
class _JudgedItems:
    """The rows while they are being filled, by the place at which their item came."""

    arms: int
    items: list[Item] = field(default_factory=list)
    images: list[tuple[str, ...]] = field(default_factory=list)
    said: list[list[JudgedAnswer | None]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def note(self, outcome: Outcome, said: JudgedAnswer) -> None:
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

    def rows(self) -> Iterator[JudgedItem]:
        """The rows in the items' order."""
        for item, images, said in zip(self.items, self.images, self.said, strict=True):
            whole = tuple(one for one in said if one is not None)
            asked = told(item.question, [image.name for image in item.images], turn_parts(item))
            yield JudgedItem(item.id, item.image, asked, item.group, item.label, whole, images)


def hold_trial(
    loaded: Loaded,
    arms: Sequence[Arm],
    items: Iterable[Item],
    file: RecordFile,
    *,
    max_new_tokens: int,
    batch_size: int,
    done: Callable[[], None],
    store: FeatureStore | None = None,
) -> Trial:
    """Ask every item under every arm what the file has no answer of, and judge all answers.

    items: taken one by one, each with a truth (raises Failure for the first without one).
    done: called after every answer. store: of encoded images, where several trials share one.
    """
    request = make_request(loaded, [arm.choice for arm in arms], max_new_tokens, batch_size)
    run, sheet = BatchRun(request, store), _JudgedItems(len(arms))
    costs, schedules = tuple(Tally() for _ in arms), tuple(ScheduleTally() for _ in arms)
    start, answered, resumed = perf_counter(), 0, 0
    with closing(run.outcomes(_with_truth(items), file.is_done)) as outcomes:
        for outcome in outcomes:
            record = file.get(outcome.keep(file))
            if outcome.record is None:  # that another run has written, and somebody perhaps changed
                try:
                    AnswerRecord.model_validate(record)
                except ValidationError as error:
                    raise Failure(
                        f"'{file.path}' has a record of '{outcome.item.id}' that is no whole answer: "
                        "drop its line, or name another file"
                    ) from error
            costs[outcome.ask].add(record, outcome.item)
            schedules[outcome.ask].note(record)
            sheet.note(outcome, _said(record, outcome.item))
            resumed += outcome.record is None
            answered += outcome.record is not None and outcome.record.error is None
            done()
    digest = items_digest(zip(sheet.items, sheet.images, strict=True))
    counts = TrialCounts(answered, resumed, perf_counter() - start, run.waiting.seconds)
    return Trial(tuple(arms), request, tuple(sheet.rows()), costs, schedules, digest, counts)


def _with_truth(items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        if item.label is None and not item.problem:
            raise Failure(
                f"{item.where or repr(item.id)} has no 'answer' and no 'box', so nothing can be judged: "
                "add what is true"
            )
        yield item


def _said(record: dict[str, Any], item: Item) -> JudgedAnswer:
    if record["error"] is not None:
        return JudgedAnswer("", None, record["error"])
    assert item.label is not None
    boxes: list[Box] = [tuple(box) for box in record["boxes"] or ()]
    verdict = judge(record["answer"], boxes, item.label)
    return JudgedAnswer(record["answer"], verdict, None, boxes[0] if boxes else None)


def items_digest(asked: Iterable[tuple[Item, Sequence[str]]]) -> str:
    """One SHA-256 (hex) over all that a run asks, so that two runs over the same questions know each other.

    asked: items in their order, each with that by which its images are known, see `Item.contents`.
    """
    digest = hashlib.sha256()
    for item, contents in asked:
        label = None if item.label is None else asdict(item.label)
        first, *others = contents
        parts: list[Any] = [item.id, first, item.question, label, item.group]
        if others or item.turns:
            parts += [others, [turn.message() for turn in item.turns]]
        digest.update(json.dumps(parts).encode() + b"\n")
    return digest.hexdigest()


def checked(loaded: Loaded, arms: Sequence[Arm], items: Iterable[Item]) -> Iterator[Item]:
    """The same items, once every arm's schedule is known to exist for the first one that can be read.

    That one comes with its images' bytes: its files are not read again. Raises what the first arm that has
    none raises (BudgetError, UsageError, ...), and Failure where there are no items.
    """
    passed: list[Item] = []
    coming = iter(items)
    for item in islice(coming, _LOOKED_AT):
        held = item
        with suppress(Exception):  # the run itself will say what is wrong with the item
            held = item if item.problem else item.read()
        target = target_for(loaded, held)
        passed.append(item if target is None else held)
        if target is not None:
            for arm in arms:
                arm.choice.build(target)
            break
    if not passed:
        raise Failure("there is no question to ask: name another benchmark, split or manifest")
    return chain(passed, coming)


def target_for(loaded: Loaded, item: Item) -> Target | None:
    """What a schedule for this item is made for; None where the item can't be asked."""
    if item.problem:
        return None
    try:
        pictures = [image.open() for image in item.images]
        prompt = prompt_of(loaded.processor, pictures, item.question, item.turns)
        return target_of(loaded, count_visual(loaded, prompt))
    except Exception as error:  # noqa: BLE001  the run itself will say what is wrong with the item
        sentence_of(error)  # but Ctrl-C stays Ctrl-C
        return None
