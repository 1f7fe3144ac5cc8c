"""Showing a picture in a terminal that can (kitty's or Sixel graphics), with the extra `reroute[terminal]`.

Without the extra, without a terminal, or where it can only show letters, nothing is shown.
"""

from __future__ import annotations

import io
import os
import sys
from importlib.util import find_spec

_GRAPHICS = ("textual_image.renderable.tgp", "textual_image.renderable.sixel")


def shows_pictures() -> bool:
    """Whether stdout is a terminal that shows pictures and the package that talks to it is installed."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb" or find_spec("textual_image") is None:
        return False
    if not os.get_terminal_size(sys.stdout.fileno()).columns:  # nobody told it how large it is
        return False
    from textual_image.renderable import Image  # asks the terminal, once

    return Image.__module__ in _GRAPHICS


def show(png: bytes) -> None:
    """Draw a picture file of our own making where the cursor is."""
    from PIL import Image as Pictures
    from textual_image.renderable import Image

    from reroute_cli.render.show import print_renderable

    with Pictures.open(io.BytesIO(png)) as picture:
        print_renderable(Image(picture, width="100%", height="auto"))
