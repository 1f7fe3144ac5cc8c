"""`reroute ask IMAGE... QUESTION`: one answer on stdout, what it cost on stderr."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reroute_cli import options
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import Sink, check_writable, to_json, write_file
from reroute_cli.models import LoadOptions
from reroute_cli.schedules import ScheduleChoice, read_cuts
from reroute_cli.sources import POCKET

if TYPE_CHECKING:
    from reroute_cli.images import Picture
    from reroute_cli.records.answer import AnswerRecord


def ask(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="One or more picture files.", show_default=False)
    ],
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", help="The question, last and in quotes.", show_default=False)
    ],
    model: options.Model = POCKET,
    method: options.Method = None,
    action: options.Action = None,
    ratio: options.Ratio = None,
    budget: options.Budget = None,
    cuts: options.Cuts = None,
    profile: options.Profile = None,
    device: options.Device = "auto",
    dtype: options.Dtype = options.DtypeName.AUTO,
    attn: options.Attn = options.AttnName.SDPA,
    load_format: options.Load = options.LoadFormat.AUTO,
    chat_template: options.ChatTemplate = None,
    max_new_tokens: options.MaxNewTokens = 64,
    generation: options.Generation = options.GenerationName.MODEL,
    seed: options.Seed = 0,
    json: options.Json = False,
    output: options.Output = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Ask a question about pictures: the answer on stdout, what it cost on stderr."""
    sink = Sink(quiet=quiet, verbose=verbose)
    choice = ScheduleChoice(method, action, ratio, budget, profile, seed, read_cuts(cuts))
    if _is_file(question):
        raise UsageError(f"the last word, '{question}', is a file: the question comes last, in quotes")
    if problem := check_writable(output):
        raise Failure(f"--output: {problem}")
    pictures = _checked(images, question, choice)
    load_options = LoadOptions(
        model, device, dtype, attn, load_format, seed, chat_template, str(generation), quiet
    )
    if quiet and not json and output is None:  # nobody will see a cost: only the answer is worked out
        sink.result(_text(pictures, question, choice, load_options, max_new_tokens))
        return
    record = _record(sink, pictures, question, choice, load_options, max_new_tokens)
    if caveat := choice.caveat(record.model.family, len(record.kv_cache.per_layer_tokens)):
        sink.talk(caveat)
    if output is not None:
        write_file(output, to_json(record.as_dict()) + "\n")
    _show(sink, record, as_json=json)


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except OSError:  # too long for a file name: surely a question
        return False


def _checked(paths: list[str], question: str, choice: ScheduleChoice) -> list[Picture]:
    """What can be found wrong before torch and the model are loaded, and the opened pictures."""
    from reroute_cli.images import open_picture
    from reroute_cli.prompts import check_question

    check_question(question)
    choice.check_profile()
    return [open_picture(path) for path in paths]


def _text(
    pictures: list[Picture], question: str, choice: ScheduleChoice, loading: LoadOptions, most: int
) -> str:
    from reroute_cli.answer import Asked, answer_only
    from reroute_cli.models import load, quiet_libraries

    with quiet_libraries():
        return answer_only(load(loading), Asked(pictures, question, most), choice)


def _record(
    sink: Sink,
    pictures: list[Picture],
    question: str,
    choice: ScheduleChoice,
    loading: LoadOptions,
    most: int,
) -> AnswerRecord:
    from reroute_cli.answer import Asked, answer
    from reroute_cli.models import load, quiet_libraries

    with quiet_libraries():
        loaded = load(loading)
        for remark in loaded.remarks:
            sink.talk(remark)
        return answer(loaded, Asked(pictures, question, most), choice)


def _show(sink: Sink, record: AnswerRecord, *, as_json: bool) -> None:
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import terminal

    if as_json:
        sink.json(record.as_dict())
    else:
        sink.result(record.answer)
    sink.card("", *terminal.page(document(record, verbose=sink.verbose)))
