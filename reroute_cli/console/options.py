"""The options, each declared once, in groups that commands share.

The command line makes the groups from what was typed, Python makes them by name
(`ModelOptions(model="pocket")`), and the plug-in for lmms-eval from `--model_args`: defaults and errors are
the same. Groups of single commands are in study_options.py and command_options.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from reroute_cli.console.errors import UsageError
from reroute_cli.console.group import WRITTEN, Options, Range
from reroute_cli.console.output import Sink
from reroute_cli.console.sizes import FEATURE_CACHE, FeatureCache
from reroute_cli.console.typed import Setting, read_chat_template, read_layers, settings_in
from routing.methods import DENSE, METHODS, OWN

ActionName = Literal["prune", "reroute"]
ACTIONS: tuple[ActionName, ...] = ("prune", "reroute")  # the default first
SEEDS = Range(0, 2**31 - 1)
TOKENS = Range(1, 4096)  # of an answer
# Options that several groups have.
ModelName = Annotated[
    str,
    Option(
        "-m",
        "--model",
        envvar="REROUTE_MODEL",
        metavar="MODEL",
        help="A hub id, a name that 'reroute models' lists, a local folder, a PEFT adapter's folder, "
        "or 'pocket', the embedded model.",
    ),
]
BatchSize = Annotated[
    int,
    Option(
        metavar="N",
        help="Items answered together; what does not fit the device is split in two and tried again.",
    ),
    Range(1, 4096),
]


@dataclass(frozen=True)
class ModelOptions(Options):
    """Which model, and how it is loaded.

    chat_template: the text of the file. quiet: nothing is said while it is loaded.
    """

    panel = "Model"

    model: ModelName = "pocket"
    device: Annotated[
        str,
        Option(
            envvar="REROUTE_DEVICE",
            metavar="DEVICE",
            help="auto (a GPU if there is one), cpu, cuda, cuda:N or mps.",
        ),
    ] = "auto"
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Option(help="The number format of the weights; auto is float32 on a CPU, bfloat16 on a GPU."),
    ] = "auto"
    attn: Annotated[
        Literal["sdpa", "eager", "flash_attention_2"], Option(help="The attention implementation.")
    ] = "sdpa"
    load_format: Annotated[
        Literal["auto", "dummy"],
        Option(
            help="dummy: random weights of the right shapes; models that 'reroute models' lists need no "
            "network."
        ),
    ] = "auto"
    chat_template: Annotated[
        str | None,
        Option(
            metavar="FILE",
            callback=read_chat_template,
            help="A Jinja template to ask with, in place of the model's own. A model that has none is asked "
            "with that of its family's published checkpoints.",
        ),
    ] = None
    generation: Annotated[
        Literal["model", "neutral"],
        Option(
            help="model follows the checkpoint's generation_config.json (repetition_penalty, suppressed "
            "tokens and what else changes an answer), neutral ignores it. Answers are greedy either way.",
        ),
    ] = "model"
    seed: Annotated[
        int,
        Option(
            metavar="N", help="For --method random and for dummy weights; everything else is deterministic."
        ),
        SEEDS,
    ] = 0
    quiet: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class ScheduleOptions(Options):
    """One schedule; without a method and a profile the model runs dense.

    Raises UsageError where the options contradict each other. layers: decision layers, the decoder layers at
    whose input the method decides, in place of its own. set: NAME=VALUE of the method's own settings.
    """

    panel = "Schedule"

    method: Annotated[
        str | None,
        Option(
            metavar="METHOD",
            help=f"A reduction method: {', '.join(OWN)}; 'reroute methods' says what they do, and lists "
            "those of installed packages. Without one the model runs dense.",
        ),
    ] = None
    action: Annotated[
        ActionName | None,
        Option(
            help="What happens to the visual tokens that a stage does not keep: prune removes them for good "
            "(the default), reroute lets them bypass the stage and come back.",
        ),
    ] = None
    ratio: Annotated[
        float | None,
        Option(
            metavar="RATIO",
            help="Reduction ratio: 1 - average visual tokens per layer / original, from 0 to below 1.",
        ),
    ] = None
    budget: Annotated[
        float | None,
        Option(metavar="TOKENS", help="The same as an average number of visual tokens per decoder layer."),
    ] = None
    layers: Annotated[
        tuple[int, ...] | None,
        Option(
            metavar="LAYERS",
            callback=read_layers,
            help="Decision layers: the decoder layers at whose input the method decides, in place of its "
            "own: 3,5,8.",
        ),
    ] = None
    set: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of the method's own, such as version=2; once for each. 'reroute methods NAME' "
            "lists them.",
        ),
    ] = None
    profile: Annotated[
        str | None,
        Option(
            "-p",
            "--profile",
            metavar="NAME|FILE",
            help="A whole schedule by name or YAML file, in place of the six above; see 'reroute profiles'.",
        ),
    ] = None
    seed: int = 0

    @property
    def settings(self) -> dict[str, Setting]:
        """The method's own settings that were given, by name."""
        return settings_in(self.set or (), self.method or DENSE)

    @property
    def resizes(self) -> bool:
        """Whether the method makes images smaller, and so schedules nothing."""
        return self.method is not None and self.method in METHODS and METHODS[self.method].resizes

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "set", list(self.set) if self.set else None)
        given = self.given("method", "action", "ratio", "budget", "layers", "set")
        if self.profile is not None and given:
            raise UsageError(f"a profile fixes the whole schedule: drop {given[0]} or drop --profile")
        if self.ratio is not None and self.budget is not None:
            raise UsageError("--ratio and --budget say the same thing in two ways: give one of them")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise UsageError(f"--ratio {self.ratio} is out of range: give at least 0 (dense) and less than 1")
        if self.budget is not None and not self.budget > 0:
            raise UsageError(f"--budget {self.budget} is no number of tokens: give more than 0 per layer")
        self._check_method(given)

    def _check_method(self, given: list[str]) -> None:
        if self.method is None:
            if self.profile is None and given:
                raise UsageError(
                    f"{given[0]} needs a method to apply to: add --method ({', '.join(METHODS)})"
                )
            return
        if self.method not in METHODS:
            raise UsageError(f"there is no method '{self.method}': choose one of {', '.join(METHODS)}")
        settings_in(self.set or (), self.method)
        if self.method == DENSE:
            if self.ratio or self.budget is not None or self.layers is not None:
                raise UsageError(
                    "--method none keeps every visual token: drop --ratio, --budget and --layers"
                )
        elif self.ratio is None and self.budget is None:
            raise UsageError(f"--method {self.method} needs an amount: add --ratio 0.667 or --budget TOKENS")
        elif self.resizes and (routed := self.given("action", "layers")):
            raise UsageError(
                f"--method {self.method} makes the image smaller and routes nothing: drop {routed[0]}"
            )


