"""What the documents' generated blocks must say, each made by running or reading the project's own code."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.main import get_command
from typer.testing import CliRunner

from tests import readme, readme_reports
from tests.readme_reports import table

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "NO_COLOR": "1",
    "COLUMNS": "100",
    "OMP_NUM_THREADS": "1",
    "REROUTE_DEVICE": "cpu",
    "_TYPER_FORCE_DISABLE_TERMINAL": "1",
}


def _session(*commands: Sequence[str], code: int = 0, folder: Path = readme.ROOT) -> str:
    """A console block: each command and everything it prints, standard output first."""
    shown = "".join(f"$ {_spelled(command)}\n{_printed(command, code, folder)}" for command in commands)
    return f"```console\n{shown}```\n"


def _spelled(command: Sequence[str]) -> str:
    return " ".join(f'"{word}"' if " " in word else word for word in command)


def _printed(command: Sequence[str], code: int, folder: Path) -> str:
    from reroute_cli.app import app

    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, command[1:], env=QUIET, prog_name=command[0])
    if done.exit_code != code:
        raise RuntimeError(f"{_spelled(command)} exited {done.exit_code}: {done.stderr}")
    return done.stdout + done.stderr


def ask() -> str:
    """The README's first command, dense."""
    return _session(("reroute", "ask", *readme.question()))


def routed() -> str:
    """The same question at an average of a third of the visual tokens, pruned and rerouted."""
    options = ("--method", "fastv", "--ratio", "0.667", "--action")
    return _session(
        *(("reroute", "ask", *readme.question(), *options, action) for action in ("prune", "reroute"))
    )


def plan() -> str:
    """A full-size model's schedule and cost, from a config alone."""
    choice = ("--method", "pdrop", "--action", "reroute", "--budget", "64")
    return _session(("reroute", "plan", "-m", "llava-1.5-7b", *choice))


def batch() -> str:
    """The sample questions in batches of eight; the records go to a file that nobody keeps."""
    options = ("--method", "pdrop", "--action", "reroute", "--ratio", "0.889", "--batch-size", "8")
    command = ("reroute", "batch", "--manifest", "samples/manifest.jsonl", *options, "-o", "answers.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "samples").symlink_to(readme.ROOT / "samples")
        return _session(command, folder=Path(folder))


def trace() -> str:
    """The figure's command and its numbers; the figure itself is compared by a test."""
    image, question = readme.question()
    options = ("--method", "pdrop", "--layers", "3,5,8", "--ratio", "0.667", "--versus", "-o", "trace.png")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "samples").symlink_to(readme.ROOT / "samples")
        return _session(("reroute", "trace", image, question, *options), folder=Path(folder))


def evaluation() -> str:
    """The sample questions under PyramidDrop in both forms, beside the dense model."""
    options = ("--arms", "pdrop", "--ratio", "0.889")
    command = ("reroute", "eval", "--manifest", "samples/manifest.jsonl", *options, "--quiet")
    return _session(command)


def regression() -> str:
    """Two committed reports of one measurement, before and after a change that made ranking dearer."""
    command = ("reroute", "compare", "baseline.json", "current.json", "--gate", "ttft.ratio:10%")
    return _session(command, code=3, folder=readme.ROOT / "tests" / "fixtures" / "reports")


def metrics() -> str:
    """Every metric with what it means, and how it is gated."""
    from reroute_cli.studies.gates import GATED

    rows = (
        (f"`{name}`", metric.unit, metric.means, "exactly" if metric.kind == "exact" else "")
        for name, metric in GATED.items()
    )
    return table(("metric", "unit", "what it is", "gated by default"), rows)


def commands() -> str:
    """Every command with the first line of its help."""
    from reroute_cli.app import app

    rows = (
        (f"`reroute {name}`", command.get_short_help_str(200)) for name, command in leaves(get_command(app))
    )
    return table(("command", "does"), rows)


