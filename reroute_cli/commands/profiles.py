"""`reroute profiles list|show|validate`: schedules by name or file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reroute_cli import options
from reroute_cli.console.errors import Failure
from reroute_cli.console.output import Sink
from reroute_cli.sources import POCKET

if TYPE_CHECKING:
    from profiles import Profile
    from reroute_cli.records.lists import ProfilePart

app = typer.Typer(no_args_is_help=True, help="Schedules by name or file: list, show and validate them.")

ShowModel = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        metavar="MODEL",
        help="Solve it for this model instead of the one it was made for.",
        show_default=False,
    ),
]


@app.command("list")
def list_profiles(json: options.Json = False) -> None:
    """List the profiles that come with reroute, each with its true average."""
    import profiles
    from reroute_cli.records.lists import ProfileList

    found = ProfileList(profiles=[_row(profile) for profile in profiles.published()])
    if json:
        Sink().json(found.as_dict())
        return
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import terminal

    Sink().table(*terminal.page(document(found)))


@app.command("show")
def show(
    profile: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A profile.", show_default=False)],
    model: ShowModel = None,
    json: options.Json = False,
) -> None:
    """Print a profile as YAML with explicit stages, a file that -p accepts."""
    import profiles

    found = profiles.load(profile)
    layers, visual, first_layer = _fitted(found, model)
    schedule = found.schedule(layers, visual, first_layer)
    if json:
        from reroute_cli.records.lists import ShownProfile

        Sink().json(ShownProfile(**_row(found).model_dump(), schedule=schedule.as_dict()).as_dict())
        return
    Sink().result(
        profiles.dump(
            schedule,
            title=found.title,
            source=found.source,
            model_family=found.model_family or "",
            layers=layers,
            visual=visual,
            provenance=found.provenance,
        )
    )


@app.command("validate")
def validate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="Profile files or names.", show_default=False)
    ],
) -> None:
    """Check profile files: one line each; exit code 4 when one is not valid."""
    import profiles

    sink, wrong = Sink(), 0
    for file in files:
        try:
            sink.result(f"{file}: valid, {_checked(profiles.load(file))}")
        except ValueError as error:  # ProfileError, ScheduleError and BudgetError alike
            wrong += 1
            sink.talk(f"error: {error}")
    if wrong:
        raise Failure(f"{wrong} of {len(files)} profiles can't be used: mend what is named above")


def _checked(profile: Profile) -> str:
    """What the profile comes to on its model, or on the embedded one."""
    layers, visual, first_layer = _fitted(profile, None)
    average = profile.schedule(layers, visual, first_layer).average_tokens(visual, layers)
    return f"{average:.1f} of {visual} visual tokens on average over {layers} layers"


def _fitted(profile: Profile, model: str | None) -> tuple[int, int, int]:
    """Layers, visual tokens and first layer: of `model`, else of what it was made for, else of pocket."""
    from reroute_cli.planning.shapes import read_shape

    if model is None and profile.layers is not None and profile.visual is not None:
        return profile.layers, profile.visual, 0
    target = read_shape(model or POCKET).with_visual(None).target
    return target.layers, target.visual, target.first_layer


def _row(profile: Profile) -> ProfilePart:
    from reroute_cli.records.lists import ProfilePart

    return ProfilePart(
        name=profile.name,
        title=profile.title,
        origin=profile.origin,
        model_family=profile.model_family,
        source=profile.source or None,
        layers=profile.layers,
        visual_tokens=profile.visual,
        visual_tokens_per_layer=profile.average,
    )
