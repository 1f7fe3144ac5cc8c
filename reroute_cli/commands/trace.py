"""`reroute trace IMAGE QUESTION`: where every visual token went, drawn over the picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reroute_cli import options, run_options
from reroute_cli.arms import Arm
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import Sink, check_writable, to_json, write_file
from reroute_cli.models import LoadOptions
from reroute_cli.schedules import ScheduleChoice, read_cuts
from reroute_cli.sources import POCKET
from reroute_cli.tracing.choices import HTML, JSON, PNG, check_box, check_output, read_box

if TYPE_CHECKING:
    from reroute_cli.boxes import Box
    from reroute_cli.images import Picture
    from reroute_cli.records.trace import TraceRecord

_SCHEDULE, _OUTPUT = "Schedule", "Output"
_NAME = 60  # characters of the page's own name on it

Versus = Annotated[
    bool,
    typer.Option(
        "--versus",
        help="Both actions of the method at the same amount: dense, prune and reroute below one another.",
        rich_help_panel=_SCHEDULE,
    ),
]
GivenBox = Annotated[
    str | None,
    typer.Option(
        "--box",
        metavar="X1,Y1,X2,Y2",
        help="Where the answer is, in pixels: recall counts the tokens in it; by default those in the box of "
        "the dense answer.",
        show_default=False,
        rich_help_panel=_OUTPUT,
    ),
]


def trace(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="A picture file.", show_default=False)],
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
    versus: Versus = False,
    device: options.Device = "auto",
    dtype: options.Dtype = options.DtypeName.AUTO,
    attn: options.Attn = options.AttnName.SDPA,
    load_format: options.Load = options.LoadFormat.AUTO,
    chat_template: options.ChatTemplate = None,
    max_new_tokens: options.MaxNewTokens = 64,
    generation: options.Generation = options.GenerationName.MODEL,
    seed: options.Seed = 0,
    box: GivenBox = None,
    json: options.Json = False,
    output: run_options.TraceFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Trace every visual token: what each stage kept, deferred, took back or pruned, over the picture."""
    from reroute_cli.tracing.arms import traced_arms

    sink = Sink(quiet=quiet, verbose=verbose)
    kind = check_output(output)
    choice = ScheduleChoice(method, action, ratio, budget, profile, seed, read_cuts(cuts))
    arms = traced_arms(choice, versus=versus)
    shows = _shows(output, json=json)
    if problem := check_writable(output):
        raise Failure(f"--output: {problem}")
    if kind == HTML:
        from reroute_cli.views.write.html import check_packages

        check_packages()
    given = read_box(box)
    picture = _checked(images, question, choice)
    check_box(given, picture.size)
    loading = LoadOptions(
        model, device, dtype, attn, load_format, seed, chat_template, str(generation), quiet
    )
    record = _record(sink, loading, picture, question, arms, max_new_tokens, given)
    if caveat := choice.caveat(record.model.family, record.layers):
        sink.talk(caveat)
    data = _drawn(sink, record, picture) if kind == PNG or shows else b""
    _write(record, output, kind, data)
    _show(sink, record, output, data if shows else b"", as_json=json)


def _shows(output: Path | None, *, json: bool) -> bool:
    """Whether the terminal is to show the picture; raises UsageError where nobody would get anything."""
    from reroute_cli.views.write.terminal import shows_images

    shows = not json and shows_images()
    if output is None and not json and not shows:
        raise UsageError("a trace has nowhere to go: add -o FILE.png, FILE.html or FILE.json, or --json")
    return shows


def _checked(paths: list[str], question: str, choice: ScheduleChoice) -> Picture:
    """What can be found wrong before torch and the model are loaded, and the opened picture."""
    from reroute_cli.images import open_picture
    from reroute_cli.prompts import check_question

    if len(paths) > 1:
        raise UsageError(f"trace draws one picture and was given {len(paths)}: name one, then the question")
    check_question(question)
    choice.check_profile()
    return open_picture(paths[0])


def _record(
    sink: Sink,
    loading: LoadOptions,
    picture: Picture,
    question: str,
    arms: tuple[Arm, ...],
    longest: int,
    given: Box | None,
) -> TraceRecord:
    from reroute_cli import models
    from reroute_cli.tracing.trace import trace_question

    with models.quiet_libraries():
        loaded = models.load(loading)
        for remark in loaded.remarks:
            sink.talk(remark)
        return trace_question(loaded, picture, question, arms, longest, given)


def _drawn(sink: Sink, record: TraceRecord, picture: Picture) -> bytes:
    """The figure as a PNG file's bytes."""
    from reroute_cli.views.write.figure import draw_trace

    figure = draw_trace(record, picture.pixels)
    if figure.replaced:
        sink.talk(
            f"note: {figure.replaced} characters that its font lacks are drawn as '?'; the JSON has them"
        )
    return figure.png


def _write(record: TraceRecord, output: Path | None, kind: str | None, data: bytes) -> None:
    if output is None:
        return
    if kind == JSON:
        write_file(output, to_json(record.as_dict()) + "\n")
    elif kind == HTML:
        write_file(output, _page(record, output))
    else:
        write_file(output, data)


def _page(record: TraceRecord, output: Path) -> str:
    """The record as the page that `reroute report` makes of it."""
    from reroute_cli.views.registry import document
    from reroute_cli.views.wording import short
    from reroute_cli.views.write.html import Section, page_of

    section = Section(short(output.name, _NAME), document(record))
    return page_of([section], 1, [Path(record.picture.path).parent]).html


def _show(sink: Sink, record: TraceRecord, output: Path | None, data: bytes, *, as_json: bool) -> None:
    """The record, or the picture where the terminal shows it, or where it was written; numbers on stderr."""
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import terminal

    if as_json:
        sink.json(record.as_dict())
    elif data:
        terminal.show_image(data)
    if output is not None and not as_json:
        sink.result(str(output))
    sink.card("", *terminal.page(document(record)))
