"""The groups of options of commands that study a model: profile, compare, eval, sweep and tune."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.group import WRITTEN, Options, Range
from reroute_cli.console.objectives import read_objectives
from reroute_cli.console.options import (
    SEEDS,
    TOKENS,
    BenchmarkOptions,
    KeptAnswers,
    KeptTables,
    NamedItems,
    OutputOptions,
)
from reroute_cli.console.output import clean, shortened
from routing.methods import OWN, RESIZING, SEARCHED_FIRST

_WORDS = {one.name: one.shape.words for one in OWN.values() if one.shape}
_SHAPES = ", ".join(
    f"{words} ({', '.join(name for name in _WORDS if _WORDS[name] == words)})"
    for words in dict.fromkeys(_WORDS.values())
)


def read_warmup(text: str | int | None) -> int | None:
    """How many warm-up rounds were typed; None for 'auto' (raises UsageError)."""
    if text is None or text == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        shown = shortened(clean(str(text), one_line=True))
        raise UsageError(
            f"--warmup '{shown}' is neither a whole number nor auto: give one of them"
        ) from error


@dataclass(frozen=True)
class RoundsOptions(Options):
    """How often a measurement is repeated."""

    panel = "Run"

    repeat: Annotated[
        int, Option(metavar="N", help="Timed rounds over all items and arms."), Range(1, 1000)
    ] = 3


@dataclass(frozen=True)
class GateOptions(Options):
    """What fails a comparison of two reports."""

    panel = "Verdict"

    gate: Annotated[
        list[str] | None,
        Option(
            metavar="METRIC[.STAT]:LIMIT",
            help="Fail where METRIC is worse by more than LIMIT: ttft.ratio:10%, e2e.p90:50ms. Repeatable. "
            "FLOPs, KV bytes, token counts and answers are gated exactly where no gate gives them room.",
        ),
    ] = None
    strict: Annotated[
        bool,
        Option("--strict", help="Fail on a win beyond the limit too, so that baselines stay true."),
    ] = False


@dataclass(frozen=True)
class ProfileItems(NamedItems):
    """The items of a measurement: sample scenes, images under one question, or a manifest."""

    images: Annotated[
        list[str] | None, Argument(metavar="IMAGE", help="Image files; by default samples.")
    ] = None
    limit: Annotated[
        int | None,
        Option(
            metavar="N",
            help="Items at most, spread evenly over all; by default 12, or every image that is named.",
        ),
        Range(1, 1_000_000),
    ] = None


@dataclass(frozen=True)
class MeasureOptions(RoundsOptions):
    """How long and how often a run measures. warmup: None until the last rounds agree."""

    warmup: Annotated[
        int | None,
        Option(
            metavar="N|auto",
            callback=read_warmup,
            help="Rounds over all items and arms before the timed ones; auto: until the last 3 of every arm "
            "lie within 5% of the fastest, 10 at most.",
        ),
        Range(0, 1000),
    ] = 1
    max_new_tokens: Annotated[
        int,
        Option(metavar="N", help="Tokens of every measured answer, and at most of those that are compared."),
        TOKENS,
    ] = 16
    batch_size: Annotated[
        int,
        Option(
            metavar="N",
            help="Requests that are timed together in one pass. FLOPs, KV bytes and answers stay those of "
            "each alone.",
        ),
        Range(1, 4096),
    ] = 1
    slo: Annotated[
        dict[str, float] | None,
        Option(
            metavar="LIST",
            callback=read_objectives,
            help="The most that a request may take: ttft:200ms,itl:30ms,tpot:30ms,e2e:2s, or some of them. "
            "Goodput counts the requests that meet them all; itl is the mean of a request's gaps.",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_new_tokens == 1 and (named := {"itl", "tpot"} & set(self.slo or ())):
            raise UsageError(
                f"--slo {min(named)} needs a second token: raise --max-new-tokens above 1, or leave it out"
            )


@dataclass(frozen=True)
class VerdictOptions(GateOptions):
    """What a measurement is judged by."""

    baseline: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="A report to be judged by: exit 3 where a gate fails, 5 where the two do not compare.",
        ),
    ] = None


@dataclass(frozen=True)
class ProfileOutput(OutputOptions):
    """A report, or its numbers for another tool."""

    format: Annotated[
        Literal[
            "text",
            "json",
            "markdown",
            "csv",
            "github-action-benchmark",
            "github-action-benchmark-bigger",
            "bencher",
        ],
        Option(help="What stdout gets; --json is short for json."),
    ] = "text"


@dataclass(frozen=True)
class ReportPair(Options):
    """Two reports."""

    baseline: Annotated[Path, Argument(metavar="BASELINE", help="A report that was accepted.")]
    current: Annotated[Path, Argument(metavar="CURRENT", help="The report to judge.")]


@dataclass(frozen=True)
class ComparisonOutput(OutputOptions):
    """A comparison on stdout, or in a file with the table on stdout."""

    format: Annotated[
        Literal[
            "text",
            "json",
            "markdown",
            "github-action-benchmark",
            "github-action-benchmark-bigger",
            "bencher",
            "junit",
        ],
        Option(help="github-action-benchmark and bencher hold CURRENT's numbers, all others the verdicts."),
    ] = "text"
    json: bool = False
    output: Annotated[
        Path | None,
        Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write the --format to this file, and the table to standard output.",
        ),
        WRITTEN,
    ] = None
    quiet: bool = False

    @property
    def shown(self) -> str:
        """The format of stdout, which gets the table where a file gets the format."""
        return self.format if self.output is None else "text"

    @property
    def kept(self) -> str:
        """The format of the file."""
        return self.format


@dataclass(frozen=True)
class ComparedQuestions(BenchmarkOptions):
    """Questions that schedules are compared on, and whether those that are hard count apart, too."""

    subset: Annotated[
        Literal["hard"] | None,
        Option(
            help=f"hard: score the questions that dense answers right and {RESIZING} wrong beside all of "
            f"them; needs {RESIZING} among the schedules. On the others a smaller image does as well."
        ),
    ] = None


@dataclass(frozen=True)
class EvalQuestions(ComparedQuestions):
    """The questions of an evaluation, or the list of benchmarks."""

    benches: Annotated[bool, Option("--list", help="List the benchmarks, and exit.")] = False


@dataclass(frozen=True)
class GridOptions(Options):
    """Schedules at every one of several amounts."""

    panel = "Schedule"

    arms: Annotated[
        str | None,
        Option(
            metavar="LIST",
            help="METHOD[@LAYER+LAYER][:ACTION][:NAME=VALUE], separated by commas; without an action both, "
            "without the option every method. NAME=VALUE is a setting that 'reroute methods METHOD' lists.",
        ),
    ] = None
    ratios: Annotated[
        str | None,
        Option(metavar="LIST", help="Reduction ratios, separated by commas; by default 0.667,0.778,0.889."),
    ] = None
    budgets: Annotated[
        str | None,
        Option(metavar="LIST", help="The same as average numbers of visual tokens per decoder layer."),
    ] = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratios is not None and self.budgets is not None:
            raise UsageError("--ratios and --budgets say the same thing in two ways: give one of them")


@dataclass(frozen=True)
class CostOptions(RoundsOptions):
    """What a sweep measures beside scores. against: the cost of the Pareto front and the plot."""

    warmup: Annotated[
        int,
        Option(metavar="N", help="Rounds over all items and arms before the timed ones."),
        Range(0, 1000),
    ] = 1
    cost_items: Annotated[
        int,
        Option(
            metavar="N",
            help="Items that costs are measured on, under all arms in turn; 0 leaves costs estimated.",
            rich_help_panel="Costs",
        ),
        Range(0, 10_000),
    ] = 4
    cost_tokens: Annotated[
        int, Option(metavar="N", help="Tokens of every measured answer.", rich_help_panel="Costs"), TOKENS
    ] = 16
    against: Annotated[
        Literal["visual-tokens", "prefill-flops", "kv", "ttft", "e2e"],
        Option(help="The cost of the Pareto front and the plot.", rich_help_panel="Costs"),
    ] = "prefill-flops"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.against in ("ttft", "e2e") and not self.cost_items:
            raise UsageError(f"--against {self.against} needs measured times: raise --cost-items above 0")

    @property
    def metric(self) -> str:
        """The metric that `against` names."""
        other = {"kv": "kv_end", "visual-tokens": "visual_tokens_per_layer"}
        return other.get(self.against, self.against.replace("-", "_"))


@dataclass(frozen=True)
class SweepOutput(KeptTables):
    """A sweep, and a plot of it."""

    plot: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Draw the scores against the cost, as .svg or .png; needs the extra reroute[plot].",
        ),
        WRITTEN,
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.plot is None:
            return
        if self.plot.suffix.lower() not in (".svg", ".png"):
            raise UsageError(f"--plot '{self.plot}' ends in neither of .svg, .png: name one of these")
        if find_spec("matplotlib") is None:
            raise Failure("--plot draws with matplotlib, which is not installed: pip install 'reroute[plot]'")


@dataclass(frozen=True)
class SearchOptions(Options):
    """What is searched for: budget, ratio or floor, exactly one of them."""

    panel = "Search"

    budget: Annotated[
        float | None,
        Option(
            metavar="TOKENS",
            help="The amount as an average number of visual tokens per decoder layer.",
            rich_help_panel="Schedule",
        ),
    ] = None
    ratio: Annotated[
        float | None,
        Option(
            metavar="RATIO",
            help="The amount as a reduction ratio: 1 - average visual tokens per layer / original.",
            rich_help_panel="Schedule",
        ),
    ] = None
    floor: Annotated[
        str | None,
        Option(
            metavar="SCORE|SHARE%",
            help="Find the cheapest schedule whose score stays above this, or above this share of the dense "
            "model's, like 95%; exit code 3 where that does not hold on the reported half.",
        ),
    ] = None
    score: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="The score to maximize; by default the first score of the benchmark that applies to any "
            "question; 'right' applies to all of them. Only questions that it applies to are asked.",
        ),
    ] = None
    methods: Annotated[
        str,
        Option(
            metavar="LIST",
            help=f"Methods to search, by shape: {_SHAPES}; by default those that decide in the decoder. "
            f"NAME:SETTING=VALUE as in --arms of eval; {RESIZING} is asked as it is; all is all of them.",
        ),
    ] = ",".join(SEARCHED_FIRST)
    actions: Annotated[str, Option(metavar="LIST", help="Actions to search.")] = "prune,reroute"
    answers: Annotated[
        int | None,
        Option(
            metavar="N",
            help="Answers that the search may take, without the report; by default 1500, or 6000 for a "
            "floor.",
        ),
        Range(100, 1_000_000_000),
    ] = None
    seed: Annotated[
        int,
        Option(
            metavar="N",
            help="Decides the halves and what is tried, and dummy weights: the same seed finds the same "
            "schedule.",
        ),
        SEEDS,
    ] = 0


@dataclass(frozen=True)
class TuneOutput(KeptAnswers):
    """A search's report, and what it found as a profile."""

    write: Annotated[
        Path | None,
        Option(
            metavar="PROFILE.yaml", help="Write the schedule that was found as a profile, which -p takes."
        ),
        WRITTEN,
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.write and self.write.suffix not in (".yaml", ".yml") and not self.write.exists():
            raise UsageError(f"--write '{self.write}' would be no profile that -p knows: let it end in .yaml")
