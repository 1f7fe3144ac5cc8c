"""What the driver tells every worker: which model, which schedule, which settings, as plain JSON values.

A profile that is a file of the driver's goes along by its content. Knows options and settings; loads nothing.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure
from reroute_cli.console.missing import installed_version
from reroute_cli.run.schedules import ScheduleChoice

if TYPE_CHECKING:
    from reroute_cli.console.options import ModelOptions
    from reroute_cli.run.answer import Settings
    from reroute_cli.run.prepare import BatchRequest

WorkerConfig = dict[str, Any]


def make_config(loading: ModelOptions, request: BatchRequest, threads: int) -> WorkerConfig:
    """The configuration of every worker for this request.

    threads: of torch in each worker, where it computes on CPUs.
    """
    (ask,) = request.asks
    assert ask.choice.made is None, "no option makes a schedule"
    import profiles

    profile, text = ask.choice.profile, None
    if profile is not None and profile not in profiles.names():  # a file of the driver's
        text = Path(profile).read_text(encoding="utf-8")
    return plain(
        {
            "version": installed_version("reroute"),
            "loading": asdict(loading) | {"device": request.loaded.device},
            "choice": asdict(ask.choice),
            "profile": text,
            "max_new_tokens": request.max_new_tokens,
            "batch_size": request.batch_size,
            "feature_cache": request.feature_cache,
            "threads": threads,
            "settings": ask.settings,
        }
    )


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """The same as nothing but JSON values, so that nobody needs our classes to read it."""
    found: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return found


@dataclass(frozen=True)
class LocalSchedule:
    """The schedule as a worker's machine can build it. shown: the profile as it was typed."""

    choice: ScheduleChoice
    shown: str | None

    @classmethod
    def of(cls, config: WorkerConfig) -> LocalSchedule:
        """The configured schedule; a profile's text is written to a file of this machine."""
        typed = config["choice"]
        layers = None if typed["layers"] is None else tuple(typed["layers"])
        choice = ScheduleChoice(**typed | {"layers": layers})
        if config["profile"] is None:
            return cls(choice, choice.profile)
        path = Path(tempfile.mkdtemp(prefix="reroute-")) / Path(typed["profile"]).name
        path.write_text(config["profile"], encoding="utf-8")
        return cls(replace(choice, profile=str(path)), choice.profile)

    def as_typed(self, record: dict[str, Any]) -> dict[str, Any]:
        """A record (plain JSON values) with the profile's typed name in place of this machine's file."""
        local = self.choice.profile
        if local == self.shown or local is None:
            return record
        if record["schedule"] is not None:
            return record | {"schedule": record["schedule"] | {"profile": self.shown}}
        return record | {"error": record["error"].replace(local, self.shown)}


def check_version(version: str) -> None:
    """Refuse to answer for a driver of another version (raises Failure)."""
    own = installed_version("reroute")
    if own != version:
        raise Failure(f"it has reroute {own} and the driver {version}: install the same on every node")


def check_settings(expected: Settings, found: Settings) -> None:
    """Refuse a model that is not the one that the driver made keys for (raises Failure)."""
    for part, values in expected.items():
        for name in {**values, **found[part]}:
            value, other = values.get(name), found[part].get(name)
            if other != value:
                raise Failure(
                    f"its {part} has {name} {other!r}, the driver's {value!r}: "
                    f"{_REMEDIES.get(name, 'give every node the same files and the same version')}"
                )


_REMEDIES = {
    "dtype": "name it with --dtype, so that all workers have the same",
    "revision": "fetch the same commit of the model on every node",
    "config": "give every node the same model files",
    "settings": "give every node the same model files",
}
