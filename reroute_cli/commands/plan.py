"""`reroute plan`: a schedule and its cost by arithmetic, from a model's config alone."""

from __future__ import annotations

from reroute_cli.console.command_options import PlanOutput, PromptOptions, ShapeOptions
from reroute_cli.console.options import ScheduleOptions


def plan(model: ShapeOptions, schedule: ScheduleOptions, prompt: PromptOptions, output: PlanOutput) -> None:
    """Show a schedule's stages, FLOPs and KV bytes beside dense, by arithmetic: no weights are loaded."""
    from reroute_cli.models.shapes import read_shape
    from reroute_cli.run.schedules import ScheduleChoice
    from reroute_cli.studies.plan import plan as planned
    from reroute_cli.views.emit import emit

    choice = ScheduleChoice.of(schedule)
    shaped = read_shape(model.model)
    if prompt.image:
        from reroute_cli.data.images import open_picture

        shaped = shaped.with_pictures([open_picture(path).size for path in prompt.image])
    else:  # a number of tokens, or one image of the model's own size
        shaped = shaped.with_visual(prompt.visual_tokens)
    dtype = shaped.dtype if model.dtype == "auto" else model.dtype
    emit(planned(shaped, choice, prompt.text_tokens, dtype), output)
