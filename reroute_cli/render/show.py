"""Printing what only a terminal can draw: never text from outside, only pictures of our own making."""

from __future__ import annotations

import sys

from rich.console import Console, RenderableType


def print_renderable(picture: RenderableType) -> None:
    """Print a renderable that writes the terminal's own graphics sequences."""
    Console(file=sys.stdout).print(picture)
