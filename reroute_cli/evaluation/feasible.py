"""Whether every arm can be had at all, found on the first question and before any is asked.

Knows one item, a model and schedules; runs nothing but the processor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from reroute_cli.answer import count_visual, target_of
from reroute_cli.arms import Arm
from reroute_cli.batch_inputs import BatchItem
from reroute_cli.chat import prompt_of
from reroute_cli.console.errors import Failure, sentence_of
from reroute_cli.models import Loaded
from reroute_cli.schedules import Target

_LOOKED_AT = 8  # items at most, in search of one that can be read


def checked(loaded: Loaded, arms: Sequence[Arm], items: Iterable[BatchItem]) -> Iterator[BatchItem]:
    """The same items, once every arm's schedule is known to exist for the first one that can be read.

    That one comes with its images' bytes: its files are not read again. Raises what the first arm that has
    none raises (BudgetError, UsageError, ...), and Failure where there are no items.
    """
    passed: list[BatchItem] = []
    coming = iter(items)
    for item in islice(coming, _LOOKED_AT):
        held = _held(item)
        target = target_for(loaded, held)
        passed.append(item if target is None else held)
        if target is not None:
            for arm in arms:
                arm.choice.build(target)
            break
    if not passed:
        raise Failure("there is no question to ask: name another benchmark, split or manifest")
    return chain(passed, coming)


def _held(item: BatchItem) -> BatchItem:
    """The item with its images' bytes; as it is where they can't be read."""
    try:
        return item if item.problem else item.read()
    except Exception:  # noqa: BLE001  the run itself will say what is wrong with the item
        return item


def target_for(loaded: Loaded, item: BatchItem) -> Target | None:
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