@dataclass(frozen=True)
class ArmsOptions(ScheduleOptions):
    """One schedule, or with `arms` several at one ratio or budget; the dense model is always beside them."""

    arms: Annotated[
        str | None,
        Option(
            metavar="LIST",
            help="Several schedules in one run, at one --ratio or --budget: "
            "METHOD[@LAYER+LAYER][:ACTION][:NAME=VALUE], separated by commas; without an action both. "
            "NAME=VALUE is a setting of that method, as for --set.",
        ),
    ] = None

    def _check_method(self, given: list[str]) -> None:
        if self.arms is None:
            super()._check_method(given)
        elif named := self.given("method", "action", "profile", "layers"):
            raise UsageError(f"--arms names the schedules itself: drop {named[0]}")
        elif self.set:
            raise UsageError(
                f"--set is of one --method: among --arms write METHOD:{self.set[0]} where it applies"
            )
        elif self.ratio is None and self.budget is None:
            raise UsageError(
                "--arms needs an amount that all arms share: add --ratio 0.667 or --budget TOKENS"
            )


ITEM_FORMS = (
    'Items as JSON lines or one JSON array: "image" or "images" and a "question", or a chat as "messages" '
    '(Hugging Face, OpenAI) or "conversations" (LLaVA). Images are paths relative to the file, '
    "file:// or data: URIs."
)


