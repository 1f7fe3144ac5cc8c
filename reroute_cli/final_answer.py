"""What a model means as its answer, in all that it wrote.

Models that think aloud write their thoughts before `</think>`, and some wrap the answer itself: GLM-4.1V in
<answer> tags and around what is asked for <|begin_of_box|> … <|end_of_box|>. A box or a yes among the
thoughts is no answer. Knows text only.
"""

from __future__ import annotations

import re

_THOUGHTS = ("<think>", "</think>")
_MARKS = re.compile(r"</?answer>|<\|(?:begin|end)_of_box\|>")
_MARKED = re.compile(r"<\|begin_of_box\|>(.*?)(?:<\|end_of_box\|>|$)", re.DOTALL)


def final_answer(text: str) -> str:
    """The text behind the thoughts, and of it what is marked as the answer where something is.

    Thoughts that never end hold no answer: "".
    """
    begin, end = _THOUGHTS
    _, closed, said = text.rpartition(end)
    if not closed and said.lstrip().startswith(begin):
        return ""
    return _MARKS.sub("", " ".join(_MARKED.findall(said)) or said).strip()
