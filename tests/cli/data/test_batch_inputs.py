"""The items of a batch: folders, manifests, and lines that are no item but stop nothing."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.data.images import open_image
from reroute_cli.data.items import Truth, batch_items, misplaced

GOOD = {"image": "a.png", "question": "where is the cup?"}


@pytest.fixture
def manifest(tmp_path):
    """Write these lines (text, bytes or values) as a manifest."""

    def write(*lines):
        path = tmp_path / "items.jsonl"
        texts = [line if isinstance(line, str | bytes) else json.dumps(line) for line in lines]
        path.write_bytes(b"\n".join(text if isinstance(text, bytes) else text.encode() for text in texts))
        return path

    return write


@pytest.fixture
def folder(tmp_path):
    """A folder with pictures of these names, and a function's way to add to it."""

    def make(*names):
        for name in names:
            (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "pictures" / name, "PNG")
        return tmp_path / "pictures"

    return make


def of_manifest(path, limit=None):
    """The items of a manifest."""
    return batch_items(None, None, path, limit).chosen


def of_folder(path, limit=None):
    """The items of a folder."""
    return batch_items(path, "what is it?", None, limit).chosen


@pytest.mark.parametrize(
    ("given", "question", "lines", "words"),
    [
        ("d", None, None, "-Q QUESTION"),
        (None, "what?", None, "name a folder"),
        (None, None, None, "name a folder"),
        ("d", "what?", "m", "--manifest"),
        ("d", None, "m", "--manifest"),
        (None, "what?", "m", "-Q"),
        ("d", " ", None, "empty"),
        ("d", "q" * 9000, None, "8192"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(given, question, lines, words):
    """A folder and a question, or a manifest, which has its own."""
    with pytest.raises(UsageError, match=words):
        batch_items(given and Path(given), question, lines and Path(lines), None)


def test_an_item_is_called_after_its_path_in_the_folder(folder):
    """Equal names in two folders are two items, each with the question and a path that opens."""
    path = folder("a.png", "s/a.png")
    items = of_folder(path)
    assert [item.id for item in items] == ["a.png", "s/a.png"]
    assert [item.image for item in items] == [f"{path}/a.png", f"{path}/s/a.png"]
    assert {item.question for item in items} == {"what is it?"}
    assert all(open_image(item.images[0].path).size == (4, 4) for item in items)
    assert {(item.problem, item.where, item.label) for item in items} == {("", "", None)}


def test_the_same_content_twice_is_two_items(folder):
    """Copies have one digest and two ids."""
    items = of_folder(folder("one.png", "two.png"))
    assert len({open_image(item.images[0].path).digest for item in items}) == 1
    assert [item.id for item in items] == ["one.png", "two.png"]


def test_files_that_are_no_pictures_are_counted(folder):
    """What is skipped is no item, and the run can say how many there were."""
    path = folder("a.png", ".b.png")
    (path / "notes.txt").write_text("x")
    assert batch_items(path, "what?", None, None).skipped == 2


def test_a_limit_is_spread_over_the_folder(folder):
    """Three of nine: every third."""
    items = of_folder(folder(*[f"{index}.png" for index in range(9)]), 3)
    assert [item.id for item in items] == ["0.png", "3.png", "6.png"]


def test_names_that_are_no_text_get_ids_that_are(folder):
    """Bytes that are no UTF-8 are escaped; a file that is called like the escape stays another item."""
    path = folder("x.png")
    for name in (b"\xff.png", b"\\udcff.png"):
        (path / os.fsdecode(name)).write_bytes((path / "x.png").read_bytes())
    items = of_folder(path)
    assert [item.id for item in items] == ["\\udcff.png", "x.png", "\\udcff.png#2"]
    assert all(item.image.encode("utf-8") for item in items)
    assert len({Path(item.images[0].path).read_bytes() for item in items}) == 1
    assert len({os.fsencode(item.images[0].path) for item in items}) == 3


def test_a_folder_below_that_cannot_be_listed_is_an_item_with_a_problem(folder, monkeypatch):
    """Its pictures are missing from the run, so the run must say it, there where they would stand."""
    path = folder("a.png", "locked/b.png", "z.png")
    scan = os.scandir

    def refusing(place):
        if str(place).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scan(place)

    monkeypatch.setattr(os, "scandir", refusing)
    assert [(item.id, item.problem) for item in of_folder(path)] == [
        ("a.png", ""),
        ("locked", f"the folder '{path}/locked' can't be read (Permission denied): check its permissions"),
        ("z.png", ""),
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone", "can't be read .No such file"),
        ("file", "is a file"),
        ("pipe", "can't be read .Not a directory"),
        ("empty", "no image in '.*empty', of 0 files"),
        ("texts", "no image in '.*texts', of 2 files"),
        ("n" * 300, "can't be read .File name too long"),
    ],
)
def test_what_is_no_folder_of_pictures_is_a_failure(tmp_path, name, words):
    """Nothing can be asked, and the sentence says why."""
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    for index in range(2):
        (tmp_path / "texts" / f"{index}.txt").write_text("x")
    with pytest.raises(Failure, match=words):
        of_folder(tmp_path / name)


def test_a_manifest_says_what_is_true(manifest):
    """Ids, answers and boxes as written; null is none; pictures are relative to the manifest."""
    path = manifest(
        GOOD | {"id": "one", "answer": "on the desk", "box": [1, 2.5, 30, 40], "kind": "where"},
        GOOD | {"id": 2, "answer": None, "box": None},
        GOOD,
    )
    one, two, three = of_manifest(path)
    assert (one.group, two.group) == ("where", "")
    assert (one.id, one.label) == ("one", Truth("box", box=(1.0, 2.5, 30.0, 40.0)))
    assert (one.image, one.images[0].path, one.question) == (
        "a.png",
        str(path.parent / "a.png"),
        GOOD["question"],
    )
    assert (two.id, two.label) == ("2", None)
    assert (three.id, three.where) == ("line 3", f"line 3 of '{path}'")
    assert {one.problem, two.problem, three.problem} == {""}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "no JSON (Expecting property name enclosed in double quotes, at column 2)"),
        ("[1]", "no JSON object"),
        (b"\xff\xfe", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"id": 1' + "0" * 5000 + "}", "no JSON"),
        ({"question": "q"}, "no text under 'image'"),
        (GOOD | {"image": ["a.png", 5]}, "no text under 'image', or no list of texts"),
        (GOOD | {"image": "https://x/a.png"}, "address 'https://x/a.png'"),
        (GOOD | {"question": 5}, "no text under 'question'"),
        (GOOD | {"question": "q" * 9000}, "8192"),
        (GOOD | {"id": True}, "neither text nor a whole number"),
        (GOOD | {"answer": ["yes", "no"]}, "no text under 'answer'"),
        (GOOD | {"answer": 3}, "no text under 'answer'"),
        (GOOD | {"answer": ""}, "no text under 'answer'"),
        ('{"image": "a.png", "question": "q", "answer": "\\udfff"}', "no text under 'answer'"),
        (GOOD | {"box": [1, 2, 3]}, "give four numbers"),
        (GOOD | {"box": [1, 2, 3, 4, 5]}, "give four numbers"),
        (GOOD | {"box": "1,2,3,4"}, "give four numbers"),
        (GOOD | {"box": 5}, "give four numbers"),
        (GOOD | {"box": [1, 2, 3, True]}, "give four numbers"),
        (GOOD | {"box": [1, 2, 3, "4"]}, "give four numbers"),
        (GOOD | {"box": [1, 2, 3, float("nan")]}, "give four numbers"),
        (GOOD | {"box": [1, 2, 3, float("inf")]}, "give four numbers"),
        (GOOD | {"box": [1, 2, 3, 10**400]}, "give four numbers"),
        (GOOD | {"box": [-1, 2, 3, 4]}, "corner"),
        (GOOD | {"box": [1, -2, 3, 4]}, "corner"),
        (GOOD | {"box": [3, 2, 3, 4]}, "corner"),
        (GOOD | {"box": [30, 40, 20, 60]}, "corner"),
        (GOOD | {"box": [3, 4, 5, 4]}, "corner"),
        (GOOD | {"box": [0.1, 0.2, 0.5, 1.0]}, "shares of the sides"),
        (b'{"image": "' + b"n" * (1 << 20) + b'"}', "longer than 1048576 bytes"),
        (b"n" * (5 << 20), "longer than 1048576 bytes"),
    ],
    ids=lambda value: str(value)[:40] if not isinstance(value, bytes) else None,
)
def test_a_line_that_is_no_item_stops_nothing(manifest, line, words):
    """It is an item that says its problem and its line; the lines around it keep their numbers."""
    path = manifest(GOOD, line, "", GOOD)
    first, second, third = of_manifest(path)
    assert (first.problem, third.problem) == ("", "")
    assert (first.id, third.id) == ("line 1", "line 4")
    assert second.id == "line 2"
    assert second.problem.startswith(f"line 2 of '{path}'")
    assert words in second.problem


