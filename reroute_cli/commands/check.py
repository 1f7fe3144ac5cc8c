"""`reroute check`: is the engine right on what is installed here?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from reroute_cli import options
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import Sink

if TYPE_CHECKING:
    from reroute_cli.records.installation import Check
    from routing import FamilyCheck

ModelToCheck = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        metavar="MODEL",
        help="Check the decoder of this model, shrunk: a hub id, a local folder, a known name, or 'pocket'. "
        "Its config is read, no weights.",
        show_default=False,
        rich_help_panel="Model",
    ),
]
Families = Annotated[
    list[str] | None,
    typer.Option(
        "--family",
        metavar="NAME",
        help="Check this family only, by model_type as 'reroute models' lists it; repeat for several.",
        show_default=False,
        rich_help_panel="Model",
    ),
]


def check(
    model: ModelToCheck = None,
    family: Families = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Prove the engine on the installed transformers and torch, with tiny models of every family."""
    if model is not None and family:
        raise UsageError("--model and --family both say what to check: give one of them")
    sink = Sink(quiet=quiet)
    results = _checked(family, None if model is None else _config_of(model), sink)
    found = _record(results)
    if json:
        sink.json(found.as_dict())
    else:
        from reroute_cli.views.registry import document
        from reroute_cli.views.write import terminal

        sink.table(*terminal.page(document(found)))
    if failed := [result.family for result in results if not result.passed]:
        raise Failure(
            f"the engine is not right on what is installed: {', '.join(failed)} failed; "
            "install a release that it was proven with, shown above"
        )


def _config_of(model: str) -> Any:
    """The Hugging Face config of a model, read from its numbers, its folder or the hub."""
    from transformers import AutoConfig

    from reroute_cli.dummy.model import build_config
    from reroute_cli.models import quiet_libraries
    from reroute_cli.sources import explained, find, known, read_config

    with quiet_libraries(), explained(model):
        if entry := known(model):
            return build_config(entry.config)
        source = find(model)
        read_config(model, source)  # damage is told in our words
        return AutoConfig.from_pretrained(source.location, **source.arguments)


def _checked(families: list[str] | None, config: Any, sink: Sink) -> tuple[FamilyCheck, ...]:
    from reroute_cli.models import quiet_libraries
    from routing import FAMILIES
    from routing.checks.check import INVARIANTS, check

    unknown = [name for name in families or () if name not in FAMILIES]
    if unknown:
        raise UsageError(f"--family '{unknown[0]}' is none of {', '.join(FAMILIES)}: choose one")
    with quiet_libraries(), sink.progress() as progress:
        progress.expect(len(INVARIANTS) * (1 if config is not None else len(families or FAMILIES)))

        def tell(family: str, finding: Any) -> None:
            progress.tell(f"{family}: {finding.invariant}")
            progress.done()

        return check(families, config=config, on_finding=tell)


def _record(results: tuple[FamilyCheck, ...]) -> Check:
    from reroute_cli.environment import installed_version
    from reroute_cli.records.installation import Check, FamilyCheckPart, FindingPart
    from routing.host import PROVEN, is_proven

    return Check(
        versions={name: installed_version(name) for name in ("reroute", *PROVEN)},
        proven=is_proven(),
        proven_releases={name: list(releases) for name, releases in PROVEN.items()},
        passed=all(result.passed for result in results),
        families=[
            FamilyCheckPart(
                family=result.family,
                passed=result.passed,
                seconds=round(result.seconds, 3),
                findings=[
                    FindingPart(invariant=each.invariant, passed=each.passed, detail=each.detail)
                    for each in result.findings
                ],
            )
            for result in results
        ],
    )
