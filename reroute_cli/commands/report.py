"""`reroute report`: one HTML page from what other commands wrote, to look at, to send and to print."""

from __future__ import annotations

from reroute_cli.console.command_options import PageOptions
from reroute_cli.console.output import Sink, write_file


def report(options: PageOptions) -> None:
    """Write one self-contained HTML page: charts, tables that sort, and a gallery of answers."""
    from reroute_cli.data.items import image_folders
    from reroute_cli.studies.compare import refuse_same_file
    from reroute_cli.views.write.html import page_of
    from reroute_cli.views.write.inputs import read_inputs, sections_of

    for path in options.files:
        refuse_same_file(options.output, path, "RUN")
    folders = options.images or image_folders(options.files)
    page = page_of(sections_of(read_inputs(options.files)), options.items, folders)
    write_file(options.output, page.html)
    sink = Sink(quiet=options.quiet)
    gallery, album = page.gallery, page.album
    if (shown := len(gallery.items)) < gallery.total:
        why = "--items shows more" if shown == options.items else "more do not fit into the page's 6 MB"
        sink.talk(f"note: {shown} of {gallery.total} questions are in the gallery: {why}")
    if missing := album.missing:
        sink.talk(f"note: {len(missing)} images were not found, '{missing[0]}' first: add --images FOLDER")
    if album.left_out:
        sink.talk(f"note: {album.left_out} images did not fit into the page's 6 MB: lower --items")
    sink.result(str(options.output))
