"""Is the engine proven on a model under what is installed? If not, it is checked once and its verdict kept.

`routing/host.py` lists the releases that this release of ours was proven with, for the families that have a
file. Under another transformers or torch, and for every model type without a file, the check of a model's own
decoder (`routing.check`) runs when the model is first loaded; its verdict is kept in the user's cache folder
under all versions, and a failed one refuses to route. REROUTE_CHECK is off (never check), always (check at
every load) or auto. Knows no options, records or measurements.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reroute_cli.console.errors import UsageError
from reroute_cli.console.missing import installed_version
from reroute_cli.console.output import Sink, write_file
from routing.families import FAMILIES, describe_config
from routing.host import PROVEN, is_proven, versions, what_is_proven

if TYPE_CHECKING:
    from routing.checks.check import FamilyCheck

Proven = bool | Literal["checked"]
VARIABLE = "REROUTE_CHECK"
SETTINGS = ("auto", "off", "always")


@dataclass(frozen=True)
class Standing:
    """How a loaded model stands. refusal: with which sentence routing it is refused, None where it may."""

    proven: Proven
    refusal: str | None = None


def setting_of_check() -> str:
    """What REROUTE_CHECK says; raises UsageError for what is none of its settings."""
    setting = os.environ.get(VARIABLE) or "auto"
    if setting not in SETTINGS:
        raise UsageError(f"{VARIABLE} '{setting}' is none of {', '.join(SETTINGS)}: choose one")
    return setting


def standing(config: Any, *, quiet: bool = False) -> Standing:
    """How the engine stands to a model of this Hugging Face config under what is installed.

    Runs the check of the model's own decoder where neither the release nor a file proves it and no verdict is
    kept. Raises what `setting_of_check` raises. quiet: do not say that it is checked.
    """
    setting, proven = setting_of_check(), proven_unchecked(config)
    if setting == "off" or (proven and setting == "auto"):
        return Standing(proven)
    failed = None if setting == "always" else kept_verdict(verdict_name(config))
    if failed is None:
        failed = _checked(config, Sink(quiet=quiet))
    if not failed:
        return Standing(True if proven else "checked")
    name, detail = next(iter(failed.items()))
    remedy = "" if is_proven() else f"install a release that is {what_is_proven()}, "
    return Standing(
        False,
        f"{config.model_type} is not routed under {versions()}: its check fails in {', '.join(failed)} "
        f"({name}: {detail}); {remedy}run it dense, or set {VARIABLE}=off to route all the same",
    )


def proven_unchecked(config: Any) -> bool:
    """Whether a model needs no check: a file describes it, its decoder is plain, what is installed is proven.

    Raises UnsupportedModelError for what can't be routed.
    """
    return describe_config(config).filed and is_proven()


def _checked(config: Any, sink: Sink) -> dict[str, str]:
    """Check now, say so, and keep the verdict: what fails, by invariant."""
    from routing.checks.check import check

    kind = config.model_type
    why = f"reroute was not proven with {versions()}"
    if proven_unchecked(config):
        why = f"as {VARIABLE}=always asks"
    elif is_proven() and kind in FAMILIES:
        why = f"{kind} is proven with other language models than {config.get_text_config().model_type}"
    elif is_proven():
        why = f"{kind} has no file of its own"
    sink.talk(f"{why}: checking {kind} on tiny models")
    (result,) = check(config=config)
    failed = keep_verdict(config, result)
    held = len(result.findings) - len(failed)
    sink.talk(f"checked just now: {held} of {len(result.findings)} hold ({result.seconds:.1f} s)")
    return failed


def keep_verdict(config: Any, result: FamilyCheck) -> dict[str, str]:
    """Keep what the check of a config found for the next time; what fails, by invariant."""
    failed = {finding.invariant: finding.detail or "" for finding in result.findings if not finding.passed}
    path = _verdict_file(verdict_name(config))
    with suppress(OSError):  # a cache that can't be written only costs the check next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps({"failed": failed}))
    return failed


def kept_verdict(name: str) -> dict[str, str] | None:
    """What failed when a config of this `verdict_name` was checked; None where no verdict is kept."""
    try:
        failed = json.loads(_verdict_file(name).read_text(encoding="utf-8"))["failed"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    is_verdict = isinstance(failed, dict) and all(isinstance(text, str) for text in failed.values())
    return failed if is_verdict else None


def verdict_name(config: Any) -> str:
    """What the verdict of a config is kept under: its type, every version, and the decoder."""
    decoder = config.get_text_config().to_dict()
    decoder.pop("dtype", None)  # which loading writes into it
    return f"{config.model_type}-{under_versions(decoder)}"


def under_versions(what: Any) -> str:
    """Hex digits that stand for this (as JSON has it) under what is installed."""
    of = [installed_version("reroute"), *(installed_version(package) for package in PROVEN), what]
    return hashlib.sha256(json.dumps(of, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _verdict_file(name: str) -> Path:
    return cache_folder() / "checks" / f"{name}.json"


def cache_folder(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The user's cache folder of reroute, as each platform has it."""
    if platform == "win32" and environment.get("LOCALAPPDATA"):
        return Path(environment["LOCALAPPDATA"]) / "reroute" / "Cache"
    if platform == "darwin":
        return Path.home() / "Library" / "Caches" / "reroute"
    given = environment.get("XDG_CACHE_HOME", "")
    return (Path(given) if Path(given).is_absolute() else Path.home() / ".cache") / "reroute"
