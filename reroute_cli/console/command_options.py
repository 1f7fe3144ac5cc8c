"""The groups of options that one command has for itself: batch, trace, plan, report, check, profiles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.group import WRITTEN, Options, Range
from reroute_cli.console.options import (
    ITEM_FORMS,
    TOKENS,
    BatchSize,
    ModelName,
    NamedItems,
    OutputOptions,
    ScheduleOptions,
)
from reroute_cli.console.sizes import FEATURE_CACHE, FeatureCache
from routing.methods import DENSE, SHOWN

_COORDINATE = re.compile(r"-?[0-9]{1,7}(\.[0-9]{1,6})?")
Box = tuple[float, float, float, float]


def check_page_packages() -> None:
    """Raise Failure where the packages that make a page are not installed."""
    if missing := [name for name in ("jinja2", "plotly") if find_spec(name) is None]:
        raise Failure(f"a page is made with {' and '.join(missing)}: pip install 'reroute[report]' first")


@dataclass(frozen=True)
class FolderOptions(NamedItems):
    """The items of a batch: the images of a folder under one question, or a manifest."""

    folder: Annotated[
        Path | None, Argument(metavar="FOLDER", help="A folder of images, with all folders in it.")
    ] = None
    manifest: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help=f"{ITEM_FORMS} An id is optional, and so is the ground truth: an answer or a box; of a chat "
            "that ends with the assistant, its last turn, which the model is not shown.",
        ),
    ] = None
    limit: Annotated[
        int | None,
        Option(metavar="N", help="Items at most, spread evenly over all; by default all."),
        Range(1, 1_000_000_000),
    ] = None


@dataclass(frozen=True)
class BatchRunOptions(Options):
    """How a batch is answered."""

    panel = "Run"

    batch_size: BatchSize = 1
    feature_cache: FeatureCache = FEATURE_CACHE
    max_new_tokens: Annotated[int, Option(metavar="N", help="Longest answer, 1 to 4096."), TOKENS] = 64


@dataclass(frozen=True)
class ClusterOptions(Options):
    """Where a batch runs: in this process, or in workers on a Ray cluster."""

    panel = "Cluster"

    engine: Annotated[
        Literal["local", "ray"],
        Option(
            help="local: in this process. ray: in workers on a Ray cluster, one model each; needs the extra "
            "'ray'."
        ),
    ] = "local"
    ray_address: Annotated[
        str | None,
        Option(
            metavar="ADDR",
            help="HOST:PORT of a running cluster's head node, or auto on one of its nodes. Without it (and "
            "without RAY_ADDRESS) this machine is the cluster, for as long as the run takes.",
        ),
    ] = None
    workers: Annotated[
        int | None,
        Option(
            metavar="N",
            help="Worker processes; by default as many as the GPUs have room for, without GPUs one a node.",
        ),
        Range(1, 100_000),
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        Option(
            metavar="X",
            help="GPUs of each worker, 0.5 for two workers on one; by default 1, without GPUs none.",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.engine != "ray" and (given := self.given("ray_address", "workers", "gpus_per_worker")):
            raise UsageError(f"{given[0]} is for a cluster: add --engine ray, or drop {given[0]}")


@dataclass(frozen=True)
class BatchOutput(OutputOptions):
    """Where the records of a batch go, and its summary."""

    json: bool = False
    output: Annotated[
        Path | None,
        Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write the records to this file of JSON lines, and go on from what it holds already. "
            "Without it they go to stdout, and what was done is lost with them.",
        ),
        WRITTEN,
    ] = None
    summary: Annotated[
        Path | None, Option(metavar="FILE", help="Write the summary as JSON to this file too."), WRITTEN
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output and self.summary and self.output.absolute() == self.summary.absolute():
            raise Failure(f"--output and --summary both name '{self.output}': give two files")


@dataclass(frozen=True)
class TracedSchedules(ScheduleOptions):
    """The schedule whose stages are drawn, or both actions of its method."""

    versus: Annotated[
        bool,
        Option(
            "--versus",
            help="Both actions of the method at the same amount: dense, prune and reroute below one another.",
        ),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.profile is None and self.method in (None, DENSE):
            raise UsageError(
                "trace shows what a schedule does to the visual tokens: "
                f"add --method {SHOWN} --ratio 0.8, or a profile with -p"
            )
        if self.resizes:
            raise UsageError(
                f"trace shows what a schedule does to the visual tokens, and {self.method} routes nothing: "
                "compare answers with ask or eval"
            )
        if self.versus and self.profile is not None:
            raise UsageError(
                "--versus prunes and reroutes one method at one budget: give --method, not --profile"
            )
        if self.versus and self.action is not None:
            raise UsageError("--versus shows both actions: drop --action")


def read_box(text: str | None) -> Box | None:
    """'60,24,106,70' -> (60.0, 24.0, 106.0, 70.0); None where nothing was typed; raises UsageError."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if len(words) == 4 and all(_COORDINATE.fullmatch(word) for word in words):
        x1, y1, x2, y2 = map(float, words)
        if x1 < x2 and y1 < y2:
            return (x1, y1, x2, y2)
    raise UsageError(f"--box '{text}' is no box: give x1,y1,x2,y2 in pixels of the image, like 60,24,106,70")


