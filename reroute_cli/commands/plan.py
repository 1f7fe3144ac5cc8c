"""`reroute plan`: a schedule and its cost by arithmetic, from a model's config alone."""

from __future__ import annotations

from reroute_cli.console.command_options import PlanOutput, PromptOptions, ShapeOptions
from reroute_cli.console.options import ScheduleOptions


def plan(model: ShapeOptions, schedule: ScheduleOptions, prompt: PromptOptions, output: PlanOutput) -> None:
    """Show a schedule's stages, FLOPs and KV bytes beside dense, by arithmetic: no weights are loaded."""
    from reroute_cli.run.schedules import ScheduleChoice
    from reroute_cli.studies.plan import plan_prompt
    from reroute_cli.views.emit import emit

    choice, sizes = ScheduleChoice.of(schedule), []
    if prompt.image:
        from reroute_cli.data.images import open_image

        sizes = [open_image(path).size for path in prompt.image]
    emit(plan_prompt(model, choice, prompt, sizes), output)
