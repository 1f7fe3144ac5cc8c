"""How scores, intervals and differences are written, and which arm they are of.

Knows record parts; not which of them are shown.
"""

from __future__ import annotations

from reroute_cli.records.score import ArmChoicePart, DifferencePart, ScorePart
from reroute_cli.reporting.words import LONGEST_NAME, short

MINUS = "−"


def arm_title(name: str, action: str | None, most: int = LONGEST_NAME) -> str:
    """'pdrop reroute', 'fastv@3+5 prune', a profile's name, or 'dense'."""
    ending = f"-{action}"
    named = action is not None and name.endswith(ending)
    return short(f"{name.removesuffix(ending)} {action}" if named else name, most)


def amount_of(choice: ArmChoicePart) -> str:
    """' at 0.889', ' at 64 tokens/layer', or nothing under a profile."""
    if choice.ratio is not None:
        return f" at {choice.ratio:g}"
    return "" if choice.budget is None else f" at {choice.budget:g} tokens/layer"


def plain_number(value: float) -> str:
    """Two decimals, one of what is large: '0.71', '−0.03', '1512.4'; never a negative nothing."""
    text = f"{abs(value):.2f}" if abs(value) < 10 else f"{abs(value):.1f}"
    return MINUS + text if value < 0 and float(text) else text


def signed_number(value: float) -> str:
    """'+0.20', '−0.24', '0.00'."""
    text = plain_number(value)
    return text if value <= 0 or not float(text) else f"+{text}"


def score(part: ScorePart | None) -> str:
    """'0.71 [0.67, 0.75]'; without brackets where there is no interval, '–' where there is no score."""
    return "–" if part is None else plain_number(part.value) + _brackets(part)


def difference(part: DifferencePart | None) -> str:
    """'−0.24 [−0.28, −0.20]'; '–' where there is none."""
    return "–" if part is None else signed_number(part.value) + _brackets(part)


def _brackets(part: ScorePart | DifferencePart) -> str:
    if part.low is None or part.high is None:
        return ""
    return f" [{plain_number(part.low)}, {plain_number(part.high)}]"


def p_value(value: float) -> str:
    """'0.031', '<0.001'."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def count(number: int, thing: str) -> str:
    """'1 question', '2 questions'."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
