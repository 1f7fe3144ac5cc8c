"""Which files of a folder are pictures: nesting, links of every kind, hidden names, order."""

import os
import random
import socket
from pathlib import Path

import pytest
from PIL import Image

from reroute_cli.data.folders import SUFFIXES, find_image_files, is_image_name
from reroute_cli.data.images import FORMATS


@pytest.fixture
def tree(tmp_path):
    """A folder `top` beside a folder `out`, and a function that makes files in them."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return tmp_path / "top"

    make("top/first.png", "out/.keep")
    return make


def names(folder):
    """The pictures that are found, as paths."""
    return ["/".join(name) for name in find_image_files(folder).images]


def link(folder, name, target):
    """A symbolic link in the folder; parents are made."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(target)


def test_nested_folders_are_walked_in_one_order(tree):
    """By the parts of the path: a folder's pictures stand together, and capitals come first."""
    given = ["b/2.png", "b/10.png", "b!/1.png", "b/c/d/e.jpg", "a.png", "Z.png", "z/Z.png"]
    random.Random(7).shuffle(given)
    folder = tree(*[f"top/{name}" for name in given])
    assert names(folder) == [
        "Z.png",
        "a.png",
        "b/10.png",
        "b/2.png",
        "b/c/d/e.jpg",
        "b!/1.png",
        "first.png",
        "z/Z.png",
    ]


def test_folders_as_deep_as_the_system_allows_are_walked(tree):
    """1200 folders in each other are more than Python's stack holds."""
    levels = [tree() / ("a/" * depth) for depth in range(1, 1201)]
    for level in levels:
        level.mkdir()
    picture = levels[-1] / "x.png"
    picture.write_bytes(b"x")
    try:
        assert names(tree())[0] == "a/" * 1200 + "x.png"
    finally:  # too deep for those who tidy up
        picture.unlink()
        for level in reversed(levels):
            level.rmdir()


def test_what_is_no_picture_is_counted(tree):
    """Other suffixes, no suffix, pipes and sockets are skipped and counted, whatever they are called."""
    folder = tree("top/notes.txt", "top/png", "top/a/model.safetensors", "top/x.png.json")
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as end:
        here = Path.cwd()
        os.chdir(folder)  # a socket's path is short
        try:
            end.bind("socket.png")
        finally:
            os.chdir(here)
    found = find_image_files(folder)
    assert (found.images, found.skipped) == ((("first.png",),), 6)


