"""`reroute check`: is the engine right on what is installed here?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reroute_cli.console.command_options import CheckOptions, CheckOutput
from reroute_cli.console.errors import Failure, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reroute_cli.records.lists import Check
    from routing.checks.check import FamilyCheck


def check(decoders: CheckOptions, output: CheckOutput) -> None:
    """Prove the engine on the installed transformers and torch, with tiny models of every family."""
    from reroute_cli.models.load import quiet_libraries
    from reroute_cli.models.proof import keep_verdict
    from reroute_cli.views.emit import emit
    from routing import FAMILIES
    from routing.checks.check import INVARIANTS
    from routing.checks.check import check as run_checks

    with quiet_libraries(), output.sink.progress() as progress:
        configs = _configs(decoders)
        progress.expect(len(INVARIANTS) * len(configs))

        def tell(family: str, finding: Any) -> None:
            progress.tell(f"{family}: {finding.invariant}")
            progress.done()

        results: list[FamilyCheck] = []
        for kind, config in configs.items():
            results += run_checks(None if config else [kind], config=config, on_finding=tell)
            if config is not None:
                keep_verdict(config, results[-1])
    emit(_record(results), output)
    failed = [result.family for result in results if not result.passed]
    if wrong := [kind for kind in failed if kind in FAMILIES]:
        raise Failure(
            f"the engine is not right on what is installed: {', '.join(wrong)} failed; "
            "install a release that it was proven with, shown above"
        )
    if failed:
        raise Failure(f"{', '.join(failed)} can't be routed here: their checks fail, as shown above")


def _configs(decoders: CheckOptions) -> dict[str, Any]:
    """What is to be checked, by model_type: a config, or None for the tiny model of a family with a file."""
    from reroute_cli.models.types import types_without_a_file
    from routing import FAMILIES

    if decoders.model is not None:
        config = _config_of(decoders.model)
        return {config.model_type: config}
    asked = decoders.family or list(FAMILIES)
    if not decoders.all_types and FAMILIES.keys() >= set(asked):
        return dict.fromkeys(asked)
    types = types_without_a_file()
    if decoders.all_types:
        asked += types.configs
    for kind in asked:
        if kind in types.refused:
            raise UsageError(f"--family '{kind}' cannot be routed: {types.refused[kind]}")
        if kind not in FAMILIES and kind not in types.configs:
            raise UsageError(
                f"--family '{kind}' is none of {', '.join(FAMILIES)}, nor another type that 'reroute models' "
                "lists: choose one"
            )
    return {kind: types.configs.get(kind) for kind in asked}


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


def _record(results: Sequence[FamilyCheck]) -> Check:
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
