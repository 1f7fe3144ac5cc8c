"""What there is: methods, models, profiles and benchmarks as lists, and what is installed, each a record.

`reroute.methods/1`, `reroute.method/1` (one of them), `reroute.models/1`, `reroute.profiles/2`,
`reroute.profile/2` (one of them, with its schedule), `reroute.benchmarks/1`, `reroute.env/1` and
`reroute.check/1` (whether the engine is right on what is installed). Does not know where the lists come
from, or how anything was found out.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from reroute_cli.records.base import Part, Place


class MethodPart(Part):
    """One reduction method. scored: where its ranking comes from. year, paper: null where it has none.

    options: what each of its own options does.
    """

    name: str
    title: str
    actions: list[str]
    scored: str
    year: int | None
    paper: str | None
    summary: str
    options: dict[str, str]


class MethodList(Part):
    """What `reroute methods` lists."""

    schema_: Literal["reroute.methods/1"] = Field(default="reroute.methods/1", alias="schema")
    methods: list[MethodPart]


class MethodStagePart(Part):
    """One decision of a method at the depth of a model.

    needs: what it has to see; before the decoder, beside the features, as routing.methods.Need has it; in
    the decoder "attention" (with "text": of the text behind the image), "keys" and "states", or nothing for a
    draw. queries: of how many of the prompt's last tokens that attention is; null where it is not.
    """

    where: Place
    layer: int
    needs: list[str]
    queries: int | None


class PublishedBudgetPart(Part):
    """A profile of a method. budget: the visual tokens per layer that it is named after.

    visual_tokens_per_layer: its true average in the model that it was made for. origin: as in a profile.
    """

    profile: str
    origin: str
    action: str
    budget: int
    visual_tokens_per_layer: float
    visual_tokens: int


class ShownMethod(MethodPart):
    """What `reroute methods NAME` tells. model: whose depth, `layers`, the stages are for.

    stages: by action. resizes: it makes images smaller before the processor. refused: why this model's family
    can't have it; null where it can. settings: of its choices before the decoder, with their defaults.
    bounds: what these may be, in words.
    """

    schema_: Literal["reroute.method/1"] = Field(default="reroute.method/1", alias="schema")
    model: str
    layers: int
    refused: str | None
    resizes: bool
    stages: dict[str, list[MethodStagePart]]
    settings: dict[str, float]
    bounds: dict[str, str] = Field(default_factory=dict)
    budgets: list[PublishedBudgetPart]


class FamilyPart(Part):
    """A family that can be routed. boxes: the unit of its boxes; null where none is published."""

    model_type: str
    title: str
    boxes: str | None


class UnfiledTypePart(Part):
    """A type without a file, which is routed once its check has passed. layer_kinds: of its default config.

    proven: what the kept verdict of that config's check says; null where none is kept. failed: what did not
    hold, by invariant.
    """

    model_type: str
    layer_kinds: list[str]
    proven: bool | None
    failed: dict[str, str]


class KnownModelPart(Part):
    """A model known by name. hub: its id there. source: where the numbers are from.

    visual_tokens: of the image that `picture` describes. layers: of its decoder.
    """

    name: str
    hub: str
    source: str
    layers: int
    visual_tokens: int
    picture: str


class RefusedPart(Part):
    """A type that can't be routed, and why."""

    model_type: str
    reason: str


class ModelList(Part):
    """What `reroute models` lists. transformers: its release, whose types without a file are `unfiled`."""

    schema_: Literal["reroute.models/1"] = Field(default="reroute.models/1", alias="schema")
    transformers: str
    families: list[FamilyPart]
    unfiled: list[UnfiledTypePart]
    known: list[KnownModelPart]
    refused: list[RefusedPart]


class ProfilePart(Part):
    """A profile, and what it was made for. origin: "release", "exact", "solved" or "user".

    model_family, layers, visual_tokens: null where it was made for any. source: null where it names none.
    visual_tokens_per_layer: their mean over decoder layers there; null where either is.
    """

    name: str
    title: str
    origin: str
    model_family: str | None
    source: str | None
    layers: int | None
    visual_tokens: int | None
    visual_tokens_per_layer: float | None


class ProfileList(Part):
    """What `reroute profiles list` lists."""

    schema_: Literal["reroute.profiles/2"] = Field(default="reroute.profiles/2", alias="schema")
    profiles: list[ProfilePart]


class ShownProfile(ProfilePart):
    """What `reroute profiles show` prints. schedule: as the engine takes it, with explicit stages."""

    schema_: Literal["reroute.profile/2"] = Field(default="reroute.profile/2", alias="schema")
    schedule: dict[str, Any]


class BenchmarkPart(Part):
    """A benchmark. source: its hub id, or "in the package". splits: the first is the default.

    scores: names, the headline first. max_new_tokens: the longest answer that makes sense.
    """

    name: str
    title: str
    source: str
    splits: list[str]
    scores: list[str]
    max_new_tokens: int
    notes: str


class BenchmarkList(Part):
    """What `reroute eval --list` lists."""

    schema_: Literal["reroute.benchmarks/1"] = Field(default="reroute.benchmarks/1", alias="schema")
    benchmarks: list[BenchmarkPart]


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
