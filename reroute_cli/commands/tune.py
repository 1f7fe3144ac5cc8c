"""`reroute tune`: the best schedule for a budget, or the cheapest above a floor, as a profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reroute_cli import options, run_options
from reroute_cli.console.errors import EXIT_FAILURE, EXIT_REGRESSION, UsageError
from reroute_cli.console.output import Sink, to_json, write_file
from reroute_cli.models import LoadOptions
from reroute_cli.sources import POCKET

if TYPE_CHECKING:
    from reroute_cli.batch_inputs import BatchItem
    from reroute_cli.evaluation.subject import Subject
    from reroute_cli.records.tune import TuneReport
    from reroute_cli.tuning.session import Questions
    from reroute_cli.tuning.wish import Wish

_SUFFIXES = (".yaml", ".yml")
_SEARCH = "Search"

FloorText = Annotated[
    str | None,
    typer.Option(
        "--floor",
        metavar="SCORE|SHARE%",
        help="Find the cheapest schedule whose score stays above this, or above this share of the dense "
        "model's, like 95%; exit code 3 where that does not hold on the reported half.",
        show_default=False,
        rich_help_panel=_SEARCH,
    ),
]
ScoreName = Annotated[
    str | None,
    typer.Option(
        "--score",
        metavar="NAME",
        help="What to be good at; by default the benchmark's first score that is of any question, 'right' "
        "is all of them. Only questions that it is of are asked.",
        show_default=False,
        rich_help_panel=_SEARCH,
    ),
]
Methods = Annotated[
    str,
    typer.Option(
        "--methods",
        metavar="LIST",
        help="Shapes to search: one keep ratio (fastv), a falling one (pdrop), behind a vision stage (nuwa).",
        rich_help_panel=_SEARCH,
    ),
]
Actions = Annotated[
    str, typer.Option("--actions", metavar="LIST", help="Actions to search.", rich_help_panel=_SEARCH)
]
Answers = Annotated[
    int | None,
    typer.Option(
        "--answers",
        metavar="N",
        callback=options.within(100, 1_000_000_000),
        help="Answers that the search may take, without the report; by default 1500, or 6000 for a floor.",
        show_default=False,
        rich_help_panel=_SEARCH,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        callback=options.within(0, 2**31 - 1),
        help="Decides the halves and what is tried, and dummy weights: the same finds the same.",
        rich_help_panel=_SEARCH,
    ),
]
Written = Annotated[
    Path | None,
    typer.Option(
        "--write",
        metavar="PROFILE.yaml",
        help="Write what was found as a profile, which -p takes.",
        show_default=False,
        rich_help_panel="Output",
    ),
]


def tune(
    bench: run_options.Bench = None,
    split: run_options.Split = None,
    data: run_options.Data = None,
    manifest: run_options.TruthManifest = None,
    limit: run_options.QuestionLimit = None,
    model: options.Model = POCKET,
    budget: options.Budget = None,
    ratio: options.Ratio = None,
    floor: FloorText = None,
    score: ScoreName = None,
    methods: Methods = "fastv,pdrop,nuwa",
    actions: Actions = "prune,reroute",
    answers: Answers = None,
    device: options.Device = "auto",
    dtype: options.Dtype = options.DtypeName.AUTO,
    attn: options.Attn = options.AttnName.SDPA,
    load_format: options.Load = options.LoadFormat.AUTO,
    chat_template: options.ChatTemplate = None,
    batch_size: run_options.BatchSize = 8,
    max_new_tokens: run_options.LongestAnswer = None,
    generation: options.Generation = options.GenerationName.MODEL,
    seed: Seed = 0,
    records: run_options.KeptAnswers = None,
    write: Written = None,
    json: options.Json = False,
    output: options.Output = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Search decision layers, keep ratios and method on half of the pictures; report on the other half."""
    sink = Sink(quiet=quiet, verbose=verbose)
    wish = _wish(budget, ratio, floor, methods, actions, answers, seed)
    _check_files({"--output": output, "--records": records, "--write": write}, manifest)
    asked = Asked(wish, score, limit, batch_size, max_new_tokens, write)
    subject = _subject(bench, split, data, manifest, asked)
    loading = LoadOptions(
        model, device, dtype, attn, load_format, seed, chat_template, str(generation), quiet
    )
    report = _tuned(sink, loading, subject, asked, records)
    if output is not None:
        write_file(output, to_json(report.as_dict()) + "\n")
    _show(sink, report, json=json)
    if report.errors:
        raise typer.Exit(EXIT_FAILURE)
    if report.floor is not None and not report.floor.holds:
        raise typer.Exit(EXIT_REGRESSION)