@pytest.fixture
def drawn_as(tmp_path):
    """A function that writes a small picture of a format under a name beside or in `top`."""

    def make(name, kind="PNG"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L" if kind == "PPM" else "RGB", (16, 16), 7).save(path, kind)
        return path

    return make


@pytest.mark.parametrize("kind", FORMATS)
def test_a_name_without_a_suffix_is_a_picture_by_its_content(tree, drawn_as, kind):
    """Every format that is read is known by its first bytes; it stands in the order of names."""
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    drawn_as("top/0a4d55a8", kind)
    found = find_image_files(tree("top/2f9c"))
    assert (found.images, found.skipped) == ((("0a4d55a8",), ("first.png",)), 1)


def test_only_files_without_a_suffix_are_opened(tree, drawn_as, monkeypatch):
    """A suffix says enough, and so does a dot in front; what has none is opened once."""
    for name in ("top/digest", "top/x.png", "top/x.data", "top/.hidden", "top/digest.v2"):
        drawn_as(name)
    opened, real = [], Image.open
    monkeypatch.setattr(Image, "open", lambda path, **more: opened.append(path) or real(path, **more))
    found = find_image_files(tree())
    assert found.images == (("digest",), ("first.png",), ("x.png",))
    assert (found.skipped, [Path(path).name for path in opened]) == (3, ["digest"])


def test_a_link_that_says_picture_names_a_file_that_does_not(tree, drawn_as):
    """As in a hub cache: blobs called by digests, and readable names that link to them."""
    for name in ("top/blobs/aa", "top/blobs/bb", "top/blobs/cc"):
        drawn_as(name)
    folder = tree("top/blobs/dd")
    for name, target in (("one.png", "aa"), ("two.png", "aa"), ("plain", "bb"), ("text", "dd")):
        link(folder, f"names/{name}", folder / "blobs" / target)
    found = find_image_files(folder)
    assert found.images == (("blobs", "bb"), ("blobs", "cc"), ("first.png",), ("names", "one.png"))
    assert found.skipped == 2


def test_links_without_a_suffix_lead_to_pictures_once(tree, drawn_as):
    """Outside the folder the first link's name counts; what has a name in it is not found twice."""
    target = drawn_as("out/blob")
    folder = tree()
    for name in ("b", "a"):
        link(folder, name, target)
    link(folder, "c", folder / "first.png")
    link(folder, "d.txt", drawn_as("out/other"))  # says that it is something else
    found = find_image_files(folder)
    assert (found.images, found.skipped) == ((("a",), ("first.png",)), 1)


def test_what_cannot_be_looked_into_is_not_passed_over(tree, drawn_as, monkeypatch):
    """A file that the system refuses, or that unpacks to too much, is told when it is opened."""
    path, real = drawn_as("top/large"), Image.open

    def refusing(path, **more):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(path, **more)

    monkeypatch.setattr(Image, "open", refusing)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert path.exists()
    assert names(tree("top/locked")) == ["first.png", "large", "locked"]


def test_hidden_names_are_counted_and_not_entered(tree):
    """A hidden file is one, a hidden folder is one however much it holds; a hidden top folder was meant."""
    folder = tree("top/.a.png", "top/.git/b.png", "top/.git/c/d.png", "top/s/._first.png")
    found = find_image_files(folder)
    assert (found.images, found.skipped) == ((("first.png",),), 3)
    assert names(folder / ".git") == ["b.png", "c/d.png"]


def test_a_folder_called_like_a_picture_is_a_folder(tree):
    """x.png/ is walked."""
    assert names(tree("top/x.png/y.png")) == ["first.png", "x.png/y.png"]


@pytest.mark.parametrize("target", [".", "..", "../..", "/", "../top", "s"])
def test_a_link_that_leads_up_is_not_followed(tree, target):
    """A loop ends at once: the folder itself, one around it, the root of the system, a folder beside it."""
    folder = tree("top/s/a.png")
    link(folder, "s/loop", "../s" if target == "s" else target)
    link(folder, "loop", target)
    assert names(folder) == ["first.png", "s/a.png"]


def test_a_loop_through_a_folder_outside_ends(tree, tmp_path):
    """Out of the folder, and from there back, up, and to itself: each folder is walked once."""
    folder = tree("out/o.png", "out/deep/p.png")
    link(folder, "out", tmp_path / "out")
    for name, target in (("back", folder), ("up", tmp_path), ("self", "."), ("deep/again", tmp_path / "out")):
        link(tmp_path / "out", name, target)
    assert names(folder) == ["first.png", "out/deep/p.png", "out/o.png"]


def test_two_folders_outside_that_link_to_each_other_end(tree, tmp_path):
    """Each is walked under the first name that leads to it."""
    folder = tree("one/1.png", "two/2.png")
    link(folder, "a", tmp_path / "one")
    link(tmp_path / "one", "b", tmp_path / "two")
    link(tmp_path / "two", "a", tmp_path / "one")
    assert names(folder) == ["a/1.png", "a/b/2.png", "first.png"]


def test_a_folder_around_one_that_was_linked_is_walked_too(tree, tmp_path):
    """A link to a folder after a link into it: what the first showed is not shown again, the rest is."""
    folder = tree("out/in/1.png", "out/2.png")
    link(folder, "a", tmp_path / "out" / "in")
    link(folder, "b", tmp_path / "out")
    assert names(folder) == ["a/1.png", "b/2.png", "first.png"]


def test_a_linked_file_of_the_folder_is_found_under_its_own_name_only(tree):
    """Links sort before and after their file, and lie in other folders; the file itself is the one item."""
    folder = tree("top/m/middle.png")
    for name in ("a.png", "z.png", "m/a.jpg", "chain.png"):
        link(folder, name, folder / "m/middle.png")
    link(folder, "y.png", "chain.png")
    found = find_image_files(folder)
    assert found.images == (("first.png",), ("m", "middle.png"))
    assert found.skipped == 0


def test_a_linked_file_of_elsewhere_is_found_once(tree, tmp_path):
    """Under the first of its links, though its own name is no picture's or is hidden."""
    folder = tree("out/blob", "top/.cache/x.png", "out/seen.png", "out/sub/s.png")
    link(folder, "b.png", tmp_path / "out/blob")
    link(folder, "a.png", tmp_path / "out/blob")
    link(folder, "hidden.png", ".cache/x.png")
    link(folder, "s.png", tmp_path / "out/sub/s.png")
    link(folder, "sub", tmp_path / "out/sub")
    assert names(folder) == ["a.png", "first.png", "hidden.png", "sub/s.png"]


def test_a_link_to_nothing_is_a_picture_that_will_not_open(tree):
    """It was meant as one: leaving it out would hide that the data is gone."""
    folder = tree()
    for name, target in (
        ("gone.png", "nowhere.png"),
        ("round.png", "round.png"),
        ("gone.txt", "nowhere.txt"),
    ):
        link(folder, name, target)
    found = find_image_files(folder)
    assert found.images == (("first.png",), ("gone.png",), ("round.png",))
    assert found.skipped == 1


def test_a_link_to_a_pipe_or_a_text_is_skipped(tree, tmp_path):
    """What a link leads to decides with its name."""
    folder = tree("out/notes.png")
    os.mkfifo(tmp_path / "out/pipe")
    link(folder, "pipe.png", tmp_path / "out/pipe")
    link(folder, "notes", tmp_path / "out/notes.png")
    assert find_image_files(folder).skipped == 2


def test_hard_links_and_copies_are_each_a_picture(tree):
    """Two names of equal rank are two items: neither is a link to the other."""
    folder = tree("top/copy.png")
    os.link(folder / "first.png", folder / "hard.png")
    assert names(folder) == ["copy.png", "first.png", "hard.png"]


def test_a_folder_that_is_itself_a_link_is_walked(tree, tmp_path):
    """The name that was typed may be a link; links in it back to it are loops."""
    folder = tree("top/s/a.png")
    (tmp_path / "name").symlink_to(folder)
    link(folder, "s/loop", tmp_path / "name")
    assert names(tmp_path / "name") == ["first.png", "s/a.png"]


def test_names_that_are_no_text_are_kept(tree):
    """Bytes that are no UTF-8, control characters and 250 letters: files open by such names."""
    folder = tree()
    odd = [b"\xff.png", b"a\n\x1b.png", b"n" * 250 + b".png", "ä😀.png".encode()]
    for name in odd:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"x")
    found = {os.fsencode(name) for name in names(folder)}
    assert found == {*odd, b"first.png"}


def test_a_folder_that_cannot_be_listed_is_told_and_passed(tree, monkeypatch):
    """One folder without permission does not hide the others."""
    folder = tree("top/locked/a.png", "top/open/b.png")
    scan = os.scandir

    def refusing(place):
        if str(place).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scan(place)

    monkeypatch.setattr(os, "scandir", refusing)
    found = find_image_files(folder)
    assert found.images == (("first.png",), ("open", "b.png"))
    assert found.unreadable == ((("locked",), "Permission denied"),)


def test_every_suffix_of_a_format_that_is_read_is_a_picture_s():
    """Pillow's own list of suffixes for the formats, .mpo (read as JPEG) and HEIF's; capitals count."""
    Image.init()
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO")}
    assert known | {".heic", ".heif", ".hif", ".heics", ".heifs"} == SUFFIXES
    assert is_image_name("A.B.JPeG")
    assert not is_image_name("png")
    assert not is_image_name("x.png.txt")


@pytest.mark.parametrize("name", ["gone", "top/first.png"])
def test_what_is_no_folder_is_said_by_the_system(tree, tmp_path, name):
    """The folder itself has no item to stand for it."""
    tree()
    with pytest.raises(OSError, match=name):
        find_image_files(tmp_path / name)