def test_a_line_with_a_problem_tells_what_could_be_read(manifest):
    """Its record can still say which picture and question it was about."""
    (item,) = of_manifest(manifest(GOOD | {"id": "x", "answer": "yes", "box": [9, 9, 9, 9]}))
    assert (item.id, item.image, item.question, item.label) == (
        "x",
        "a.png",
        GOOD["question"],
        Truth("words", ("yes",)),
    )
    (item,) = of_manifest(manifest({"id": "y", "question": 5}))
    assert (item.id, item.image, item.images[0].path, item.question) == ("y", "", "", "")
    assert "'image'" in item.problem  # the first that is wrong


def test_a_second_item_of_an_id_names_both_lines(manifest):
    """The first keeps the id; text and number are the same id."""
    path = manifest(GOOD | {"id": "7"}, GOOD, GOOD | {"id": 7}, GOOD | {"id": "7"})
    items = of_manifest(path)
    assert [item.id for item in items] == ["7", "line 2", "line 3", "line 4"]
    assert [item.problem for item in items[:2]] == ["", ""]
    for number, item in ((3, items[2]), (4, items[3])):
        assert item.problem == f"line {number} of '{path}' has the id '7' of line 1: ids must differ"


def test_a_second_item_of_an_id_that_is_wrong_otherwise_says_that(manifest):
    """What is wrong with the line itself comes first."""
    _, second = of_manifest(manifest(GOOD | {"id": "x"}, {"id": "x", "question": "q"}))
    assert ("'image'" in second.problem, second.id) == (True, "line 2")


