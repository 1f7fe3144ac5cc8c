"""`reroute report`: one HTML page from what other commands wrote, to look at, to send and to print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reroute_cli.console.command_options import PageOptions
from reroute_cli.console.output import Sink, write_file

if TYPE_CHECKING:
    from reroute_cli.views.write.html import Page


def report(options: PageOptions) -> None:
    """Write one self-contained HTML page: charts, tables that sort, and a gallery of answers."""
    from reroute_cli.data.items import image_folders
    from reroute_cli.studies.compare.check import refuse_same_file
    from reroute_cli.views.write.html import page_of
    from reroute_cli.views.write.inputs import read_inputs, sections_of

    for path in options.files:
        refuse_same_file(options.output, path, "RUN")
    folders = options.images or image_folders(options.files)
    page = page_of(sections_of(read_inputs(options.files)), options.items, folders)
    write_file(options.output, page.html)
    sink = Sink(quiet=options.quiet)
    for remark in _remarks(page, options.items):
        sink.talk(remark)
    sink.result(str(options.output))


def _remarks(page: Page, most: int) -> list[str]:
    """What is not on the page."""
    gallery, album, said = page.gallery, page.album, []
    if (shown := len(gallery.items)) < gallery.total:
        why = "--items shows more" if shown == most else "more do not fit into the page's 6 MB"
        said.append(f"note: {shown} of {gallery.total} questions are in the gallery: {why}")
    if album.missing:
        count = len(album.missing)
        said.append(f"note: {count} images were not found, '{album.missing[0]}' first: add --images FOLDER")
    if album.left_out:
        said.append(f"note: {album.left_out} images did not fit into the page's 6 MB: lower --items")
    return said
