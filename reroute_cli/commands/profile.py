"""`reroute profile`: what a schedule costs and saves, measured against the dense model in one run."""

from __future__ import annotations

from reroute_cli.console.options import ArmsOptions, ModelOptions
from reroute_cli.console.study_options import MeasureOptions, ProfileItems, ProfileOutput, VerdictOptions


def profile(
    items: ProfileItems,
    model: ModelOptions,
    schedules: ArmsOptions,
    measure: MeasureOptions,
    verdict: VerdictOptions,
    output: ProfileOutput,
) -> None:
    """Measure schedules against the dense model, interleaved in one run, over images and questions."""
    from reroute_cli.data.items import check_images, choose_items
    from reroute_cli.run.schedules import arms_of
    from reroute_cli.studies.compare import judged, prepare

    sink, arms = output.sink, arms_of(schedules)
    check = prepare(verdict.baseline, verdict.gate or [], verdict.strict, output.output)
    if check is not None:
        check.expect(measure, model.seed)
    found = choose_items(items.images or [], items.question, items.manifest, items.limit)
    check_images(found.chosen)
    if len(found.chosen) < found.available:
        sink.talk(f"measuring {len(found.chosen)} of {found.available} items, spread evenly; see --limit")

    from reroute_cli.models.load import load_aloud, quiet_libraries
    from reroute_cli.studies.profile import MeasurePlan
    from reroute_cli.studies.profile import profile as measured
    from reroute_cli.views.emit import emit

    plan = MeasurePlan.of(measure)
    with quiet_libraries(), sink.progress() as progress:
        progress.tell("loading the model")
        loaded = load_aloud(model, sink, [arm.choice for arm in arms])
        report = measured(loaded, found.chosen, arms, plan, seed=model.seed, progress=progress)
    with judged(sink, check, report, output.output):
        emit(report, output)
