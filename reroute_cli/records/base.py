"""What records are made of: strict parts, a reason beside every null, and the header they all begin with.

One word has one meaning in all records. Numbers carry their unit at the end of their name (`_s` seconds,
`_bytes`, `_flops`, 2 FLOPs per multiply-add, `_tokens`); in a table of metrics the name is the same without
`_s` and `_bytes`, and the unit stands beside it. Boxes are pixels of the original image; layers count from 0.

- visual_tokens: of the prompt, all images together. visual_tokens_per_layer: mean over decoder layers.
- prefill_flops: decoder and head on the prompt, ranking visual tokens included; scoring_flops: that part.
- vision_flops: vision tower and projector. decode_flops: tokens after the first. total_flops: all of these.
- kv_prefill, kv_end: what the KV cache holds after the prefill and after the last token, all layers.
- dense_...: the same of the same prompt without a schedule; ..._ratio and `ratios`: routed over dense.
- resized: images that a method made smaller; then the prompt and all that is dense are of the originals.
- ratio, achieved_ratio: the reduction ratio, 1 - visual_tokens_per_layer / visual_tokens, asked and reached.
- budget: visual tokens per decoder layer that were asked for. layer_tokens: visual tokens, layers summed up.
- where: "vision" as features leave the vision tower, "entrance" as they enter the decoder, or "decoder".
- stages: the reductions, one after the other. decision_layers: where they were asked for.
- source: how a number was made: "measured", "counted" or "estimated"; in a list, where an entry is from.
- provenance: of questions, where they come from: a hub id with its revision, or a file.
- this_run: what the run itself did, answers of earlier runs left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Source = Literal["measured", "counted", "estimated"]
Place = Literal["vision", "entrance", "decoder"]  # of a reduction

html_of: Callable[[Any], str] | None = None
"""What a notebook shows of a record: set by who knows how records are shown, None where nobody asked."""


class Part(BaseModel):
    """A part of a record: no unknown fields, no NaN, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, `schema` first and `reasons` last in each section."""
        plain: dict[str, Any] = _ordered(self.model_dump(mode="json", by_alias=True))
        return plain

    def _repr_html_(self) -> str | None:
        """What notebooks show of a record; of its parts, and without `html_of`, what Python shows."""
        return None if html_of is None or not hasattr(self, "schema_") else html_of(self)


class Section(Part):
    """A part of a record; every null in it needs a reason, but for fields whose null says it all."""

    plain_nulls: ClassVar[frozenset[str]] = frozenset()

    reasons: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _explains_nulls(self) -> Section:
        fields = set(type(self).model_fields) - self.plain_nulls
        nulls = {name for name in fields if getattr(self, name) is None}
        if missing := nulls - set(self.reasons):
            raise ValueError(f"null without a reason: {', '.join(sorted(missing))}")
        if stale := set(self.reasons) - nulls:
            raise ValueError(f"a reason for what is known: {', '.join(sorted(stale))}")
        return self


def _ordered(value: Any) -> Any:
    if isinstance(value, list):
        return [_ordered(part) for part in value]
    if not isinstance(value, dict):
        return value
    ends = {name: {name: value[name]} for name in ("schema", "reasons") if name in value}
    middle = {name: _ordered(part) for name, part in value.items() if name not in ends}
    return ends.get("schema", {}) | middle | ends.get("reasons", {})


class AdapterPart(Section):
    """A PEFT adapter that was merged into the model.

    base: the model that it was made for, as the adapter names it; revision: its hub commit. digest: SHA-256
    of the adapter's config and weights.
    """

    plain_nulls = frozenset({"revision"})

    base: str
    revision: str | None
    digest: str


class ModelPart(Section):
    """Which model it is, and how it runs. weights: random ones (--load-format dummy) know nothing.

    id: hub id, `pocket`, or a folder's name. config_digest: SHA-256 of its config. layers: of its decoder.
    dtype: of hidden states and KV cache. processor_filled: what the processor's files did not say and the
    model's config does, by dotted attribute. chat_template: "model" for the model's own, else whose it is and
    the SHA-256 of its text. adapter: what id names, where that is an adapter.
    """

    plain_nulls = frozenset({"adapter"})

    id: str
    revision: str | None
    family: str
    config_digest: str | None
    layers: int | None
    dtype: str
    attention: str | None
    device: str | None
    weights: Literal["loaded", "random"] | None
    processor_filled: dict[str, Any] = Field(default_factory=dict)
    chat_template: str = Field(default="model", pattern="^(model|(family|file) [0-9a-f]{64})$")
    adapter: AdapterPart | None = None


class EnvironmentPart(Part):
    """What the engine ran on, in the words of `reroute env`.

    proven: whether it is proven on these releases; "checked" where it was not, but its check passed here.
    packages: their versions by name.
    """

    proven: bool | Literal["checked"]
    packages: dict[str, str]


class GenerationPart(Part):
    """How tokens were chosen. settings: "model", as in its generation_config.json, or "neutral".

    Beside these fields it has every setting that changes a greedy answer and is not neutral, by its name in
    that file; one of more than 400 characters as its SHA-256 and the number of its entries.
    """

    model_config = ConfigDict(extra="allow")

    settings: Literal["model", "neutral"]
    greedy: Literal[True]
    max_new_tokens: int

    @property
    def active(self) -> dict[str, Any]:
        """The settings that are not neutral."""
        return dict(self.model_extra or {})


@cache
def release() -> str | None:
    """The version of reroute that is installed; None where it runs from a folder that nobody installed."""
    try:
        return version("reroute")
    except PackageNotFoundError:
        return None


class Header(Section):
    """What records of a model begin with. reroute: the release that wrote it, null in some older files."""

    plain_nulls = frozenset({"reroute"})

    schema_: str = Field(alias="schema")
    reroute: str | None = Field(default_factory=release)
    model: ModelPart


class RunHeader(Header):
    """The header of a record of something that ran. environment, generation: null in older files."""

    plain_nulls = Header.plain_nulls | {"environment", "generation"}

    environment: EnvironmentPart | None = None
    generation: GenerationPart | None = None


class ReportHeader(Header):
    """The header of a report. created: ISO 8601, UTC. environment: as `reroute env --json` has it.

    generation: null in older files.
    """

    plain_nulls = Header.plain_nulls | {"generation"}

    created: str
    environment: dict[str, Any]
    generation: GenerationPart | None = None
