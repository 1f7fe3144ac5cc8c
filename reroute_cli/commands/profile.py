"""`reroute profile`: what a schedule costs and saves, measured against the dense model in one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reroute_cli import options, run_options
from reroute_cli.arms import Arm, ArmOptions, arms_of
from reroute_cli.console.errors import Failure
from reroute_cli.console.output import Sink, check_writable, to_json, write_file
from reroute_cli.models import LoadOptions
from reroute_cli.profiling.plan import Plan
from reroute_cli.regression.check import judged, prepare
from reroute_cli.run_options import FormatName
from reroute_cli.schedules import read_cuts
from reroute_cli.sources import POCKET

if TYPE_CHECKING:
    from reroute_cli.inputs import Item, Items
    from reroute_cli.records.report import Report


def profile(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE", help="Picture files; by default samples.", show_default=False),
    ] = None,
    question: run_options.Question = None,
    manifest: run_options.Manifest = None,
    limit: run_options.Limit = None,
    model: options.Model = POCKET,
    method: options.Method = None,
    action: options.Action = None,
    ratio: options.Ratio = None,
    budget: options.Budget = None,
    cuts: options.Cuts = None,
    profile: options.Profile = None,
    arms: run_options.Arms = None,
    device: options.Device = "auto",
    dtype: options.Dtype = options.DtypeName.AUTO,
    attn: options.Attn = options.AttnName.SDPA,
    load_format: options.Load = options.LoadFormat.AUTO,
    chat_template: options.ChatTemplate = None,
    max_new_tokens: run_options.ForcedTokens = 16,
    generation: options.Generation = options.GenerationName.MODEL,
    warmup: run_options.Warmup = 1,
    repeat: run_options.Repeat = 3,
    seed: options.Seed = 0,
    baseline: options.Baseline = None,
    gate: options.Gates = None,
    strict: options.Strict = False,
    format: run_options.Format = FormatName.TEXT,  # noqa: A002  named after its option
    json: options.Json = False,
    output: options.Output = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure schedules against the dense model, interleaved in one run, over pictures and questions."""
    sink = Sink(quiet=quiet, verbose=verbose)
    shown = run_options.shown_format(format, json=json)
    chosen = arms_of(ArmOptions(method, action, ratio, budget, profile, arms, seed, read_cuts(cuts)))
    if problem := check_writable(output):
        raise Failure(f"--output: {problem}")
    check = prepare(baseline, gate or [], strict, output)
    if check is not None:
        check.expect(max_new_tokens, seed)
    items = _items(sink, images or [], question, manifest, limit)
    loading = LoadOptions(
        model, device, dtype, attn, load_format, seed, chat_template, str(generation), quiet
    )
    report = _measured(sink, loading, items.chosen, chosen, Plan(max_new_tokens, warmup, repeat))
    _caveats(sink, chosen, report)
    if output is not None:
        write_file(output, to_json(report.as_dict()) + "\n")
    with judged(sink, check, report, output):
        show_report(sink, report, shown)


def show_report(sink: Sink, report: Report, shown: FormatName) -> None:
    """The report on stdout in this format."""
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import ci, csv, markdown, terminal

    if shown is FormatName.JSON:
        sink.json(report.as_dict())
    elif shown is FormatName.CSV:
        sink.result(csv.document_csv(document(report)))
    elif shown is FormatName.MARKDOWN:
        sink.result(markdown.markdown(document(report, verbose=sink.verbose)))
    elif shown is FormatName.TEXT:
        sink.table(*terminal.page(document(report, verbose=sink.verbose)))
    else:
        sink.result(ci.NUMBERS[shown](report))


def _items(
    sink: Sink, images: list[str], question: str | None, manifest: Path | None, limit: int | None
) -> Items:
    """The items, each picture opened once, before torch and a model are loaded."""
    from reroute_cli.inputs import check_pictures, choose_items

    items = choose_items(images, question, manifest, limit)
    check_pictures(items.chosen)
    if len(items.chosen) < items.available:
        sink.talk(f"measuring {len(items.chosen)} of {items.available} items, spread evenly; see --limit")
    return items


def _measured(
    sink: Sink, loading: LoadOptions, items: tuple[Item, ...], arms: tuple[Arm, ...], plan: Plan
) -> Report:
    """Load, prepare, measure, report."""
    from reroute_cli.models import load, quiet_libraries
    from reroute_cli.profiling.loop import measure
    from reroute_cli.profiling.report import make_report
    from reroute_cli.profiling.work import prepare

    with quiet_libraries(), sink.progress() as progress:
        progress.tell("loading the model")
        loaded = load(loading)
        for remark in loaded.remarks:
            sink.talk(remark)
        work = prepare(loaded, items, arms, plan.new_tokens)
        progress.expect(plan.jobs(len(items), len(arms)))
        measured = measure(work, plan, progress.tell, progress.done)
        return make_report(work, plan, measured, loading.seed)


def _caveats(sink: Sink, arms: tuple[Arm, ...], report: Report) -> None:
    """What to know of profiles that were made for another model."""
    model = report.model
    for arm in arms:
        if caveat := arm.choice.caveat(model.family, model.layers or 0):
            sink.talk(caveat)