def leaves(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command below a group, with the words that call it: `profiles list`."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def reference() -> str:
    """Every command with its arguments and options, panel by panel, as the command line declares them."""
    from reroute_cli.app import app

    return "\n".join(_section(name, command) for name, command in leaves(get_command(app)))


def _section(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    panels: dict[str, list[Any]] = {"Arguments": arguments}
    for option in command.params:
        if option not in arguments and not option.hidden:
            panels.setdefault(option.rich_help_panel or "Options", []).append(option)
    rows = [
        row
        for panel, parameters in panels.items()
        if parameters
        for row in ((f"**{panel}**", "", "", ""), *(_parameter(each) for each in parameters))
    ]
    usage = " ".join((name, *(_names(each).strip("`") for each in arguments)))
    listed = table(("option", "type", "default", "what it does"), rows) if rows else ""
    return f"## reroute {name}\n\n`reroute {usage}`: {' '.join(command.help.split())}\n\n{listed}"


def _parameter(parameter: Any) -> tuple[str, ...]:
    """Names, type, default and environment variable, and help of an argument or option."""
    shown = parameter.default
    default = "required" if parameter.required else "" if shown is None or shown is False else f"`{shown}`"
    if parameter.envvar:
        default = f"`${parameter.envvar}` or {default}"
    return _names(parameter), _type(parameter), default, parameter.help or ""


def _names(parameter: Any) -> str:
    """`-m`, `--model MODEL` of an option; the placeholder of an argument."""
    value = parameter.metavar or "|".join(_choices(parameter))
    if parameter.param_type_name == "argument":
        several = f"{value}..." if parameter.nargs == -1 else value
        return f"`{several}`" if parameter.required else f"`[{several}]`"
    *short, long = parameter.opts
    return ", ".join(f"`{name}`" for name in (*short, f"{long} {value}".strip()))


def _choices(parameter: Any) -> list[str]:
    """The words that an option takes, where it takes no others."""
    kind = parameter.type_descriptor.annotation
    return [
        str(word) for one in (kind, *get_args(kind)) if get_origin(one) is Literal for word in get_args(one)
    ]


def _kinds(parameter: Any) -> list[type]:
    """The plain types that a parameter's annotation is made of: `list[Path] | None` is made of Path."""
    found, open_hints = [], [parameter.type_descriptor.annotation]
    while open_hints:
        hint = open_hints.pop()
        open_hints += get_args(hint)
        if isinstance(hint, type) and not get_args(hint) and hint is not type(None):
            found.append(hint)
    return found


def _type(parameter: Any) -> str:
    words = {bool: "flag", int: "integer", float: "number", Path: "path"}
    named = "choice" if _choices(parameter) else words.get(next(iter(_kinds(parameter))), "text")
    return f"{named}, repeatable" if parameter.multiple else named


def exit_codes() -> str:
    """What the process returns, from the exceptions that carry the codes."""
    from reroute_cli.console import errors

    kinds = (errors.UsageError, errors.Regression, errors.Failure, errors.NotComparable)
    rows = [
        (0, "It worked."),
        (errors.EXIT_BUG, "A bug in reroute; `REROUTE_DEBUG=1` shows where."),
        *((kind.exit_code, (kind.__doc__ or "").splitlines()[0]) for kind in kinds),
        (errors.EXIT_INTERRUPTED, "Interrupted by Ctrl-C."),
    ]
    return table(("code", "meaning"), rows)


def methods() -> str:
    """The registry of methods."""
    import routing

    rows = (
        (
            f"`{method.name}`",
            f"[{method.title}]({method.paper})" if method.paper else method.title,
            method.year or "",
            method.summary,
            method.scored,
            "; ".join(
                f"{action} {_listed(['first'] * bool(method.selections) + [*layers])}"
                for action, layers in method.published.items()
            ),
        )
        for method in routing.METHODS.values()
    )
    return table(
        ("method", "source", "year", "what it does", "scored by", "layers of 32 where it decides"), rows
    )


def _listed(layers: Sequence[object]) -> str:
    return ", ".join(map(str, layers)) or "none"


def models() -> str:
    """The families that can be routed, aliases of one family together."""
    import routing

    types: dict[str, list[str]] = {}
    for model_type, family in routing.FAMILIES.items():
        types.setdefault(family.title, []).append(f"`{model_type}`")
    return table(("family", "`model_type`"), ((title, ", ".join(names)) for title, names in types.items()))


def refused() -> str:
    """The families that cannot be routed, by reason."""
    import routing

    types: dict[str, list[str]] = {}
    for model_type, reason in routing.REFUSED.items():
        types.setdefault(reason, []).append(f"`{model_type}`")
    return table(("`model_type`", "why not"), ((", ".join(names), reason) for reason, names in types.items()))


def profiles() -> str:
    """True averages of the published profiles, released and exact, from their own counts."""
    import profiles as library

    averages = {profile.name: (profile.average or 0.0, profile.origin) for profile in library.published()}
    stems = [name for name in averages if f"{name}-exact" in averages]
    tiers = list(dict.fromkeys("-".join(name.split("-")[:2]) for name in stems))
    variants = list(dict.fromkeys("-".join(name.split("-")[2:]) for name in stems))
    rows = (
        (f"`{variant}`", *(_averages(averages, f"{tier}-{variant}") for tier in tiers))
        for variant in variants
    )
    return table(("profile", *(f"`{tier}-`" for tier in tiers)), rows)


def _averages(averages: dict[str, tuple[float, str]], stem: str) -> str:
    if stem not in averages:
        return ""
    average, origin = averages[stem]
    released = f"{average:.1f}" if origin == "release" else "–"
    return f"{released} / {averages[f'{stem}-exact'][0]:.1f}"


def python() -> str:
    """The README's Python example and what it prints."""
    return _executed(readme.README, 0)


def engine() -> str:
    """The engine's own example, after the schedule by hand, and what it prints."""
    return _executed(readme.ROOT / "routing" / "README.md", 1)


def _executed(path: Path, place: int) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.chdir(readme.ROOT):
        exec(compile(readme.fences("python", path)[place], path.name, "exec"), {})
    return f"```text\n{printed.getvalue()}```\n"


GENERATED: dict[str, Callable[[], str]] = {
    "ask": ask,
    "routed": routed,
    "plan": plan,
    "batch": batch,
    "batch-speed": readme_reports.batch_speed,
    "question-speed": readme_reports.question_speed,
    "encode-once": readme_reports.encode_once,
    "trace": trace,
    "eval": evaluation,
    "results": readme_reports.results,
    "sweep": readme_reports.sweep,
    "methods-sweep": readme_reports.methods_sweep,
    "methods-ratios": readme_reports.methods_ratios,
    "tune": readme_reports.tune,
    "profile": readme_reports.profile,
    "regression": regression,
    "metrics": metrics,
    "commands": commands,
    "reference": reference,
    "exit-codes": exit_codes,
    "methods": methods,
    "models": models,
    "refused": refused,
    "profiles": profiles,
    "python": python,
    "engine": engine,
    "speed": readme_reports.speed,
    "speed-kinds": readme_reports.speed_of_kinds,
}
