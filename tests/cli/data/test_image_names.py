"""How items name their images: paths of several systems, file URIs, data URIs."""

import base64
import hashlib
import json
import os
import time

import pytest

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.data import images, items
from reroute_cli.data.images import ImageSource, source_of
from reroute_cli.data.items import batch_items, choose_items


@pytest.fixture
def folder(tmp_path, drawn):
    """A folder with an image in a folder with a space in its name."""
    (tmp_path / "my images").mkdir()
    drawn((64, 48)).save(tmp_path / "my images" / "a.png")
    return tmp_path


def uri_of(path, kind="image/png"):
    """The data URI of a file."""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def source(name, folder):
    """What a manifest in this folder names."""
    return source_of(name, folder, "line 1")


@pytest.mark.parametrize(
    "form",
    [
        "my images/a.png",
        "my images\\a.png",
        ".\\my images\\a.png",
        "{folder}/my images/a.png",
        "file://{folder}/my%20images/a.png",
        "file://localhost{folder}/my images/%61.png",
        "FILE://{folder}/my%20images/a.png",
    ],
)
def test_every_way_to_write_a_path_finds_its_file(folder, form):
    """Windows' slashes, file URIs with escapes, absolute and relative paths."""
    name = form.format(folder=folder)
    found = source(name, folder)
    assert found.open().size == (64, 48)
    assert found.name == name


def test_a_file_whose_name_has_a_backslash_is_that_file(folder, drawn):
    """As it is written comes first."""
    drawn((8, 8)).save(folder / "my images\\a.png")
    assert source("my images\\a.png", folder).open().size == (8, 8)


@pytest.mark.parametrize("name", ["file:///gone.png", "file:///a%00.png", "a\\gone.png", "C:\\a\\b.png"])
def test_a_name_of_no_file_is_told_when_it_is_opened(folder, name):
    """One sentence, as of any other path."""
    with pytest.raises(Failure, match="does not exist"):
        source(name, folder).open()


@pytest.mark.parametrize("name", ["file://server/share/a.png", "http://x/a.png", "s3://x/a.png", "//x://"])
def test_what_is_elsewhere_is_not_fetched(folder, name):
    """Nothing is downloaded; the sentence says whose it is and what to do."""
    with pytest.raises(UsageError, match=r"^line 1 names .*(download it|copy it here)"):
        source(name, folder)


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/PNG", "image/png;name=a.png", "image/svg+xml"])
def test_a_data_uri_is_its_image(folder, kind):
    """Its bytes are the image's, whatever kind it claims; its name is short and tells it from others."""
    path = folder / "my images" / "a.png"
    found = source(uri_of(path, kind), folder)
    assert found.open().size == (64, 48)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.digest() == digest
    size = f"{path.stat().st_size:,}"
    assert found.name == f"data:{kind.split(';')[0].lower()};base64,… ({size} bytes, SHA-256 {digest[:12]}…)"


@pytest.mark.parametrize("body", ["A", "AAA", "AA A", "AAAA\n", "AAA=AAAA", "ÄÄÄÄ", "!!!!", "AA-_"])
def test_base64_is_strict(folder, body):
    """Nothing is guessed of what is no base64."""
    with pytest.raises(UsageError, match="no base64"):
        source(f"data:image/png;base64,{body}", folder)


def test_a_data_uri_is_measured_before_it_is_decoded(folder, monkeypatch):
    """One that is too long is refused without a copy of it."""
    monkeypatch.setattr(images, "MAX_DATA_URI", 100)
    monkeypatch.setattr(images.base64, "b64decode", None)
    with pytest.raises(UsageError, match="more than the 100 that are read: save it to a file"):
        source("data:image/png;base64," + "A" * 100, folder)


