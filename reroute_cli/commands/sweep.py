"""`reroute sweep`: methods, actions and amounts side by side, quality against measured cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reroute_cli import options, run_options
from reroute_cli.arms import Arm
from reroute_cli.console.errors import EXIT_FAILURE
from reroute_cli.console.output import Sink, to_json, write_file
from reroute_cli.models import LoadOptions
from reroute_cli.profiling.plan import Plan
from reroute_cli.sources import POCKET
from reroute_cli.sweeping.arms import DEFAULT_RATIOS, read_amounts, sweep_arms
from reroute_cli.sweeping.choices import CostName, TableFormat, check_against, check_plot

if TYPE_CHECKING:
    from reroute_cli.evaluation.subject import Subject
    from reroute_cli.records.sweep import SweepReport
    from reroute_cli.sweeping.run import Wish

_SCHEDULE, _COSTS, _OUTPUT = "Schedule", "Costs", "Output"

Arms = Annotated[
    str | None,
    typer.Option(
        "--arms",
        metavar="LIST",
        help="METHOD[@LAYER+LAYER][:ACTION], separated by commas; without an action both, without the option "
        "every method.",
        show_default=False,
        rich_help_panel=_SCHEDULE,
    ),
]
Ratios = Annotated[
    str | None,
    typer.Option(
        "--ratios",
        metavar="LIST",
        help=f"Reduction ratios, separated by commas; by default {DEFAULT_RATIOS}.",
        show_default=False,
        rich_help_panel=_SCHEDULE,
    ),
]
Budgets = Annotated[
    str | None,
    typer.Option(
        "--budgets",
        metavar="LIST",
        help="The same as average numbers of visual tokens per decoder layer.",
        show_default=False,
        rich_help_panel=_SCHEDULE,
    ),
]
CostItems = Annotated[
    int,
    typer.Option(
        "--cost-items",
        metavar="N",
        callback=options.within(0, 10_000),
        help="Items that costs are measured on, under all arms in turn; 0 leaves costs estimated.",
        rich_help_panel=_COSTS,
    ),
]
CostTokens = Annotated[
    int,
    typer.Option(
        "--cost-tokens",
        metavar="N",
        callback=options.within(1, 4096),
        help="Tokens of every measured answer.",
        rich_help_panel=_COSTS,
    ),
]
Against = Annotated[
    CostName,
    typer.Option("--against", help="The cost of the Pareto front and the plot.", rich_help_panel=_COSTS),
]
Format = Annotated[
    TableFormat,
    typer.Option("--format", help="What stdout gets; --json is short for json.", rich_help_panel=_OUTPUT),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Draw the scores against the cost, as .svg or .png; needs the extra reroute[plot].",
        show_default=False,
        rich_help_panel=_OUTPUT,
    ),
]


def sweep(
    bench: run_options.Bench = None,
    split: run_options.Split = None,
    data: run_options.Data = None,
    manifest: run_options.TruthManifest = None,
    limit: run_options.QuestionLimit = None,
    model: options.Model = POCKET,
    arms: Arms = None,
    ratios: Ratios = None,
    budgets: Budgets = None,
    device: options.Device = "auto",
    dtype: options.Dtype = options.DtypeName.AUTO,
    attn: options.Attn = options.AttnName.SDPA,
    load_format: options.Load = options.LoadFormat.AUTO,
    chat_template: options.ChatTemplate = None,
    batch_size: run_options.BatchSize = 8,
    max_new_tokens: run_options.LongestAnswer = None,
    generation: options.Generation = options.GenerationName.MODEL,
    cost_items: CostItems = 4,
    cost_tokens: CostTokens = 16,
    warmup: run_options.Warmup = 1,
    repeat: run_options.Repeat = 3,
    against: Against = CostName.PREFILL_FLOPS,
    seed: options.Seed = 0,
    records: run_options.KeptAnswers = None,
    plot: Plot = None,
    format: Format = TableFormat.TEXT,  # noqa: A002  named after its option
    json: options.Json = False,
    output: options.Output = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Sweep methods, actions and amounts over questions with truths: quality against measured cost."""
    from reroute_cli.evaluation.ready import check_files
    from reroute_cli.evaluation.subject import subject_of

    sink = Sink(quiet=quiet, verbose=verbose)
    shown = run_options.shown_format(format, json=json)
    chosen = sweep_arms(arms, read_amounts(ratios, budgets), seed)
    check_plot(plot)
    check_against(against, cost_items)
    check_files({"--output": output, "--records": records, "--plot": plot}, {"--manifest": manifest})
    subject = subject_of(bench, split, data, manifest, limit)
    loading = LoadOptions(
        model, device, dtype, attn, load_format, seed, chat_template, str(generation), quiet
    )
    wish = _wish(
        subject, max_new_tokens, batch_size, cost_items, Plan(cost_tokens, warmup, repeat), against, seed
    )
    report = _swept(sink, loading, subject, chosen, wish, records)
    if output is not None:
        write_file(output, to_json(report.as_dict()) + "\n")
    _show(sink, report, shown)
    if plot is not None:
        from reroute_cli.views.write.plot import draw_plot

        draw_plot(report, plot)
    if report.counts.errors:
        raise typer.Exit(EXIT_FAILURE)


def _wish(
    subject: Subject,
    longest: int | None,
    batch_size: int,
    cost_items: int,
    plan: Plan,
    against: CostName,
    seed: int,
) -> Wish:
    from reroute_cli.sweeping.run import Wish

    bench = subject.benchmark
    tokens = longest or bench.max_new_tokens
    return Wish(bench.scores, tokens, batch_size, cost_items, plan, against.metric, seed)


def _swept(
    sink: Sink,
    loading: LoadOptions,
    subject: Subject,
    arms: tuple[Arm, ...],
    wish: Wish,
    records: Path | None,
) -> SweepReport:
    from reroute_cli.evaluation.ready import made_ready
    from reroute_cli.sweeping.run import run_sweep

    with made_ready(sink, loading, subject, arms, records) as ready:
        return run_sweep(ready, arms, wish, sink.talk)


def _show(sink: Sink, report: SweepReport, shown: TableFormat) -> None:
    """The report on stdout in this format."""
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import csv, markdown, terminal

    if shown is TableFormat.JSON:
        sink.json(report.as_dict())
    elif shown is TableFormat.CSV:
        sink.result(csv.document_csv(document(report)))
    elif shown is TableFormat.MARKDOWN:
        sink.result(markdown.markdown(document(report, verbose=sink.verbose)))
    else:
        sink.table(*terminal.page(document(report, verbose=sink.verbose)))
