"""A trace as its options ask for it: a figure, a page or JSON in a file, and what a terminal shows."""

from __future__ import annotations

from pathlib import Path

from reroute_cli.console.command_options import TraceOutput
from reroute_cli.console.output import to_json, write_file
from reroute_cli.data.images import Picture
from reroute_cli.records.trace import TraceRecord
from reroute_cli.views.registry import document
from reroute_cli.views.wording import short
from reroute_cli.views.write import terminal

_NAME = 60  # characters of the page's own name on it


def emit_trace(record: TraceRecord, picture: Picture, output: TraceOutput) -> None:
    """Write the trace to the file of -o by its suffix, show it on stdout, and its numbers on stderr."""
    sink, on_terminal = output.sink, not output.json and terminal.shows_images()
    figure = b""
    if output.kept == "png" or on_terminal:
        from reroute_cli.views.write.figure import draw_trace

        drawn = draw_trace(record, picture.pixels)
        figure = drawn.png
        if drawn.replaced:
            sink.talk(
                f"note: {drawn.replaced} characters that its font lacks are drawn as '?'; the JSON has them"
            )
    if output.output is not None:
        if output.kept == "html":
            from reroute_cli.views.write.html import PageSection, page_of

            section = PageSection(short(output.output.name, _NAME), document(record))
            write_file(output.output, page_of([section], 1, [Path(record.picture.path).parent]).html)
        else:
            write_file(output.output, figure if output.kept == "png" else to_json(record.as_dict()) + "\n")
    if output.json:
        sink.json(record.as_dict())
    elif on_terminal:
        terminal.show_image(figure)
    if output.output is not None and not output.json:
        sink.result(str(output.output))
    sink.card("", *terminal.page(document(record)))
