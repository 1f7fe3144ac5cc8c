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
    from reroute_cli.inputs import check_pictures, choose_items
    from reroute_cli.regression.check import judged, prepare
    from reroute_cli.schedules import arms_of

    sink, arms = output.sink, arms_of(schedules)
    check = prepare(verdict.baseline, verdict.gate or [], verdict.strict, output.output)
    if check is not None:
        check.expect(measure.max_new_tokens, model.seed)
    found = choose_items(items.images or [], items.question, items.manifest, items.limit)
    check_pictures(found.chosen)
    if len(found.chosen) < found.available:
        sink.talk(f"measuring {len(found.chosen)} of {found.available} items, spread evenly; see --limit")

    from reroute_cli.models import load_aloud, quiet_libraries
    from reroute_cli.profiling.loop import measure as measured
    from reroute_cli.profiling.plan import Plan
    from reroute_cli.profiling.report import make_report
    from reroute_cli.profiling.work import prepare as prepared
    from reroute_cli.views.emit import emit

    plan = Plan(measure.max_new_tokens, measure.warmup, measure.repeat)
    with quiet_libraries(), sink.progress() as progress:
        progress.tell("loading the model")
        loaded = load_aloud(model, sink, [arm.choice for arm in arms])
        work = prepared(loaded, found.chosen, arms, plan.new_tokens)
        progress.expect(plan.jobs(len(found.chosen), len(arms)))
        report = make_report(work, plan, measured(work, plan, progress.tell, progress.done), model.seed)
    with judged(sink, check, report, output.output):
        emit(report, output)
