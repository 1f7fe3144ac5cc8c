"""`reroute check`: is the engine right on what is installed here?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reroute_cli.console.command_options import CheckOptions, CheckOutput
from reroute_cli.console.errors import Failure, UsageError

if TYPE_CHECKING:
    from reroute_cli.records.lists import Check
    from routing.checks.check import FamilyCheck


def check(decoders: CheckOptions, output: CheckOutput) -> None:
    """Prove the engine on the installed transformers and torch, with tiny models of every family."""
    from reroute_cli.models.load import quiet_libraries
    from reroute_cli.views.emit import emit
    from routing import FAMILIES
    from routing.checks.check import INVARIANTS
    from routing.checks.check import check as run_checks

    config = None if decoders.model is None else _config_of(decoders.model)
    if unknown := [name for name in decoders.family or () if name not in FAMILIES]:
        raise UsageError(f"--family '{unknown[0]}' is none of {', '.join(FAMILIES)}: choose one")
    with quiet_libraries(), output.sink.progress() as progress:
        progress.expect(len(INVARIANTS) * (1 if config is not None else len(decoders.family or FAMILIES)))

        def tell(family: str, finding: Any) -> None:
            progress.tell(f"{family}: {finding.invariant}")
            progress.done()

        results = run_checks(decoders.family, config=config, on_finding=tell)
    emit(_record(results), output)
    if failed := [result.family for result in results if not result.passed]:
        raise Failure(
            f"the engine is not right on what is installed: {', '.join(failed)} failed; "
            "install a release that it was proven with, shown above"
        )


def _config_of(model: str) -> Any:
    """The Hugging Face config of a model, read from its numbers, its folder or the hub."""
    from transformers import AutoConfig

    from reroute_cli.models.dummy import build_config
    from reroute_cli.models.load import quiet_libraries
    from reroute_cli.models.sources import explained, find, known, read_config

    with quiet_libraries(), explained(model):
        if entry := known(model):
            return build_config(entry.config)
        source = find(model)
        read_config(model, source)  # damage is told in our words
        return AutoConfig.from_pretrained(source.location, **source.arguments)


def _record(results: tuple[FamilyCheck, ...]) -> Check:
    from reroute_cli.console.missing import installed_version
    from reroute_cli.records.lists import Check, FamilyCheckPart, FindingPart
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
