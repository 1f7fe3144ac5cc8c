"""`reroute methods [NAME]`: the reduction methods there are, or all that there is to say of one."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import TYPE_CHECKING

from reroute_cli.console.command_options import ShownMethodOptions
from reroute_cli.console.errors import UsageError
from reroute_cli.console.options import ACTIONS, ActionName, ListOutput

if TYPE_CHECKING:
    from reroute_cli.models.shapes import Shaped
    from reroute_cli.records.lists import MethodPart, MethodStagePart, PublishedBudgetPart, ShownMethod
    from routing.methods import Method

_RATIO = 0.5  # of the schedules that decisions are read off: within reach of every method, or nearly so
_VISUAL = 576  # tokens of an image whose size nobody said


def methods(wanted: ShownMethodOptions, output: ListOutput) -> None:
    """List the reduction methods, or tell all of one: what it needs, where it acts, what it can be asked."""
    from reroute_cli.models.shapes import read_shape
    from reroute_cli.records.lists import MethodList
    from reroute_cli.views.emit import emit
    from routing.methods import METHODS

    if wanted.name is None:
        emit(MethodList(methods=[_row(method) for method in METHODS.values()]), output)
        return
    if wanted.name not in METHODS:
        close = difflib.get_close_matches(wanted.name, METHODS, n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(METHODS)}"
        raise UsageError(f"there is no method '{wanted.name}': {hint}")
    shaped = read_shape(wanted.model)
    emit(_shown(METHODS[wanted.name], shaped.with_visual(shaped.visual or _VISUAL)), output)


def _row(method: Method) -> MethodPart:
    from reroute_cli.records.lists import MethodPart

    return MethodPart(
        name=method.name,
        title=method.title,
        actions=[str(action) for action in method.actions],
        scored=method.scored,
        year=method.year or None,
        paper=method.paper or None,
        summary=method.summary,
        options=dict(method.options),
    )


def _shown(method: Method, shaped: Shaped) -> ShownMethod:
    from reroute_cli.records.lists import ShownMethod
    from routing.families import no_vision_stage

    at_the_tower = any(selection.at_the_tower for selection in method.selections.values())
    return ShownMethod(
        **_row(method).model_dump(),
        model=shaped.name,
        layers=shaped.target.layers,
        refused=no_vision_stage(shaped.shape.family) if at_the_tower else None,
        resizes=method.resizes,
        stages={name: _stages(method, name, shaped) for name in ACTIONS if name in method.published},
        settings={name: value for one in method.selections.values() for name, value in one.settings.items()},
        bounds={name: str(bound) for one in method.selections.values() for name, bound in one.bounds.items()},
        budgets=_budgets(method),
    )


def _stages(method: Method, action: ActionName, shaped: Shaped) -> list[MethodStagePart]:
    """The decisions of a schedule that it makes for this model."""
    from reroute_cli.records.lists import MethodStagePart
    from reroute_cli.run.schedules import ScheduleChoice
    from reroute_cli.run.stages import places_of
    from routing.errors import BudgetError
    from routing.methods import DENSE, SCORERS, SELECTIONS

    if method.name == DENSE:
        return []
    choice = ScheduleChoice(method=method.name, action=action, ratio=_RATIO)
    try:
        schedule = choice.build(shaped.target)
    except BudgetError as error:
        schedule = replace(choice, ratio=error.nearest).build(shaped.target)
    scorer = SCORERS[schedule.scorer]
    needs = {"decoder": list(scorer.needs)}
    if schedule.vision is not None:
        asked = SELECTIONS[schedule.vision.selection].asked(schedule.vision)
        needs |= dict.fromkeys(("vision", "entrance"), sorted(asked))
    return [
        MethodStagePart(
            where=where,
            layer=layer,
            needs=needs[where],
            queries=scorer.rows or None if where == "decoder" else None,
        )
        for layer, where in places_of(schedule).items()
    ]


def _budgets(method: Method) -> list[PublishedBudgetPart]:
    """The profiles of its own that are named after a budget."""
    import profiles
    from reroute_cli.records.lists import PublishedBudgetPart

    return [
        PublishedBudgetPart(
            profile=one.name,
            origin=one.origin,
            action=str(one.schedule(one.layers, one.visual).action),
            budget=one.budget,
            visual_tokens_per_layer=one.average,
            visual_tokens=one.visual,
        )
        for one in profiles.published()
        if one.method == method.name and one.budget and one.layers and one.visual and one.average
    ]
