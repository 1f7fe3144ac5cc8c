"""What is installed: `reroute.env/1`, and whether the engine is right on it, `reroute.check/1`.

Does not know how anything was found out.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reroute_cli.records.base import Part


class CpuPart(Part):
    """The processor. model, cores: null where the system does not say. torch_threads: that torch uses."""

    model: str | None
    cores: int | None
    torch_threads: int


class GpuPart(Part):
    """One NVIDIA GPU. capability: of its architecture, "9.0". uuid: null where the driver does not say."""

    name: str
    memory_bytes: int
    capability: str
    uuid: str | None


class Installation(Part):
    """What a measurement depends on. commit: of the checkout, "+" when it was changed, null outside one.

    proven: whether the engine is proven on these releases. packages, settings: by name, with the words "not
    installed" or "not set". cuda: torch's; driver: NVIDIA's; null without one. proven_releases: by package.
    """

    schema_: Literal["reroute.env/1"] = Field(default="reroute.env/1", alias="schema")
    python: str
    platform: str
    commit: str | None
    proven: bool
    packages: dict[str, str]
    cpu: CpuPart
    cuda: str | None
    gpus: list[GpuPart]
    driver: str | None
    settings: dict[str, str]
    proven_releases: dict[str, list[str]]


class FindingPart(Part):
    """One invariant of the engine. detail: what was expected and found, or why it was not asked; or null."""

    invariant: str
    passed: bool
    detail: str | None


class FamilyCheckPart(Part):
    """All invariants of one family."""

    family: str
    passed: bool
    seconds: float
    findings: list[FindingPart]


class Check(Part):
    """What `reroute check` found. versions: of what is installed. proven: that these are proven releases."""

    schema_: Literal["reroute.check/1"] = Field(default="reroute.check/1", alias="schema")
    versions: dict[str, str]
    proven: bool
    proven_releases: dict[str, list[str]]
    passed: bool
    families: list[FamilyCheckPart]