@dataclass(frozen=True)
class Asked:
    """What the options ask for, but for the questions and the model."""

    wish: Wish
    score: str | None
    limit: int | None
    batch_size: int
    max_new_tokens: int | None
    write: Path | None


def _wish(
    budget: float | None,
    ratio: float | None,
    floor: str | None,
    methods: str,
    actions: str,
    answers: int | None,
    seed: int,
) -> Wish:
    from reroute_cli.tuning.wish import wish_of

    return wish_of(budget, ratio, floor, methods, actions, answers, seed)


def _check_files(written: dict[str, Path | None], manifest: Path | None) -> None:
    from reroute_cli.evaluation.ready import check_files

    check_files(written, {"--manifest": manifest})
    profile = written["--write"]
    if profile is not None and profile.suffix not in _SUFFIXES and not profile.exists():
        raise UsageError(f"--write '{profile}' would be no profile that -p knows: let it end in .yaml")


def _subject(
    bench: str | None, split: str | None, data: str | None, manifest: Path | None, asked: Asked
) -> Subject:
    """Which questions; those of this machine are looked at now, before a model is loaded."""
    from reroute_cli.evaluation.subject import subject_of

    subject = subject_of(bench, split, data, manifest, asked.limit)
    if not subject.is_here:
        return subject
    subject = replace(subject, limit=None)  # the limit is of questions that the score is of
    _questions(subject, tuple(subject.questions("").items), asked)
    return subject


def _questions(subject: Subject, items: tuple[BatchItem, ...], asked: Asked) -> Questions:
    from reroute_cli.tuning.session import choose_questions

    return choose_questions(items, subject.benchmark.scores, asked.score, asked.limit, asked.wish.seed)


def _tuned(
    sink: Sink, loading: LoadOptions, subject: Subject, asked: Asked, records: Path | None
) -> TuneReport:
    """Everything that needs torch: load, search, report; the profile is written here too."""
    from reroute_cli.evaluation.ready import made_ready
    from reroute_cli.tuning.jury import Asking
    from reroute_cli.tuning.profile_file import profile_text
    from reroute_cli.tuning.report import Where, make_report
    from reroute_cli.tuning.session import tune as search

    with made_ready(sink, loading, subject, (), records) as ready:
        questions = _questions(subject, tuple(ready.questions.items), asked)
        longest = asked.max_new_tokens or subject.benchmark.max_new_tokens
        asking = Asking(ready.loaded, ready.file, longest, asked.batch_size, ready.progress.done)
        ready.progress.tell("searching")
        found = search(asking, questions, asked.wish, ready.progress)
        where = Where(subject, ready.questions.source, asked.write)
        report = make_report(where, questions, asked.wish, asking, found)
        if asked.write is not None:
            write_file(asked.write, profile_text(report, found.entry.candidate.schedule))
        return report


def _show(sink: Sink, report: TuneReport, *, json: bool) -> None:
    if json:
        sink.json(report.as_dict())
        return
    from reroute_cli.views.registry import document
    from reroute_cli.views.write import terminal

    sink.table(*terminal.page(document(report, verbose=sink.verbose)))