@dataclass(frozen=True)
class TraceOutput(OutputOptions):
    """A trace as a figure, a page or JSON, by the suffix of the file."""

    output: Annotated[
        Path | None,
        Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Draw the trace as FILE.png, as a page (FILE.html, extra reroute[report]), or write all of "
            "it as FILE.json.",
        ),
        WRITTEN,
    ] = None
    box: Annotated[
        Box | None,
        Option(
            metavar="X1,Y1,X2,Y2",
            callback=read_box,
            help="Where the answer is, in pixels: recall counts the tokens in it; by default those in the "
            "box of the dense answer.",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output is not None and self.kept not in ("png", "html", "json"):
            raise UsageError(
                f"--output '{self.output}' is no kind of trace: name it FILE.png, FILE.html or FILE.json"
            )
        if self.kept == "html":
            check_page_packages()

    def check_box(self, size: tuple[int, int]) -> None:
        """Refuse a box that lies outside the image (raises UsageError). size: width and height in pixels."""
        if self.box is not None and (min(self.box[:2]) < 0 or self.box[2] > size[0] or self.box[3] > size[1]):
            corners = ",".join(f"{number:g}" for number in self.box)
            raise UsageError(f"--box {corners} reaches out of the image, which is {size[0]} × {size[1]}")

    @property
    def kept(self) -> str:
        """What the file is: png, html or json."""
        return "" if self.output is None else self.output.suffix.lower().removeprefix(".")


@dataclass(frozen=True)
class ShapeOptions(Options):
    """A model of which only the config is read."""

    panel = "Model"

    model: ModelName = "pocket"
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Option(help="Of the KV cache; auto is what the config names."),
    ] = "auto"


@dataclass(frozen=True)
class PromptOptions(Options):
    """The size of a prompt."""

    panel = "Prompt"

    image: Annotated[
        list[str] | None,
        Option(metavar="FILE", help="An image of the prompt, for its size; repeat for several."),
    ] = None
    visual_tokens: Annotated[
        int | None,
        Option(
            metavar="N",
            help="Visual tokens of the prompt; by default those of one image of the model's own size.",
        ),
        Range(1, 1_000_000),
    ] = None
    text_tokens: Annotated[
        int,
        Option(metavar="N", help="Text tokens of the prompt, template included."),
        Range(1, 1_000_000),
    ] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image and self.visual_tokens is not None:
            raise UsageError("--image and --visual-tokens say the same thing in two ways: give one of them")


@dataclass(frozen=True)
class PlanOutput(OutputOptions):
    """A plan on stdout, and as JSON in a file."""

    quiet: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class PageOptions(Options):
    """An HTML page of what other commands wrote. quiet: do not say what is missing on it."""

    panel = "Gallery"

    files: Annotated[
        list[Path],
        Argument(
            metavar="RUN",
            help="What profile, compare --format json, sweep, eval, tune, trace or batch wrote: JSON, or the "
            "answers as JSON lines.",
        ),
    ]
    output: Annotated[
        Path,
        Option("-o", "--output", metavar="FILE", help="The page to write.", rich_help_panel="Output"),
        WRITTEN,
    ]
    images: Annotated[
        list[Path] | None,
        Option(
            metavar="FOLDER",
            help="Where images that the files name are looked for, and below. Repeatable; by default the "
            "files' own folders, this one and the samples.",
        ),
    ] = None
    items: Annotated[
        int,
        Option(metavar="N", help="Questions in the gallery at most, those with different answers first."),
        Range(0, 1000),
    ] = 100
    quiet: Annotated[
        bool, Option("-q", "--quiet", help="Only the result and errors.", rich_help_panel="Output")
    ] = False

    def __post_init__(self) -> None:
        check_page_packages()
        super().__post_init__()
        for folder in self.images or ():
            if not folder.is_dir():
                raise UsageError(
                    f"--images: there is no folder '{folder}': name the one that holds the images"
                )


@dataclass(frozen=True)
class CheckOptions(Options):
    """Which decoders are checked."""

    panel = "Model"

    model: Annotated[
        str | None,
        Option(
            "-m",
            "--model",
            metavar="MODEL",
            help="Check the decoder of this model, shrunk: a hub id, a local folder, a known name, or "
            "'pocket'. Its config is read, no weights.",
        ),
    ] = None
    family: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="Check this model_type only, with a file or without, as 'reroute models' lists it; repeat "
            "for several.",
        ),
    ] = None
    all_types: Annotated[
        bool,
        Option(
            "--all-types",
            help="Check every type of the installed transformers that is not refused: those with a file, "
            "then all others, whose verdicts are kept for 'reroute models'.",
        ),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {"--model": self.model is not None, "--family": self.family, "--all-types": self.all_types}
        if len(said := [name for name, value in given.items() if value]) > 1:
            raise UsageError(f"{said[0]} and {said[1]} both say what to check: give one of them")


@dataclass(frozen=True)
class CheckOutput(OutputOptions):
    """What was found, as a table or as JSON."""

    output: Path | None = None
    verbose: bool = False


@dataclass(frozen=True)
class ShownMethodOptions(Options):
    """A method to tell all of, and the model whose layers it names."""

    name: Annotated[
        str | None, Argument(metavar="NAME", help="A method, to be told all of; by default all are listed.")
    ] = None
    model: Annotated[
        str,
        Option("-m", "--model", metavar="MODEL", help="Name the layers of this model instead."),
    ] = "llava-1.5-7b"


@dataclass(frozen=True)
class ShownProfileOptions(Options):
    """A profile, and the model it is solved for."""

    profile: Annotated[str, Argument(metavar="NAME|FILE", help="A profile.")]
    model: Annotated[
        str | None,
        Option(
            "-m",
            "--model",
            metavar="MODEL",
            help="Solve it for this model instead of the one it was made for.",
        ),
    ] = None


@dataclass(frozen=True)
class ProfileFiles(Options):
    """Profiles to check."""

    files: Annotated[list[str], Argument(metavar="FILE", help="Profile files or names.")]


@dataclass(frozen=True)
class SchemaName(Options):
    """Which kind of record a schema is printed of."""

    name: Annotated[
        str | None, Argument(metavar="NAME", help="A kind of record, as report or reroute.report/2.")
    ] = None