@dataclass(frozen=True)
class NamedItems(Options):
    """Items of a manifest, or one question about named images."""

    panel = "Input"

    question: Annotated[
        str | None,
        Option(
            "-Q",
            "--question",
            metavar="QUESTION",
            help="The question about every named image. Until the next release -q QUESTION says it too.",
        ),
    ] = None
    manifest: Annotated[Path | None, Option(metavar="FILE", help=f"{ITEM_FORMS} An id is optional.")] = None


@dataclass(frozen=True)
class BenchmarkOptions(Options):
    """Questions with ground truth: a benchmark, or a manifest."""

    panel = "Input"

    bench: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="A benchmark; 'reroute eval --list' lists them. By default scenes, which comes with the "
            "package.",
        ),
    ] = None
    split: Annotated[
        str | None, Option(metavar="SPLIT", help="A split of the benchmark; by default its first.")
    ] = None
    data: Annotated[
        str | None,
        Option(
            metavar="HUB_ID|FOLDER",
            help="Where a hub benchmark is read from, in place of its own dataset.",
        ),
    ] = None
    manifest: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help=f'{ITEM_FORMS} Each with its ground truth, an "answer" or a "box" (pixels), or as a chat '
            'whose last turn, the assistant\'s, is the answer and is not shown; "id" and "kind" are '
            "optional.",
        ),
    ] = None
    limit: Annotated[
        int | None,
        Option(metavar="N", help="Questions at most, spread evenly over all; by default all."),
        Range(1, 1_000_000_000),
    ] = None


@dataclass(frozen=True)
class RunOptions(Options):
    """How items are answered. max_new_tokens: None is the longest answer that the benchmark has."""

    panel = "Run"

    batch_size: BatchSize = 8
    feature_cache: FeatureCache = FEATURE_CACHE
    max_new_tokens: Annotated[
        int | None,
        Option(metavar="N", help="Longest answer, 1 to 4096; by default the benchmark's, 64 for a manifest."),
        TOKENS,
    ] = None


@dataclass(frozen=True)
class AnswerOptions(Options):
    """How long an answer may be."""

    panel = "Run"

    max_new_tokens: Annotated[int, Option(metavar="N", help="Longest answer, 1 to 4096."), TOKENS] = 64


@dataclass(frozen=True)
class OutputOptions(Options):
    """What is written where. format: of stdout; a command that has no option for it writes text or JSON."""

    panel = "Output"

    format: str = "text"
    json: Annotated[bool, Option("--json", help="Everything as JSON on stdout.")] = False
    output: Annotated[
        Path | None,
        Option("-o", "--output", metavar="FILE", help="Write the JSON to this file too."),
        WRITTEN,
    ] = None
    quiet: Annotated[bool, Option("-q", "--quiet", help="Only the result and errors.")] = False
    verbose: Annotated[bool, Option("-v", "--verbose", help="Every number there is.")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.json and self.format not in ("text", "json"):
            raise UsageError(
                f"--json and --format {self.format} ask for two things on stdout: give one of them"
            )

    @property
    def shown(self) -> str:
        """The format of what stdout gets."""
        return "json" if self.json else self.format

    @property
    def kept(self) -> str:
        """The format of what the file gets."""
        return "json"

    @property
    def sink(self) -> Sink:
        """Where the command's words go."""
        return Sink(quiet=self.quiet, verbose=self.verbose)


@dataclass(frozen=True)
class ListOutput(OutputOptions):
    """A list on stdout, as a table or as JSON."""

    output: Path | None = None
    quiet: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class KeptAnswers(OutputOptions):
    """A report over answers that can be kept, so that a run goes on where it was cut off."""

    records: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Keep every answer in this file of JSON lines and ask nothing that it holds already, "
            "whichever command asked it: a run that was cut off goes on. Without it nothing is kept.",
        ),
        WRITTEN,
    ] = None


@dataclass(frozen=True)
class KeptTables(KeptAnswers):
    """Such a report that is also a table for a document or a spreadsheet."""

    format: Annotated[
        Literal["text", "json", "markdown", "csv"],
        Option(help="What stdout gets; --json is short for json."),
    ] = "text"
