"""The record of one answer, `reroute.answer/2`: what `ask --json` prints and what a line of `batch` is.

A number that is not known is null, and its section's `reasons` says why: a record without the reason can't
be built. An item that failed has the same fields with nothing in them. Does not know how anything was
measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, RootModel

from reroute_cli.records.base import Part, Place, RunHeader, Section, Source


class StagePart(Part):
    """One reduction as it happened. keep_ratio: of the original visual tokens. kept, reentered: of them."""

    where: Place
    layer: int
    keep_ratio: float
    kept: int
    reentered: int


class ResizedImage(Part):
    """An image that was made smaller before the processor: width and height in pixels, and visual tokens."""

    original_size: tuple[int, int]
    size: tuple[int, int]
    original_visual_tokens: int
    visual_tokens: int


class ResizedPart(Part):
    """A prompt's images as they were made smaller. saves: whether any has fewer visual tokens for it.

    Where none has, the processor brings every size to the same tokens: detail is lost and nothing saved.
    """

    images: list[ResizedImage]
    saves: bool


class SchedulePart(Section):
    """What was asked for and what was reached; ratios are reduction ratios (1 - average / original).

    resized: of a method that makes images smaller and schedules nothing; everything that is called dense, and
    the tokens of the prompt, are those of the images as they were. Its action is "resize". settings: of the
    method, where they were given.
    """

    plain_nulls = frozenset({"profile", "resized"})

    method: str | None
    action: str
    profile: str | None
    ratio: float | None
    achieved_ratio: float
    digest: str
    stages: list[StagePart]
    resized: ResizedPart | None = None
    settings: dict[str, bool | int | float | str] = Field(default_factory=dict)


class TokensPart(Part):
    """Token counts. prompt_tokens include visual_tokens.

    finish: "stop" when the model ended its answer, "length" when --max-new-tokens did.
    """

    visual_tokens: int
    visual_tokens_per_layer: float
    prompt_tokens: int
    new_tokens: int
    finish: Literal["stop", "length"]


class FlopsPart(Section):
    """FLOPs, 2 per multiply-add, attention as the full rectangle.

    prefill_flops: decoder and head on the prompt, scoring_flops included, which is what ranking cost.
    """

    vision_flops: int | None
    prefill_flops: int | None
    scoring_flops: int | None
    decode_flops: int | None
    source: Source
    dense_vision_flops: int | None
    dense_prefill_flops: int | None
    dense_source: Source


class KvPart(Part):
    """The KV cache at the end of the answer: `per_layer_tokens` stored, `logical_tokens` stood for."""

    kv_end_bytes: int
    source: Source
    dense_kv_end_bytes: int
    dense_source: Source
    logical_tokens: int
    per_layer_tokens: list[int]


class LatencyPart(Section):
    """Seconds. preprocess_s is not part of the others; they are one run without warm-up.

    All items of a pass start together and have their first tokens at the same time (ttft_s); each then ends
    with its own last token: e2e_s and tpot_s = (e2e_s - ttft_s) / (new tokens - 1) are the item's own, in the
    company it had. pass_s: of the whole pass, which ends with its longest answer; None in records of before
    this was told apart, whose e2e_s is that of the pass. batch_size: items of the pass. halvings: how often
    its batch was cut in two before it fitted the device. shared_prefix: the images that all prompts of the
    pass began with were computed once; FLOPs and bytes are still those of the item alone. reused_vision_s: of
    ttft_s, e2e_s and pass_s, for images of the pass that were encoded before it: measured when they were,
    once for all answers.
    """

    plain_nulls = frozenset({"pass_s"})

    preprocess_s: float
    ttft_s: float
    tpot_s: float | None
    e2e_s: float
    pass_s: float | None = None
    warmup: int
    runs: int
    batch_size: int = 1
    halvings: int = 0
    shared_prefix: bool = False
    reused_vision_s: float = 0.0


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


class AnswerRecord(RunHeader):
    """One answer and what it cost. id: of the item; `ask` has no items, and there it is the key.

    key: SHA-256 over what determines the answer: images, question, model, schedule, generation settings.
    memory: of `ask` alone, which has a pass of its own for it. turns: of a chat, all that was said; its
    question is the last thing that the user said. Without turns it came after the images.
    """

    plain_nulls = RunHeader.plain_nulls | {"error"}

    schema_: Literal["reroute.answer/2"] = Field(default="reroute.answer/2", alias="schema")
    id: str
    key: str
    image: str
    images: list[str]
    question: str
    turns: list[TurnPart] = Field(default_factory=list)
    answer: str
    boxes: list[tuple[float, float, float, float]] | None
    schedule: SchedulePart
    tokens: TokensPart
    flops: FlopsPart
    kv_cache: KvPart
    latency: LatencyPart
    memory: MemoryPart | None
    error: None = None


FAILED = "the item failed, see error"
_OF_AN_ANSWER = ("boxes", "schedule", "tokens", "flops", "kv_cache", "latency", "memory")


class FailedAnswer(RunHeader):
    """An item of a batch that has no answer; error: why, in one sentence. All else that was asked is null.

    key: SHA-256 over the item's names, not its image, which may be unreadable.
    """

    plain_nulls = RunHeader.plain_nulls

    schema_: Literal["reroute.answer/2"] = Field(default="reroute.answer/2", alias="schema")
    id: str
    key: str
    image: str
    images: list[str]
    question: str
    turns: list[TurnPart] = Field(default_factory=list)
    answer: Literal[""] = ""
    boxes: None = None
    schedule: None = None
    tokens: None = None
    flops: None = None
    kv_cache: None = None
    latency: None = None
    memory: None = None
    error: str = Field(min_length=1)
    reasons: dict[str, str] = Field(default_factory=lambda: dict.fromkeys(_OF_AN_ANSWER, FAILED))


class AnyAnswer(RootModel[AnswerRecord | FailedAnswer]):
    """`reroute.answer/2`: an answer, or an item that has none."""
