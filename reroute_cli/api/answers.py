"""The library's functions that load a model, ask it, and plan: load, ask, batch, trace, plan."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack, overload

from reroute_cli.console import keywords as k
from reroute_cli.console.command_options import (
    BatchRunOptions,
    FolderOptions,
    PromptOptions,
    ShapeOptions,
    TracedSchedules,
    TraceOutput,
)
from reroute_cli.console.errors import Failure, UsageError, plain_errors
from reroute_cli.console.group import given
from reroute_cli.console.options import AnswerOptions, ModelOptions, ScheduleOptions
from reroute_cli.console.output import SILENT, Sink, StudyProgress

if TYPE_CHECKING:
    from reroute_cli.data.images import ImageLike
    from reroute_cli.data.items import Items
    from reroute_cli.models.load import Loaded
    from reroute_cli.records.answer import AnswerRecord, FailedAnswer
    from reroute_cli.records.batch import BatchSummary
    from reroute_cli.records.plan import Plan
    from reroute_cli.records.trace import TraceRecord


class BatchAnswers(NamedTuple):
    """What became of a batch. records: of every item, an error in place of an answer where one failed."""

    records: list[AnswerRecord | FailedAnswer]
    summary: BatchSummary


@plain_errors()
def load(model: k.Path = "pocket", **options: Unpack[k.ModelKeywords]) -> Loaded:
    """Load a model and its processor, to be given to the other functions.

    Args:
        model: a hub id, a name that `reroute models` lists, a local folder, a PEFT adapter's folder, or
            "pocket", the embedded model.
        options: `device` ("auto", "cpu", "cuda", "cuda:1", "mps"), `dtype`, `attn`, `load_format` ("dummy":
            random weights), `chat_template` (a file's path), `generation`, `seed` (of random weights).

    Returns:
        The loaded model; its `remarks` say what loading found.

    Raises:
        UsageError, Failure: a model that there is not, can't be read, or can't be routed.
    """
    from reroute_cli.models.load import load as load_model
    from reroute_cli.models.load import quiet_libraries

    [asked] = given({"quiet": True, "model": model, **options}, ModelOptions)
    with quiet_libraries():
        return load_model(asked)


@overload
def ask(
    model: Loaded,
    image: ImageLike | Sequence[ImageLike],
    question: str,
    **options: Unpack[k.AskKeywords],
) -> AnswerRecord: ...


@overload
def ask(
    model: Loaded,
    image: ImageLike | Sequence[ImageLike],
    question: list[str] | tuple[str, ...],
    **options: Unpack[k.AskKeywords],
) -> list[AnswerRecord | FailedAnswer]: ...


@plain_errors()
def ask(
    model: Loaded,
    image: ImageLike | Sequence[ImageLike],
    question: str | list[str] | tuple[str, ...],
    **options: Unpack[k.AskKeywords],
) -> AnswerRecord | list[AnswerRecord | FailedAnswer]:
    """Answer one question about one or several images, and measure what that cost; or several in one pass.

    Args:
        model: what `load` gave.
        image: a path or a PIL image, or several in the order of the prompt.
        question: about them. A list of questions is answered together, the images encoded once.
        options: a schedule: `method` with `ratio` or `budget`, `action` ("prune", "reroute"), `layers`,
            `set` (its own settings, {"version": 2}), or `profile` (a name or a file's path); dense without.
            `seed`; `max_new_tokens` (64).

    Returns:
        The answer with its boxes, tokens, FLOPs, bytes and seconds: `reroute.answer`. Of a list of questions
        a list of them in the same order, with the error in place of an answer where one failed.

    Raises:
        UsageError: options that contradict each other, or a schedule that this model can't have.
        Failure: an image that can't be read, or a prompt that the model can't take.
    """
    from reroute_cli.data.images import as_list, as_source
    from reroute_cli.data.prompts import check_question
    from reroute_cli.models.load import quiet_libraries
    from reroute_cli.run.answer import answer
    from reroute_cli.run.questions import answers as several_answers
    from reroute_cli.run.schedules import ScheduleChoice

    schedule, answers = given(seeded(model, options), ScheduleOptions, AnswerOptions)
    questions = [question] if isinstance(question, str) else list(question)
    if not questions:
        raise UsageError("no question is given: ask one or more")
    for one in questions:
        check_question(one)
    choice = ScheduleChoice.of(schedule)
    sources = [as_source(one) for one in as_list(image)]
    if not sources:
        raise UsageError("no image is given: name one or more")
    with quiet_libraries():
        images = [source.open() for source in sources]
        if isinstance(question, str):
            return answer(model, images, question, choice, answers.max_new_tokens)
        return several_answers(model, images, questions, choice, answers.max_new_tokens)


@plain_errors()
def batch(
    model: Loaded,
    items: k.Path | Items | Iterable[ImageLike | tuple[ImageLike | Sequence[ImageLike], str]],
    question: str | None = None,
    *,
    output: k.Path | None = None,
    limit: int | None = None,
    progress: StudyProgress | bool = False,
    **options: Unpack[k.BatchKeywords],
) -> BatchAnswers:
    """Ask about many images, in batches; an item that fails never stops it.

    Args:
        model: what `load` gave.
        items: a folder of images or a list of them, with a `question`; a manifest's path; or a list of
            (image or images, question).
        question: about every image of a folder or a list.
        output: a file of JSON lines that keeps the records. What it holds an answer of already is not asked
            again, so that a run that was cut off goes on.
        limit: at most so many items, spread evenly over all.
        progress: see the module.
        options: a schedule as for `ask`; `batch_size` (1); `max_new_tokens` (64); `feature_cache` (see
            `evaluate`).

    Returns:
        The records, in the items' order or the file's, and their summary, `reroute.batch`.

    Raises:
        UsageError: options that contradict each other.
        Failure: there is nothing to ask, or the file can't be written.
    """
    from reroute_cli.models.load import quiet_libraries
    from reroute_cli.records.reading import record_of
    from reroute_cli.records.store import RecordFile
    from reroute_cli.run.batch import BatchRun
    from reroute_cli.run.prepare import make_request
    from reroute_cli.run.schedules import ScheduleChoice
    from reroute_cli.run.session import run_items

    schedule, run, chosen = given(
        {**seeded(model, options), "limit": limit}, ScheduleOptions, BatchRunOptions, FolderOptions
    )
    choice = ScheduleChoice.of(schedule)
    asked = _items(items, question, chosen.limit)
    found: list[dict[str, Any]] = []
    kept = nullcontext() if output is None else RecordFile(Path(output))
    with quiet_libraries(), kept as file, told(progress) as bar:
        request = make_request(model, [choice], run.max_new_tokens, run.batch_size, run.feature_cache)
        summary = run_items(BatchRun(request), request, asked, found.append, file=file, progress=bar)
    where = Path("a record" if output is None else output)
    return BatchAnswers([record_of(where, plain) for plain in found], summary)


@plain_errors()
def trace(
    model: Loaded,
    image: ImageLike,
    question: str,
    *,
    box: tuple[float, float, float, float] | None = None,
    **options: Unpack[k.TraceKeywords],
) -> TraceRecord:
    """Write down what every stage of a schedule did to each visual token of one image.

    Args:
        model: what `load` gave.
        image: a path or a PIL image.
        question: about it.
        box: where the answer is: x1, y1, x2, y2 in pixels. By default the box of the dense answer.
        options: a schedule as for `ask`; `versus=True` traces both actions of its method.

    Returns:
        The state and score of each token at each stage, dense beside routed: `reroute.trace`.

    Raises:
        UsageError: no schedule, one that keeps every token, or a box outside of the image.
        Failure: an image that can't be read.
    """
    from reroute_cli.data.images import as_source
    from reroute_cli.data.prompts import check_question
    from reroute_cli.models.load import quiet_libraries
    from reroute_cli.run.schedules import arms_of
    from reroute_cli.studies.trace import trace as traced

    schedules, answers = given(seeded(model, options), TracedSchedules, AnswerOptions)
    [target] = given({"box": box}, TraceOutput)
    arms = arms_of(schedules)
    check_question(question)
    with quiet_libraries():
        opened = as_source(image).open()
        target.check_box(opened.size)
        return traced(model, opened, question, arms, answers.max_new_tokens, target.box)


@plain_errors()
def plan(
    model: k.Path = "pocket",
    *,
    images: ImageLike | Sequence[ImageLike] = (),
    **options: Unpack[k.PromptKeywords],
) -> Plan:
    """Work out a schedule and its cost from a model's config alone; no weights are loaded, nor torch.

    Args:
        model: a name as for `load`, not a loaded model.
        images: paths or PIL images of the prompt, for their sizes; by default one of the model's own size.
        options: a schedule as for `ask`; `visual_tokens` in place of images; `text_tokens` (64); `dtype` of
            the KV cache.

    Returns:
        Stages, FLOPs and KV bytes beside dense, all estimated: `reroute.plan`.

    Raises:
        UsageError: options that contradict each other, or a schedule that this model can't have.
        Failure: a model that there is not.
    """
    from reroute_cli.data.images import as_list, as_source
    from reroute_cli.run.schedules import ScheduleChoice
    from reroute_cli.studies.plan import plan_prompt

    sources = [as_source(one) for one in as_list(images)]
    named = {**options, "model": model, "image": [source.name for source in sources]}
    schedule, prompt, shape = given(named, ScheduleOptions, PromptOptions, ShapeOptions)
    sizes = [source.open().size for source in sources]
    return plan_prompt(shape, ScheduleChoice.of(schedule), prompt, sizes)


def _items(items: Any, question: str | None, limit: int | None) -> Items:
    """What a batch goes over: items themselves, a folder, a manifest, or a list."""
    from reroute_cli.data.items import Items, asked_of, batch_items

    if isinstance(items, Items):
        return items
    if isinstance(items, str | os.PathLike):
        path = Path(items)
        folder, manifest = (path, None) if path.is_dir() else (None, path)
        return batch_items(folder, question, manifest, limit)
    found = asked_of(items if question is None else ((image, question) for image in items), limit)
    if not found.chosen:
        raise Failure("there is nothing to ask: the list of items is empty")
    return found


def seeded(model: Loaded, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with the model's seed where they say none, as `--seed` is of both on the command line."""
    return {"seed": model.seed, **options}


@contextmanager
def told(progress: StudyProgress | bool) -> Iterator[StudyProgress]:
    """Whoever is told how far it is."""
    if progress is True:
        with Sink().progress() as bar:
            yield bar
    else:
        yield progress or SILENT
