"""The entry of the command line: the table of commands, and the program that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from reroute_cli.commands import (
    ask,
    batch,
    check,
    compare,
    env,
    methods,
    models,
    plan,
    profile,
    profiles,
    report,
    schema,
    sweep,
    trace,
    tune,
)
from reroute_cli.commands import eval as evaluation
from reroute_cli.console.errors import BoundedGroup
from reroute_cli.console.group import OldSpellings, expanded
from reroute_cli.console.output import Sink, open_streams
from reroute_cli.studies.benchmarks import BENCHMARKS

COMMANDS: dict[str, Callable[..., None]] = {
    "ask": ask.ask,
    "batch": batch.batch,
    "profile": profile.profile,
    "eval": evaluation.evaluate,
    "plan": plan.plan,
    "sweep": sweep.sweep,
    "tune": tune.tune,
    "trace": trace.trace,
    "report": report.report,
    "compare": compare.compare,
    "check": check.check,
    "methods": methods.methods,
    "models": models.models,
    "profiles list": profiles.list_profiles,
    "profiles show": profiles.show,
    "profiles validate": profiles.validate,
    "env": env.env,
    "schema": schema.schema,
}
GROUPS = {"profiles": "Schedules by name or file: list, show and validate them."}
HELPS = {
    "bench": f"A benchmark: {', '.join(BENCHMARKS)}, or one of an installed package; 'reroute eval --list' "
    "lists them. By default scenes, which comes with the package."
}


def program(commands: Mapping[str, Callable[..., None]]) -> typer.Typer:
    """The program of a table of commands: functions of groups of options, by the words that call them."""
    made = typer.Typer(
        name="reroute",
        cls=BoundedGroup,
        callback=_root,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="The measuring instrument for visual-token reduction: ask a question about an image under any "
        "pruning or rerouting schedule, and see what it really cost.",
    )
    groups = {name: typer.Typer(no_args_is_help=True, help=text) for name, text in GROUPS.items()}
    for words, command in commands.items():
        group, _, name = words.rpartition(" ")
        (groups[group] if group else made).command(name, cls=OldSpellings)(expanded(command, HELPS))
    for name, inner in groups.items():
        made.add_typer(inner, name=name)
    return made


def _show_version(wanted: bool) -> None:
    if wanted:
        from reroute_cli.console.missing import installed_version

        Sink().result(f"reroute {installed_version('reroute')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Options that stand before a command."""


app = program(COMMANDS)


def main() -> None:
    """Run the command line; `reroute_cli.__main__` calls this under its guard against Ctrl-C."""
    open_streams()
    app()
