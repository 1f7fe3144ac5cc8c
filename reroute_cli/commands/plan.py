"""`reroute plan`: a schedule and its cost by arithmetic, from a model's config alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reroute_cli import options
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import Sink, check_writable, to_json, write_file
from reroute_cli.schedules import ScheduleChoice, read_cuts
from reroute_cli.sources import POCKET

if TYPE_CHECKING:
    from reroute_cli.planning.shapes import Shaped
    from reroute_cli.records.plan import Plan

TEXT_TOKENS = 64

VisualTokens = Annotated[
    int | None,
    typer.Option(
        "--visual-tokens",
        metavar="N",
        callback=options.within(1, 1_000_000),
        help="Visual tokens of the prompt; by default those of one picture of the model's own size.",
        show_default=False,
        rich_help_panel="Prompt",
    ),
]
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        metavar="FILE",
        help="A picture of the prompt, for its size; repeat for several.",
        show_default=False,
        rich_help_panel="Prompt",
    ),
]
TextTokens = Annotated[
    int,
    typer.Option(
        "--text-tokens",
        metavar="N",
        callback=options.within(1, 1_000_000),
        help="Text tokens of the prompt, template included.",
        rich_help_panel="Prompt",
    ),
]
Dtype = Annotated[
    options.DtypeName,
    typer.Option("--dtype", help="Of the KV cache; auto is what the config names.", rich_help_panel="Model"),
]


def plan(
    model: options.Model = POCKET,
    method: options.Method = None,
    action: options.Action = None,
    ratio: options.Ratio = None,
    budget: options.Budget = None,
    cuts: options.Cuts = None,
    profile: options.Profile = None,
    image: Images = None,
    visual_tokens: VisualTokens = None,
    text_tokens: TextTokens = TEXT_TOKENS,
    dtype: Dtype = options.DtypeName.AUTO,
    json: options.Json = False,
    output: options.Output = None,
) -> None:
    """Show a schedule's stages, FLOPs and KV bytes beside dense, by arithmetic: no weights are loaded."""
    choice = ScheduleChoice(method, action, ratio, budget, profile, cuts=read_cuts(cuts))
    if problem := check_writable(output):
        raise Failure(f"--output: {problem}")
    if image and visual_tokens is not None:
        raise UsageError("--image and --visual-tokens say the same thing in two ways: give one of them")
    choice.check_profile()
    planned = _planned(choice, _prompt(model, image or [], visual_tokens), text_tokens, dtype.value)
    if output is not None:
        write_file(output, to_json(planned.as_dict()) + "\n")
    if json:
        Sink().json(planned.as_dict())
        return
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import terminal

    Sink().table(*terminal.page(document(planned)))


def _prompt(model: str, images: list[str], visual_tokens: int | None) -> Shaped:
    """The model and its pictures: files, a number of tokens, or one picture of the model's own size."""
    from reroute_cli.planning.shapes import read_shape

    shaped = read_shape(model)
    if not images:
        return shaped.with_visual(visual_tokens)
    from reroute_cli.images import open_picture

    return shaped.with_pictures([open_picture(path).size for path in images])


def _planned(choice: ScheduleChoice, shaped: Shaped, text_tokens: int, dtype: str) -> Plan:
    from reroute_cli.planning.plan import make_plan

    return make_plan(shaped, choice, text_tokens, shaped.dtype if dtype == "auto" else dtype)
