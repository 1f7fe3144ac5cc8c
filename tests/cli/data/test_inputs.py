"""Which items a run goes over: samples, pictures, manifests, and manifests that are broken."""

import json
import os

import pytest

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.data import items
from reroute_cli.data.items import check_images, choose_items, samples_manifest, spread

GOOD = {"image": "a.png", "question": "where is the cup?"}


@pytest.fixture
def manifest(tmp_path):
    """Write these lines (text, bytes or values) as a manifest beside a picture called a.png."""
    (tmp_path / "a.png").write_bytes(b"any")

    def write(*lines):
        path = tmp_path / "items.jsonl"
        encoded = [
            line
            if isinstance(line, bytes)
            else (line if isinstance(line, str) else json.dumps(line)).encode()
            for line in lines
        ]
        path.write_bytes(b"\n".join(encoded))
        return path

    return write


@pytest.mark.parametrize(
    ("available", "limit", "indices"),
    [
        (42, 14, list(range(0, 42, 3))),
        (5, 2, [0, 2]),
        (3, 3, [0, 1, 2]),
        (2, 9, [0, 1]),
        (1000, 1, [0]),
        (10, 4, [0, 2, 5, 7]),
    ],
)
def test_a_limit_takes_items_at_even_distances(available, limit, indices):
    """The first one, and steps that differ by at most one."""
    assert spread(available, limit) == indices


def test_the_default_run_asks_every_kind_of_question():
    """Twelve of the 42 samples, each about another scene, a third of them the first question of theirs."""
    items = choose_items([], None, None, None)
    assert items.available == 42
    assert len({item.image for item in items.chosen}) == len(items.chosen) == 12
    assert sorted(item.id.split("-")[1] for item in items.chosen) == ["0"] * 4 + ["1"] * 4 + ["2"] * 4


def test_an_installed_package_brings_its_own_samples(tmp_path, monkeypatch):
    """A copy inside the package is preferred to a folder of that name beside it; without both it is said."""
    package = tmp_path / "reroute_cli"
    for folder in (package / "samples", tmp_path / "samples"):
        folder.mkdir(parents=True)
        (folder / "manifest.jsonl").write_text("")
    monkeypatch.setattr(items, "__file__", str(package / "data" / "items.py"))
    assert samples_manifest() == package / "samples" / "manifest.jsonl"
    (package / "samples" / "manifest.jsonl").unlink()
    assert samples_manifest() == tmp_path / "samples" / "manifest.jsonl"
    (tmp_path / "samples" / "manifest.jsonl").unlink()
    with pytest.raises(Failure, match="reinstall"):
        samples_manifest()


def test_every_named_picture_is_taken_unless_a_limit_is_given():
    """The default limit is for samples and manifests; pictures that are named are meant."""
    names = [f"{index}.png" for index in range(30)]
    assert len(choose_items(names, "where?", None, None).chosen) == 30
    assert [item.id for item in choose_items(names, "where?", None, 2).chosen] == ["0.png", "15.png"]


def test_a_named_picture_is_called_after_its_file():
    """The folder is not in the name; one that comes again gets a number, and so does the third."""
    names = ["a/x.png", "b/x.png", "y.png", "c/x.png", "/"]
    items = choose_items(names, "where?", None, None).chosen
    assert [item.id for item in items] == ["x.png", "x.png#2", "y.png", "x.png#3", "/"]
    assert [item.images[0].path for item in items] == names


def test_a_picture_that_is_none_is_named_once(manifest):
    """By its path where it was typed, by its line where a manifest names it."""
    (typed,) = choose_items(["gone.png"], "where?", None, None).chosen
    with pytest.raises(Failure, match=r"^'gone.png' does not exist: check the path$"):
        check_images([typed])
    path = manifest(GOOD)
    with pytest.raises(Failure, match=f"^line 1 of '{path}': '.*a.png' is not an image"):
        check_images(choose_items([], None, path, 1).chosen)


