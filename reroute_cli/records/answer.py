"""The record of one answer, `reroute.answer/1`: what `ask --json` prints and what a line of `batch` is.

A number that is not known is null, and its section's `reasons` says why: a record without the reason can't
be built. An item that failed has the same fields with nothing in them. Does not know how anything was
measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field, RootModel

from reroute_cli.records.section import CHAT_TEMPLATE, Part, Section, Source, as_json


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
    """Which model answered, and how it was run. weights: random ones (--load-format dummy) know nothing.

    processor_filled: what the processor's files did not say and the model's config does, by dotted attribute.
    chat_template: "model" for the model's own, else whose it is and the SHA-256 of its text.
    adapter: what id names, where that is an adapter.
    """

    plain_nulls = frozenset({"adapter"})

    id: str
    revision: str | None
    family: str
    dtype: str
    attention: str
    device: str
    weights: Literal["loaded", "random"]
    processor_filled: dict[str, Any] = Field(default_factory=dict)
    chat_template: str = Field(default="model", pattern=CHAT_TEMPLATE)
    adapter: AdapterPart | None = None


class EnvironmentPart(Part):
    """What the engine ran on. proven: "checked" where it was not, but its check passed here."""

    transformers: str
    torch: str
    proven: bool | Literal["checked"]


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


class StagePart(Part):
    """One reduction as it happened. kept, reentered: visual tokens of this sample."""

    where: Literal["vision", "decoder"]
    layer: int
    keep_ratio: float
    kept: int
    reentered: int


class SchedulePart(Section):
    """What was asked for and what was reached; ratios are reduction ratios (1 - average / original)."""

    plain_nulls = frozenset({"profile"})

    method: str | None
    action: str
    profile: str | None
    ratio: float | None
    achieved_ratio: float
    digest: str
    stages: list[StagePart]


class TokensPart(Part):
    """Token counts. prompt includes visual; average_visual is the mean per decoder layer.

    finish: "stop" when the model ended its answer, "length" when --max-new-tokens did.
    """

    visual: int
    prompt: int
    new: int
    average_visual: float
    finish: Literal["stop", "length"]


class FlopsPart(Section):
    """FLOPs, 2 per multiply-add, attention as the full rectangle.

    vision: tower and projector; prefill: decoder and head without scoring; decode: tokens after the first.
    dense_vision, dense_prefill: the same model on the same prompt with no schedule.
    """

    vision: int | None
    prefill: int | None
    scoring: int | None
    decode: int | None
    source: Source
    dense_vision: int | None
    dense_prefill: int | None
    dense_source: Source


class KvPart(Part):
    """The KV cache at the end of the answer: `per_layer_tokens` stored, `logical_tokens` stood for."""

    bytes: int
    source: Source
    dense_bytes: int
    dense_source: Source
    logical_tokens: int
    per_layer_tokens: list[int]


class LatencyPart(Section):
    """Seconds. preprocess_s is not part of the others; they are one run without warm-up.

    batch_size: items of the pass, whose times these are, the longest answer's among them. halvings: how often
    its batch was cut in two before it fitted the device.
    """

    preprocess_s: float
    ttft_s: float
    tpot_s: float | None
    e2e_s: float
    warmup: int
    runs: int
    batch_size: int = 1
    halvings: int = 0


class MemoryPart(Section):
    """Bytes, under five names that are never added up."""

    weights_bytes: int
    torch_peak_allocated_bytes: int | None
    torch_peak_reserved_bytes: int | None
    nvml_process_peak_bytes: int | None
    nvml_device_peak_bytes: int | None
    host_peak_rss_bytes: int | None


class TextContent(Part):
    """A text in a turn."""

    type: Literal["text"]
    text: str


class ImageContent(Part):
    """The place of the next one of the images."""

    type: Literal["image"]


class TurnPart(Part):
    """One turn of a chat, as the model was shown it."""

    role: Literal["system", "user", "assistant"]
    content: list[TextContent | ImageContent]


def told(question: str, images: Sequence[str], turns: Sequence[TurnPart]) -> str:
    """All that was asked as one text, which tells it from another chat about the same first image."""
    said = [
        f"{turn.role}: " + " ".join(part.text if part.type == "text" else "[image]" for part in turn.content)
        for turn in turns
    ]
    more = [f"(and {', '.join(images[1:])})"] if images[1:] else []
    return " ".join([*(said or [question]), *more])


class AnswerRecord(Section):
    """One answer and what it cost. id: of the item; `ask` has no items, and there it is the key.

    key: SHA-256 over what determines the answer: pictures, question, model, schedule, generation settings.
    memory: of `ask` alone, which has a pass of its own for it. turns: of a chat, all that was said; its
    question is the last thing that the user said. Without turns it came after the images.
    """

    plain_nulls = frozenset({"error", "environment", "generation"})  # older files lack the last two

    schema_: Literal["reroute.answer/1"] = Field(default="reroute.answer/1", alias="schema")
    id: str
    key: str
    image: str
    images: list[str]
    question: str
    turns: list[TurnPart] = Field(default_factory=list)
    answer: str
    boxes: list[tuple[float, float, float, float]] | None
    model: ModelPart
    schedule: SchedulePart
    tokens: TokensPart
    flops: FlopsPart
    kv_cache: KvPart
    latency: LatencyPart
    memory: MemoryPart | None
    environment: EnvironmentPart | None = None
    generation: GenerationPart | None = None
    error: None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, `schema` first and `reasons` last in each section."""
        return as_json(self)


FAILED = "the item failed, see error"
_OF_AN_ANSWER = ("boxes", "schedule", "tokens", "flops", "kv_cache", "latency", "memory")


class FailedAnswer(Part):
    """An item of a batch that has no answer; error: why, in one sentence. All else that was asked is null.

    key: SHA-256 over the item's names, not its picture, which may be unreadable.
    """

    schema_: Literal["reroute.answer/1"] = Field(default="reroute.answer/1", alias="schema")
    id: str
    key: str
    image: str
    images: list[str]
    question: str
    turns: list[TurnPart] = Field(default_factory=list)
    answer: Literal[""] = ""
    boxes: None = None
    model: ModelPart
    schedule: None = None
    tokens: None = None
    flops: None = None
    kv_cache: None = None
    latency: None = None
    memory: None = None
    environment: EnvironmentPart | None = None
    generation: GenerationPart | None = None
    error: str = Field(min_length=1)
    reasons: dict[str, str] = Field(default_factory=lambda: dict.fromkeys(_OF_AN_ANSWER, FAILED))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, `schema` first and `reasons` last in each section."""
        return as_json(self)


class AnyAnswer(RootModel[AnswerRecord | FailedAnswer]):
    """`reroute.answer/1`: an answer, or an item that has none."""
