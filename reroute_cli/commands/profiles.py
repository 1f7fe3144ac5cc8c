"""`reroute profiles list|show|validate`: schedules by name or file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reroute_cli.console.command_options import ProfileFiles, ShownProfileOptions
from reroute_cli.console.errors import Failure
from reroute_cli.console.options import ListOutput
from reroute_cli.console.output import Sink
from reroute_cli.models.sources import POCKET

if TYPE_CHECKING:
    from profiles import Profile
    from reroute_cli.records.lists import ProfilePart
    from routing.solve import Target


def list_profiles(output: ListOutput) -> None:
    """List the profiles that come with reroute, each with its true average."""
    import profiles
    from reroute_cli.records.lists import ProfileList
    from reroute_cli.views.emit import emit

    emit(ProfileList(profiles=[_row(profile) for profile in profiles.published()]), output)


def show(profile: ShownProfileOptions, output: ListOutput) -> None:
    """Print a profile as YAML with explicit stages, a file that -p accepts."""
    import profiles

    found = profiles.load(profile.profile)
    target = _fitted(found, profile.model)
    schedule = found.schedule(target.layers, target.visual, target.first_layer, target.last_layer)
    if output.json:
        from reroute_cli.records.lists import ShownProfile

        output.sink.json(ShownProfile(**_row(found).model_dump(), schedule=schedule.as_dict()).as_dict())
        return
    output.sink.result(
        profiles.dump(
            schedule,
            title=found.title,
            source=found.source,
            model_family=found.model_family or "",
            layers=target.layers,
            visual=target.visual,
            provenance=found.provenance,
        )
    )


def validate(profile: ProfileFiles) -> None:
    """Check profile files: one line each; exit code 4 when one is not valid."""
    import profiles

    sink, wrong = Sink(), 0
    for file in profile.files:
        try:
            found = profiles.load(file)
            to = _fitted(found, None)
            schedule = found.schedule(to.layers, to.visual, to.first_layer, to.last_layer)
            average = schedule.average_tokens(to.visual, to.layers)
            sink.result(
                f"{file}: valid, {average:.1f} of {to.visual} visual tokens on average over {to.layers} "
                "layers"
            )
        except ValueError as error:  # ProfileError, ScheduleError and BudgetError alike
            wrong += 1
            sink.talk(f"error: {error}")
    if wrong:
        raise Failure(f"{wrong} of {len(profile.files)} profiles can't be used: mend what is named above")


def _fitted(profile: Profile, model: str | None) -> Target:
    """What a profile is to fit: `model`, else what it was made for, else pocket."""
    from reroute_cli.models.shapes import read_shape
    from routing.solve import Target

    if model is None and profile.layers is not None and profile.visual is not None:
        return Target(profile.layers, 0, profile.visual, "")
    return read_shape(model or POCKET).with_visual(None).target


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
