"""The entry of the command line: it registers the commands and does nothing else."""

from __future__ import annotations

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
from reroute_cli.console.output import Sink, open_streams
from reroute_cli.old_question import OldQuestion

app = typer.Typer(
    name="reroute",
    cls=BoundedGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The measuring instrument for visual-token reduction: ask a picture a question under any pruning "
    "or rerouting schedule, and see what it really cost.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from reroute_cli.environment import installed_version

        Sink().result(f"reroute {installed_version('reroute')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Options that stand before a command."""


app.command("ask")(ask.ask)
app.command("batch", cls=OldQuestion)(batch.batch)
app.command("profile", cls=OldQuestion)(profile.profile)
app.command("eval")(evaluation.evaluate)
app.command("plan")(plan.plan)
app.command("sweep")(sweep.sweep)
app.command("tune")(tune.tune)
app.command("trace")(trace.trace)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("check")(check.check)
app.command("methods")(methods.methods)
app.command("models")(models.models)
app.add_typer(profiles.app, name="profiles")
app.command("env")(env.env)
app.command("schema")(schema.schema)


def main() -> None:
    """Run the command line; `reroute_cli.__main__` calls this under its guard against Ctrl-C."""
    open_streams()
    app()
