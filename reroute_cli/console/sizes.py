"""An amount of memory as it is typed, and the option that takes one: room for encoded images."""

from __future__ import annotations

import re
from typing import Annotated

from typer import Option

from reroute_cli.console.errors import UsageError

FEATURE_CACHE = 512 << 20  # bytes: some 400 images of LLaVA-1.5-7B, 50 of a megapixel of Qwen2.5-VL-7B
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SIZE = re.compile(rf"(?P<number>[0-9]{{1,15}}(?:\.[0-9]{{1,6}})?) ?(?P<unit>{'|'.join(_UNITS)})?")


def read_size(text: str) -> int:
    """'512MiB' -> 536870912 bytes; a number alone is bytes.

    Raises UsageError for what is no size, in the words of the option that takes one.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"--feature-cache '{text}' is no size: give a number with a unit, such as 512MiB or 2GiB, or 0"
        )
    return int(float(found["number"]) * 1024 ** _UNITS.index(found["unit"] or "B"))


FeatureCache = Annotated[
    int,
    Option(
        metavar="SIZE",
        callback=read_size,
        show_default=False,
        help="Memory for encoded images, 512MiB by default: each passes the vision tower once for all "
        "questions and schedules. 0 turns that off.",
    ),
]
"""A field of groups of options, in bytes."""
