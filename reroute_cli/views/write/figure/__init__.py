"""The figure of a trace: `draw_trace` makes a PNG of a record and its picture, the same bytes every time."""

from __future__ import annotations

from reroute_cli.views.write.figure.page import Figure, draw_trace

__all__ = ["Figure", "draw_trace"]
