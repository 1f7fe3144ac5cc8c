"""The keywords of functions in Python: those of the command line's options, under the same names.

What a list of words is on the command line may be a list, too: `arms=["pdrop", "fastv:prune"]`,
`layers=[3, 5, 8]`, `ratios=[0.667, 0.889]`, and words of the form NAME=VALUE a dict: `set={"version": 2}`.
What each means, `--help` of the command says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from reroute_cli.console.options import ActionName

Path = str | os.PathLike[str]
Words = str | Sequence[str]
Numbers = str | Sequence[float]


class ModelKeywords(TypedDict, total=False):
    """How a model is loaded: see ModelOptions. chat_template: a file's path."""

    device: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    attn: Literal["sdpa", "eager", "flash_attention_2"]
    load_format: Literal["auto", "dummy"]
    chat_template: Path | None
    generation: Literal["model", "neutral"]
    seed: int


class ScheduleKeywords(TypedDict, total=False):
    """One schedule: see ScheduleOptions. seed: by default the one that the model was loaded with."""

    method: str | None
    action: ActionName | None
    ratio: float | None
    budget: float | None
    layers: str | Sequence[int] | None
    set: Words | Mapping[str, bool | float | str] | None
    profile: Path | None
    seed: int


class ArmsKeywords(ScheduleKeywords, total=False):
    """One schedule, or several at one amount: see ArmsOptions."""

    arms: Words | None


class AskKeywords(ScheduleKeywords, total=False):
    """A schedule, and how long an answer may be: see AnswerOptions."""

    max_new_tokens: int


class BatchKeywords(AskKeywords, total=False):
    """A schedule, and how items are answered: see BatchRunOptions."""

    batch_size: int
    feature_cache: str | int


class TraceKeywords(AskKeywords, total=False):
    """The schedules that are traced: see TracedSchedules."""

    versus: bool


class PromptKeywords(ScheduleKeywords, total=False):
    """A schedule, and the prompt that it is planned for: see PromptOptions, ShapeOptions."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    visual_tokens: int | None
    text_tokens: int


class ProfileKeywords(ArmsKeywords, total=False):
    """Schedules, items and rounds of a measurement: see ProfileItems, MeasureOptions."""

    manifest: Path | None
    limit: int | None
    max_new_tokens: int
    warmup: int | Literal["auto"]
    repeat: int
    batch_size: int
    slo: Words | None


class QuestionsKeywords(TypedDict, total=False):
    """Questions with ground truth, and how they are asked: see BenchmarkOptions, RunOptions."""

    split: str | None
    data: Path | None
    manifest: Path | None
    limit: int | None
    batch_size: int
    feature_cache: str | int
    max_new_tokens: int | None


class EvaluateKeywords(QuestionsKeywords, ArmsKeywords, total=False):
    """Questions, and the schedules that they are asked under: see ComparedQuestions for subset."""

    subset: Literal["hard"] | None


class SweepKeywords(QuestionsKeywords, total=False):
    """Questions, schedules at several amounts, and what is measured: see GridOptions, CostOptions."""

    arms: Words | None
    ratios: Numbers | None
    budgets: Numbers | None
    subset: Literal["hard"] | None
    seed: int
    cost_items: int
    cost_tokens: int
    warmup: int
    repeat: int
    against: Literal["visual-tokens", "prefill-flops", "kv", "ttft", "e2e"]


class TuneKeywords(QuestionsKeywords, total=False):
    """Questions, and what is searched for: see SearchOptions."""

    budget: float | None
    ratio: float | None
    floor: str | float | None
    score: str | None
    methods: Words
    actions: Words
    answers: int | None
    seed: int
