"""How questions of benchmarks are worded, family by family, with where each wording comes from.

A wording is part of what is measured: another one gives other scores. How a family is asked for a box is in
its file in routing/families. Knows words; no models, rows or files.
"""

from __future__ import annotations

from reroute_cli.console.errors import UsageError
from routing.families import FAMILIES, family_of
from routing.families.family import Grounding, Missing

SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
"""LLaVA-1.5, arxiv.org/abs/2310.03744 §3.3; the same in lmms-eval for POPE, GQA, MME and MMBench."""


def check_grounding(family: str) -> None:
    """Raise UsageError where the boxes of a family are not read."""
    if not isinstance(missing := family_of(family).grounding, Missing):
        return
    grounded = [kind for kind, known in FAMILIES.items() if isinstance(known.grounding, Grounding)]
    raise UsageError(
        f"RefCOCO can't be scored, as boxes of {family} models are not read ({missing.because}): "
        f"choose a model of {', '.join(grounded)}"
    )


def where_is(expression: str, family: str) -> str:
    """The question for the box of what an expression describes, in the words of the family."""
    grounding = family_of(family).grounding
    assert isinstance(grounding, Grounding), family
    return grounding.question.replace("{ref}", expression)


def short_answer(question: str, family: str) -> str:
    """A question whose answer is a word or a phrase."""
    task = family_of(family).task
    return f"{question}\n{SHORT}" if task is None else task.replace("{question}", question)


def letter_answer(question: str, options: tuple[tuple[str, str], ...], hint: str | None) -> str:
    """A question with its options, a line each, whose answer is a letter; the hint stands first."""
    lines = [] if hint is None else [hint]
    lines += [question, *(f"{letter}. {text}" for letter, text in options), LETTER]
    return "\n".join(lines)
