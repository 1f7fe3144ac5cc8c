"""How questions of benchmarks are worded, family by family, with where each wording comes from.

A wording is part of what is measured: another one gives other scores. Knows words; no models, rows or files.
"""

from __future__ import annotations

from reroute_cli.boxes import CONVENTIONS
from reroute_cli.console.errors import UsageError

SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
"""LLaVA-1.5, arxiv.org/abs/2310.03744 §3.3; the same in lmms-eval for POPE, GQA, MME and MMBench."""

_LLAVA = "Please provide the bounding box coordinate of the region this sentence describes: {ref}"
_QWEN = "Locate {ref} in this image and output the bbox coordinates in JSON format."
_QWEN3 = (
    'Locate every object that matches the description "{ref}" in the image. '
    "Report bbox coordinates in JSON format."
)
_GLM = "Help me to locate {ref} in the image and give me its bounding boxes."

WHERE: dict[str, str] = {
    "llava": _LLAVA,
    "llava_next": _LLAVA,
    "llava_onevision": _LLAVA,
    "vipllava": _LLAVA,
    "qwen2_vl": _QWEN,
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
    "internvl": _LLAVA,
    "glm4v": _GLM,
    "glm46v": _GLM,
    "paligemma": "detect {ref}",
}
"""How each family is asked for the box of an expression.

LLaVA: its training data (llava_v1_5_mix665k). Qwen2.5-VL: its authors in QwenLM/Qwen3-VL issue 991, taken
for Qwen2-VL too. Qwen3-VL: its authors in issue 1721 there. InternVL: internvl_chat/eval/refcoco of
OpenGVLab/InternVL, which puts the expression between <ref> and </ref>: left out here, as they are control
tokens, which a question may not hold. GLM-4.1V: README of zai-org/GLM-V, Grounding. PaliGemma:
ai.google.dev/gemma/docs, PaliGemma, prompt and system instructions. The embedded model belongs to LLaVA's
family and is asked in LLaVA's words, though it was trained on its own: "where is the {ref}?".
"""

_TASKS = {"paligemma": "answer en {question}"}  # families that know tasks, not instructions; as above


def check_grounding(family: str) -> None:
    """Raise UsageError where a family has no published way to write boxes."""
    if family in WHERE and family in CONVENTIONS:
        return
    raise UsageError(
        f"{family} models have no published way to write a box, so RefCOCO can't be scored: "
        f"choose a model of {', '.join(WHERE)}"
    )


def where_is(expression: str, family: str) -> str:
    """The question for the box of what an expression describes."""
    return WHERE[family].replace("{ref}", expression)


def short_answer(question: str, family: str) -> str:
    """A question whose answer is a word or a phrase."""
    if family in _TASKS:
        return _TASKS[family].replace("{question}", question)
    return f"{question}\n{SHORT}"


def letter_answer(question: str, options: tuple[tuple[str, str], ...], hint: str | None) -> str:
    """A question with its options, a line each, whose answer is a letter; the hint stands first."""
    lines = [] if hint is None else [hint]
    lines += [question, *(f"{letter}. {text}" for letter, text in options), LETTER]
    return "\n".join(lines)
