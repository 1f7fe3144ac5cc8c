"""The options that commands share, each spelled once. A command takes only those that do something in it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reroute_cli.console.errors import UsageError

_LONGEST_TEMPLATE = 1 << 18  # bytes; the longest that are published have some 20,000
_MODEL, _SCHEDULE, _RUN, _VERDICT, _OUTPUT = "Model", "Schedule", "Run", "Verdict", "Output"


def within(low: int, high: int) -> Callable[[int | None], int | None]:
    """A check for a whole number that says what was given and what is allowed."""

    def check(value: int | None) -> int | None:
        if value is not None and not low <= value <= high:
            raise typer.BadParameter(f"{value} is not in {low}..{high}")
        return value

    return check


def read_chat_template(path: str | None) -> str | None:
    """The text of a chat template's file, None where none is named; raises UsageError with one sentence."""
    if path is None:
        return None
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise UsageError(f"the chat template '{path}' is not an ordinary file: name a Jinja text file")
        with Path(path).open("rb") as file:
            data = file.read(_LONGEST_TEMPLATE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"the chat template '{path}' can't be read ({reason}): check the path") from error
    if len(data) > _LONGEST_TEMPLATE:
        raise UsageError(
            f"the chat template '{path}' has over {_LONGEST_TEMPLATE} bytes: name a Jinja text file"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"the chat template '{path}' is not UTF-8 text: name a Jinja text file") from error
    if not text.strip():
        raise UsageError(f"the chat template '{path}' is empty: write a Jinja template into it")
    return text


class ActionName(StrEnum):
    """What becomes of visual tokens that a stage does not keep."""

    PRUNE = "prune"
    REROUTE = "reroute"


class DtypeName(StrEnum):
    """Number formats a model can be loaded in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class AttnName(StrEnum):
    """Attention implementations of transformers."""

    SDPA = "sdpa"
    EAGER = "eager"
    FLASH = "flash_attention_2"


class LoadFormat(StrEnum):
    """Where weights come from."""

    AUTO = "auto"
    DUMMY = "dummy"


class GenerationName(StrEnum):
    """Whose generation settings hold, beside greedy search."""

    MODEL = "model"
    NEUTRAL = "neutral"


Model = Annotated[
    str,
    typer.Option(
        "-m",
        "--model",
        envvar="REROUTE_MODEL",
        metavar="MODEL",
        help="A hub id, a name that 'reroute models' lists, a local folder, a PEFT adapter's folder, "
        "or 'pocket', the embedded model.",
        rich_help_panel=_MODEL,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="REROUTE_DEVICE",
        metavar="DEVICE",
        help="auto (a GPU if there is one), cpu, cuda, cuda:N or mps.",
        rich_help_panel=_MODEL,
    ),
]
Dtype = Annotated[
    DtypeName,
    typer.Option("--dtype", help="auto is float32 on a CPU, bfloat16 on a GPU.", rich_help_panel=_MODEL),
]
Attn = Annotated[
    AttnName, typer.Option("--attn", help="The attention implementation.", rich_help_panel=_MODEL)
]
Load = Annotated[
    LoadFormat,
    typer.Option(
        "--load-format",
        help="dummy: random weights of the right shapes; models that 'reroute models' lists need no network.",
        rich_help_panel=_MODEL,
    ),
]
ChatTemplate = Annotated[
    str | None,
    typer.Option(
        "--chat-template",
        metavar="FILE",
        callback=read_chat_template,
        help="A Jinja template to ask with, in place of the model's own. A model that has none is asked with "
        "that of its family's published checkpoints.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help="A reduction method; 'reroute methods' lists them. Without one the model runs dense.",
        show_default=False,
        rich_help_panel=_SCHEDULE,
    ),
]
Action = Annotated[
    ActionName | None,
    typer.Option(
        "--action",
        help="What becomes of the other visual tokens: prune removes them for good (the default), "
        "reroute lets them bypass the stage and come back.",
        show_default=False,
        rich_help_panel=_SCHEDULE,
    ),
]
Ratio = Annotated[
    float | None,
    typer.Option(
        "--ratio",
        metavar="RATIO",
        help="Reduction ratio: 1 - average visual tokens per layer / original, from 0 to below 1.",
        show_default=False,
        rich_help_panel=_SCHEDULE,
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget",
        metavar="TOKENS",
        help="The same as an average number of visual tokens per decoder layer.",
        show_default=False,
        rich_help_panel=_SCHEDULE,
    ),
]
Cuts = Annotated[
    str | None,
    typer.Option(
        "--cuts",
        metavar="LAYERS",
        help="Decoder layers at whose input the method decides, in place of its own: 3,5,8.",
        show_default=False,
        rich_help_panel=_SCHEDULE,
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "-p",
        "--profile",
        metavar="NAME|FILE",
        help="A whole schedule by name or YAML file, in place of the five above; see 'reroute profiles'.",
        show_default=False,
        rich_help_panel=_SCHEDULE,
    ),
]
MaxNewTokens = Annotated[
    int,
    typer.Option(
        "--max-new-tokens",
        metavar="N",
        callback=within(1, 4096),
        help="Longest answer, 1 to 4096.",
        rich_help_panel=_RUN,
    ),
]
Generation = Annotated[
    GenerationName,
    typer.Option(
        "--generation",
        help="model heeds the checkpoint's generation_config.json (repetition_penalty, suppressed tokens and "
        "what else changes an answer), neutral leaves it out. Answers are greedy either way.",
        rich_help_panel=_RUN,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        callback=within(0, 2**31 - 1),
        help="For --method random and for dummy weights; everything else is deterministic.",
        rich_help_panel=_RUN,
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        metavar="FILE",
        help="A report to be judged by: exit 3 where a gate fails, 5 where the two do not compare.",
        show_default=False,
        rich_help_panel=_VERDICT,
    ),
]
Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        metavar="METRIC[.STAT]:LIMIT",
        help="Fail where METRIC is worse by more than LIMIT: ttft.ratio:10%, e2e.p90:50ms. Repeatable. "
        "FLOPs, KV bytes, token counts and answers are gated exactly where no gate gives them room.",
        show_default=False,
        rich_help_panel=_VERDICT,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Fail on a win beyond the limit too, so that baselines stay true.",
        rich_help_panel=_VERDICT,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Everything as JSON on stdout.", rich_help_panel=_OUTPUT)]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write the JSON to this file too.",
        show_default=False,
        rich_help_panel=_OUTPUT,
    ),
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="Only the result and errors.", rich_help_panel=_OUTPUT)
]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Every number there is.", rich_help_panel=_OUTPUT)
]