@pytest.mark.parametrize(
    ("images", "question", "manifest", "words"),
    [
        (["a.png"], None, None, "-Q QUESTION"),
        ([], "where?", None, "name them"),
        (["a.png"], "where?", "m.jsonl", "--manifest"),
        (["a.png"], "  ", None, "empty"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(images, question, manifest, words):
    """Pictures and a question belong together, and a manifest has its own."""
    from pathlib import Path

    with pytest.raises(UsageError, match=words):
        choose_items(images, question, Path(manifest) if manifest else None, None)


def test_a_manifest_is_read_with_its_own_ids_or_line_numbers(manifest):
    """Blank lines are skipped, more keys are ignored, a byte-order mark too, whole numbers are ids."""
    path = manifest(
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "", GOOD | {"id": 7, "box": [1]}, GOOD | {"id": "x"}
    )
    items = choose_items([], None, path, 14).chosen
    assert [item.id for item in items] == ["line 1", "7", "x"]
    assert {item.images[0].path for item in items} == {str(path.parent / "a.png")}
    assert items[2].where == f"line 4 of '{path}'"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "no JSON"),
        ("[1]", "no JSON object"),
        ("null", "no JSON object"),
        (b"\xff\xfe", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ({"question": "q"}, "'image'"),
        ({"image": "a.png"}, "'question'"),
        (GOOD | {"question": 5}, "'question'"),
        (GOOD | {"question": " "}, "'question'"),
        (GOOD | {"image": [["a.png"]]}, "'image'"),
        (GOOD | {"image": "missing.png"}, "does not exist"),
        (GOOD | {"image": "http://x/a.png"}, "address"),
        (GOOD | {"image": "a\x00.png"}, "does not exist"),
        (GOOD | {"image": "n" * 5000}, "does not exist"),
        (GOOD | {"id": None}, "neither text nor"),
        (GOOD | {"id": True}, "neither text nor"),
        (GOOD | {"id": ""}, "neither text nor"),
        ('{"image": "a.png", "question": "\\ud800"}', "'question'"),
        ('{"image": "a.png", "question": "q", "id": "\\ud800"}', "neither text nor"),
        (GOOD | {"question": "q" * 9000}, "8192"),
        (b'{"image": "' + b"n" * (1 << 20) + b'"}', "longer than"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else None,
)
def test_a_bad_line_is_named_by_its_number(manifest, line, words):
    """Whatever is wrong with line 2, the sentence says line 2."""
    path = manifest(GOOD, line, GOOD)
    with pytest.raises(Failure, match=words) as caught:
        choose_items([], None, path, 14)
    assert f"line 2 of '{path}'" in str(caught.value)


def test_a_bad_line_is_found_beyond_the_limit_too(manifest):
    """Every line is checked, not only those that are chosen."""
    with pytest.raises(Failure, match="line 3 "):
        choose_items([], None, manifest(GOOD, GOOD, "{"), 1)


def test_ids_must_differ(manifest):
    """Reports are compared item by item, by id."""
    with pytest.raises(Failure, match=r"line 2 .* has the id 'x' of line 1:"):
        choose_items([], None, manifest(GOOD | {"id": "x"}, GOOD | {"id": "x"}), 14)


def test_an_empty_manifest_is_said_to_be_empty(manifest):
    """No line, or nothing but blank ones."""
    with pytest.raises(Failure, match="no line"):
        choose_items([], None, manifest("", "  ", ""), 14)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_is_no_file_is_no_manifest(tmp_path, kind):
    """Each ends in one sentence; a pipe can't be read twice."""
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(Failure, match=r"can't be read|ordinary file"):
        choose_items([], None, path, 14)


def test_a_huge_manifest_is_streamed(manifest):
    """20,000 lines are read in two megabytes, and the chosen ones are spread over all of them."""
    import tracemalloc

    path = manifest(*[GOOD | {"id": index} for index in range(20_000)])
    tracemalloc.start()
    items = choose_items([], None, path, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [item.id for item in items.chosen] == ["0", "5000", "10000", "15000"]
    assert items.available == 20_000
    assert peak < 2e6