def test_a_line_may_be_as_long_as_its_images(folder):
    """A line with images as data is read beyond the bound of other lines, and the lines behind it too."""
    entry = {"question": "where?", "image": "data:image/png;base64," + "A" * (3 << 20)}
    (folder / "m.jsonl").write_text(f"{json.dumps(entry)}\n{json.dumps(entry)}")
    one, two = batch_items(None, None, folder / "m.jsonl", None).chosen
    assert (one.problem, two.problem, len(one.images[0].data)) == ("", "", 3 * (3 << 20) // 4)


def test_a_line_of_images_without_an_end_is_not_held(folder, monkeypatch):
    """Of a line that is longer than all images may be, as much is read as shows it."""
    monkeypatch.setattr("reroute_cli.data.manifest.LONGEST_DATA_LINE", 2 << 20)
    (folder / "m.jsonl").write_bytes(b'{"image": "data:image/png;base64,' + b"A" * (9 << 20) + b'\n{"a": 1}')
    one, two = batch_items(None, None, folder / "m.jsonl", None).chosen
    assert f"longer than {2 << 20} bytes" in one.problem
    assert "line 2" in two.problem


def test_images_in_a_manifest_are_held_up_to_a_bound(folder, monkeypatch):
    """Beyond it one sentence says to save them to files; --limit takes fewer."""
    monkeypatch.setattr(items, "MOST_DATA", 30)
    entry = {"question": "where?", "image": "data:image/png;base64," + "A" * 24}
    (folder / "m.jsonl").write_text("\n".join([json.dumps(entry)] * 2))
    with pytest.raises(Failure, match="save them to files"):
        batch_items(None, None, folder / "m.jsonl", None)
    with pytest.raises(Failure, match="save them to files"):
        choose_items([], None, folder / "m.jsonl", 2)
    assert len(batch_items(None, None, folder / "m.jsonl", 1).chosen) == 1


def test_a_record_names_a_data_uri_shortly(run, warm, folder):
    """The whole record is a few kilobytes, and its answer that of the file."""
    path = folder / "my images" / "a.png"
    lines = [{"image": uri_of(path), "question": "where is the cup?"}]
    lines += [{"image": "my images/a.png", "question": "where is the cup?"}]
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = run("batch", "--manifest", str(folder / "m.jsonl"), "--max-new-tokens", "4")
    first, second = result.stdout.splitlines()
    assert json.loads(first)["answer"] == json.loads(second)["answer"]
    assert len(first) < 4000


@pytest.fixture
def settled(monkeypatch):
    """Files are old enough to be remembered at once."""
    monkeypatch.setattr(images, "_SETTLED_NS", 0)


@pytest.mark.usefixtures("settled")
def test_a_file_that_stays_as_it_is_is_digested_once(tmp_path):
    """Whatever changes it, a write of as many bytes with the old times among that, it is read again."""
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    image = ImageSource("a.png", str(path))
    assert image.read() == (hashlib.sha256(b"one").hexdigest(), b"one")
    assert image.read() == (hashlib.sha256(b"one").hexdigest(), None)
    before = path.stat()
    time.sleep(0.02)
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert image.read() == (hashlib.sha256(b"two").hexdigest(), b"two")
    path.unlink()
    with pytest.raises(Failure, match="does not exist"):
        image.read()


def test_a_file_that_was_just_written_is_not_remembered(tmp_path):
    """Another write within the clock's grain could leave no trace in its times."""
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    image = ImageSource("a.png", str(path))
    assert [image.read()[1], image.read()[1]] == [b"one", b"one"]


@pytest.mark.usefixtures("settled")
def test_only_so_many_digests_are_remembered(tmp_path, monkeypatch):
    """The oldest one goes first, and costs another read."""
    monkeypatch.setattr(images, "_MOST_REMEMBERED", 2)
    monkeypatch.setattr(images, "_remembered", {})
    sources = []
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
        sources.append(ImageSource(name, str(tmp_path / name)))
    assert [source.read()[1] for source in sources] == [b"a", b"b", b"c"]
    assert [source.read()[1] for source in reversed(sources)] == [None, None, b"a"]
