"""What can be typed about a trace's output and its box, checked before anything large is loaded.

Knows words, no picture and no model.
"""

from __future__ import annotations

import re
from pathlib import Path

from reroute_cli.boxes import Box
from reroute_cli.console.errors import UsageError

PNG, JSON, HTML = ".png", ".json", ".html"
_NUMBER = re.compile(r"-?[0-9]{1,7}(\.[0-9]{1,6})?")


def check_output(path: Path | None) -> str | None:
    """The kind of file that -o asks for, by its suffix, None without -o; raises UsageError for any other."""
    if path is None:
        return None
    kind = path.suffix.lower()
    if kind in (PNG, JSON, HTML):
        return kind
    raise UsageError(f"--output '{path}' is no kind of trace: name it FILE.png, FILE.html or FILE.json")


def read_box(text: str | None) -> Box | None:
    """'60,24,106,70' -> (60.0, 24.0, 106.0, 70.0); None where nothing was typed; raises UsageError."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if len(words) == 4 and all(_NUMBER.fullmatch(word) for word in words):
        x1, y1, x2, y2 = map(float, words)
        if x1 < x2 and y1 < y2:
            return (x1, y1, x2, y2)
    raise UsageError(
        f"--box '{text}' is no box: give x1,y1,x2,y2 in pixels of the picture, like 60,24,106,70"
    )


def check_box(box: Box | None, size: tuple[int, int]) -> None:
    """Refuse a box that lies outside the picture (raises UsageError)."""
    if box is None:
        return
    width, height = size
    if box[0] < 0 or box[1] < 0 or box[2] > width or box[3] > height:
        corners = ",".join(f"{number:g}" for number in box)
        raise UsageError(f"--box {corners} reaches out of the picture, which is {width} × {height}")
