"""Several questions about the same images: the images processed once, all questions answered in one pass.

Every record is the one that its question gets alone, but for what measuring one pass of several prompts
can't tell: its FLOPs are worked out and not counted, as in a batch, and its times are those of the pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import CliError
from reroute_cli.data.images import ImageSource
from reroute_cli.data.items import Item
from reroute_cli.data.prompts import build_prompt
from reroute_cli.measure import passes
from reroute_cli.run.answer import answer_key, failure_key
from reroute_cli.run.batch import BatchRun
from reroute_cli.run.prepare import BatchRequest, KeyedItem, Keys, PreparedItem, make_request
from reroute_cli.run.prompts import prepared

if TYPE_CHECKING:
    from reroute_cli.data.images import Picture
    from reroute_cli.models.load import Loaded
    from reroute_cli.records.answer import AnswerRecord, FailedAnswer
    from reroute_cli.run.schedules import ScheduleChoice


def answers(
    loaded: Loaded,
    pictures: Sequence[Picture],
    questions: Sequence[str],
    choice: ScheduleChoice,
    max_new_tokens: int,
) -> list[AnswerRecord | FailedAnswer]:
    """Answer several questions about images together: a record of each, in their order.

    A question that can't be asked, or whose answer fails, has a record that says why. Raises what building
    the schedule raises.
    """
    request = make_request(loaded, [choice], max_new_tokens, len(questions))
    processor = copy(loaded.processor)
    processor.image_processor = ProcessedOnce(processor.image_processor)
    entries = [_entry(request, processor, pictures, question) for question in questions]
    outcomes = BatchRun(request).under(0, entries)
    return [outcome.record for outcome in outcomes if outcome.record is not None]


class ProcessedOnce:
    """An image processor that processes images once, however many prompts show them; else as it was."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._made: dict[Any, tuple[Any, Any]] = {}  # with the images, whose ids are of nothing else then

    def __call__(self, images: Any, **settings: Any) -> Any:
        """What the processor makes of these images, in a mapping of its own each time."""
        key = _ids(images), repr(sorted(settings.items()))
        if key not in self._made:
            self._made[key] = images, self._processor(images, **settings)
        return copy(self._made[key][1])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)


def _ids(images: Any) -> Any:
    return tuple(map(_ids, images)) if isinstance(images, list | tuple) else id(images)


def _entry(request: BatchRequest, processor: Any, pictures: Sequence[Picture], question: str) -> PreparedItem:
    """A question as an item of a batch, with its prompt or the sentence that says why it has none."""
    (ask,), loaded, most = request.asks, request.loaded, request.max_new_tokens
    digests, shown = tuple(picture.digest for picture in pictures), pictures[0].path
    key = answer_key(ask.settings, digests, question)
    sources = tuple(ImageSource(picture.path, picture.path) for picture in pictures)
    keyed = KeyedItem(
        Item(key, sources, question), (Keys(key, failure_key(ask.settings, key, shown, question)),)
    )
    make = partial(build_prompt, processor, question=question)
    try:
        prompt = make(pictures)
        passes.check_context(loaded, prompt, most)
        found = prepared(loaded, ask.choice, pictures, make, prompt, most)
    except CliError as error:
        return PreparedItem(keyed, (str(error),))
    return PreparedItem(keyed, (found,), tuple(picture.size for picture in pictures))
