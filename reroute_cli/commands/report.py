"""`reroute report`: one HTML page from what other commands wrote, to look at, to send and to print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reroute_cli import options
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import Sink, check_writable, write_file
from reroute_cli.views.write.html import check_packages

if TYPE_CHECKING:
    from reroute_cli.views.write.html import Page

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN",
        help="What profile, compare --format json, sweep, eval, tune, trace or batch wrote: JSON, or the "
        "answers as JSON lines.",
        show_default=False,
    ),
]
Written = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="The page to write.",
        show_default=False,
        rich_help_panel="Output",
    ),
]
Pictures = Annotated[
    list[Path] | None,
    typer.Option(
        "--pictures",
        metavar="FOLDER",
        help="Where pictures that the files name are looked for, and below. Repeatable; by default the "
        "files' own folders, this one and the samples.",
        show_default=False,
        rich_help_panel="Gallery",
    ),
]
MostItems = Annotated[
    int,
    typer.Option(
        "--items",
        metavar="N",
        callback=options.within(0, 1000),
        help="Questions in the gallery at most, those with different answers first.",
        rich_help_panel="Gallery",
    ),
]


def report(
    files: Files,
    output: Written,
    pictures: Pictures = None,
    items: MostItems = 100,
    quiet: options.Quiet = False,
) -> None:
    """Write one self-contained HTML page: charts, tables that sort, and a gallery of answers."""
    _check(files, output, pictures or [])
    from reroute_cli.views.write.html import page_of
    from reroute_cli.views.write.inputs import read_inputs, sections_of

    page = page_of(sections_of(read_inputs(files)), items, _folders(files, pictures))
    write_file(output, page.html)
    sink = Sink(quiet=quiet)
    for remark in _remarks(page, items):
        sink.talk(remark)
    sink.result(str(output))


def _check(files: list[Path], output: Path, pictures: list[Path]) -> None:
    """What can be found wrong before anything is read."""
    from reroute_cli.regression.check import refuse_same_file

    check_packages()
    if problem := check_writable(output):
        raise Failure(f"--output: {problem}")
    for path in files:
        refuse_same_file(output, path, "RUN")
    for folder in pictures:
        if not folder.is_dir():
            raise UsageError(
                f"--pictures: there is no folder '{folder}': name the one that holds the pictures"
            )


def _folders(files: list[Path], pictures: list[Path] | None) -> list[Path]:
    from reroute_cli.inputs import samples_manifest

    if pictures:
        return pictures
    samples = samples_manifest().parent
    return list(dict.fromkeys([*(path.parent for path in files), Path(), samples / "heldout", samples]))


def _remarks(page: Page, most: int) -> list[str]:
    """What is not on the page."""
    gallery, album, said = page.gallery, page.album, []
    if (shown := len(gallery.items)) < gallery.total:
        why = "--items shows more" if shown == most else "more do not fit into the page's 6 MB"
        said.append(f"note: {shown} of {gallery.total} questions are in the gallery: {why}")
    if album.missing:
        count = len(album.missing)
        said.append(
            f"note: {count} pictures were not found, '{album.missing[0]}' first: add --pictures FOLDER"
        )
    if album.left_out:
        said.append(f"note: {album.left_out} pictures did not fit into the page's 6 MB: lower --items")
    return said