@pytest.mark.parametrize("kind", ["5", "null", '"\\ud800"'])
def test_a_kind_that_is_no_text_is_none(manifest, kind):
    """It groups answers and is no reason to drop an item."""
    (item,) = of_manifest(manifest('{"image": "a.png", "question": "q", "kind": ' + kind + "}"))
    assert (item.group, item.problem) == ("", "")


def test_ids_stay_apart_whatever_a_manifest_calls_its_items(manifest):
    """An item that is called like another's line number, twice."""
    path = manifest(GOOD | {"id": "line 2"}, GOOD, GOOD | {"id": "line 4"}, GOOD | {"id": "line 2"})
    items = of_manifest(path)
    assert [item.id for item in items] == ["line 2", "line 2#2", "line 4", "line 4#2"]
    assert [bool(item.problem) for item in items] == [False, True, False, True]


def test_a_second_id_is_one_though_the_first_is_not_chosen(manifest):
    """Which lines a limit takes does not change what an item is."""
    path = manifest(GOOD, GOOD | {"id": "x"}, GOOD | {"id": "x"}, GOOD)
    assert [item.id for item in of_manifest(path, 2)] == ["line 1", "line 3"]
    assert "of line 2" in of_manifest(path, 2)[1].problem


def test_pictures_are_not_looked_for_while_reading(manifest):
    """A missing picture is found when it is opened, by a sentence of its own."""
    (item,) = of_manifest(manifest(GOOD | {"image": "missing.png"}))
    assert item.problem == ""
    with pytest.raises(Failure, match=r"missing.png' does not exist"):
        open_image(item.images[0].path)


def test_a_manifest_whose_name_is_no_text_is_told_as_text(manifest):
    """The sentence of a line goes into a record, which is UTF-8."""
    path = manifest("{")
    odd = Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff.jsonl"))
    path.rename(odd)
    (item,) = of_manifest(odd)
    assert "\\udcff.jsonl" in item.problem
    assert item.problem.encode("utf-8")
    assert item.where.encode("utf-8")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "empty", "blank", "n" * 300])
def test_a_manifest_that_cannot_be_read_at_all_is_a_failure(tmp_path, kind):
    """There is no run without items."""
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    if kind in ("empty", "blank"):
        path.write_text("\n  \n" if kind == "blank" else "")
    with pytest.raises(Failure, match=rf"the manifest '.*{kind}'"):
        of_manifest(path)


def test_a_huge_manifest_is_streamed(manifest):
    """10,000 lines of 4 kB each are 40 MB; four items of them need a tenth of that, with the ids of all."""
    path = manifest(*[GOOD | {"id": index, "comment": "c" * 4000} for index in range(10_000)])
    tracemalloc.start()
    items = of_manifest(path, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [item.id for item in items] == ["0", "2500", "5000", "7500"]
    assert peak < path.stat().st_size / 10


def test_a_line_without_an_end_is_not_held(manifest):
    """Of a line of 40 MB as much is read as shows that it is too long; the next line is an item."""
    path = manifest(b"n" * (40 << 20), GOOD)
    tracemalloc.start()
    long, good = of_manifest(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ("longer than" in long.problem, good.problem, good.id) == (True, "", "line 2")
    assert peak < 10 << 20


def test_the_sample_scenes_are_a_manifest_without_problems():
    """42 questions, 18 of them with boxes, which lie in their pictures."""
    items = of_manifest(Path(__file__).resolve().parents[3] / "samples" / "manifest.jsonl")
    assert len(items) == 42
    assert {item.problem for item in items} == {""}
    boxed = [item for item in items if item.label and item.label.box]
    assert len(boxed) == 18
    assert {misplaced(item.label.box, open_image(item.images[0].path).size) for item in boxed} == {""}


@pytest.mark.parametrize(
    ("box", "fits"),
    [
        ((0.0, 0.0, 40.0, 30.0), True),
        ((0.0, 0.0, 40.9, 30.9), True),
        ((0.0, 0.0, 42.0, 30.0), False),
        ((0.0, 0.0, 40.0, 32.0), False),
        ((50.0, 50.0, 60.0, 60.0), False),
    ],
)
def test_a_box_must_lie_in_its_picture(box, fits):
    """40 x 30 with a pixel's tolerance on either side; the sentence names box and size."""
    sentence = misplaced(box, (40, 30))
    assert (sentence == "") is fits
    assert fits or "40 × 30" in sentence
