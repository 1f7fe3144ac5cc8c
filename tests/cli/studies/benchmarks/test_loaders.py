"""Hub benchmarks read from folders in the hub's schema: what is asked, what is true, and what is wrong."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from reroute_cli.console.errors import UsageError
from reroute_cli.data.items import Item
from reroute_cli.studies.benchmarks import load_benchmark
from reroute_cli.studies.benchmarks.benchmark import LETTER, SHORT, Questions, Wanted
from tests.cli.studies.benchmarks import hub_tables as hub

pytest.importorskip("datasets", reason="the extra eval")

PNG = hub.picture(1)
MISSING = {"bytes": None, "path": "/etc/passwd"}


def _load(name: str, data: Path, split: str, family: str = "llava", limit: int | None = None) -> Questions:
    return load_benchmark(name).load(Wanted(split, family, limit, str(data)))


def _items(*arguments: Any, **named: Any) -> list[Item]:
    return list(_load(*arguments, **named).items)


def _reference(number: int, **changed: Any) -> dict[str, Any]:
    row = {
        "question_id": str(1000 + number),
        "image": hub.picture(number // 2),
        "question": "Please carefully observe the area circled in the image and come up with a caption.",
        "answer": [f"cup {number}", f"the  left\ncup {number}"],
        "segmentation": [1.0, 2.0, 3.0, 4.0],
        "bbox": [10.5, 20.0, 30.0, 40.25],
        "iscrowd": 0,
        "file_name": f"COCO_train2014_{number // 2:012d}_{number}.jpg",
    }
    return row | changed


@pytest.fixture(scope="module")
def refcoco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten sound rows in val, each with two expressions, two rows a picture; broken ones in testA."""
    broken = [
        _reference(0, bbox=None),
        _reference(1, bbox=[1.0, 2.0, 3.0]),
        _reference(2, bbox=[1.0, 2.0, 0.0, 4.0]),
        _reference(3, bbox=[1.0, 2.0, float("nan"), 4.0]),
        _reference(4, answer=[]),
        _reference(5, answer=None),
        _reference(6, image=None),
        _reference(7, image=MISSING),
        _reference(8, file_name=None),
        _reference(9, answer=["", "nice cup", None]),
        _reference(10, answer=["x" * 9000]),
        _reference(11, image={"bytes": b"no picture", "path": None}),
    ]
    splits = {"val": [_reference(number) for number in range(10)], "testA": broken}
    return hub.write_dataset(tmp_path_factory.mktemp("refcoco"), hub.REFCOCO, splits)


def test_refcoco_asks_for_every_expression(refcoco: Path):
    """Each expression is a question with the row's box as corners, in the family's words, on one line."""
    questions = _load("refcoco", refcoco, "val")
    items = list(questions.items)
    assert questions.count == len(items) == 20
    assert [item.id for item in items[:3]] == ["1000/0", "1000/1", "1001/0"]
    assert items[1].question == (
        "Please provide the bounding box coordinate of the region this sentence describes: the left cup 0"
    )
    assert {item.label.kind for item in items} == {"box"}
    assert items[0].label.box == (10.5, 20.0, 40.5, 60.25)
    assert items[0].images[0].data == hub.picture(0)["bytes"]


def test_refcoco_names_the_picture_and_not_the_annotation(refcoco: Path):
    """Rows about one picture have its COCO name, so that intervals resample pictures."""
    items = _items("refcoco", refcoco, "val")
    assert Counter(item.image for item in items) == {f"COCO_train2014_{n:012d}.jpg": 4 for n in range(5)}


def test_broken_rows_are_items_with_a_problem(refcoco: Path):
    """Every row that can't be asked says why, with its place; the others are there, and nothing is opened."""
    items = _items("refcoco", refcoco, "testA")
    problems = {item.where.split(" of ")[0]: item.problem for item in items if item.problem}
    assert list(problems) == [f"row {number}" for number in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)]
    for number, words in {
        0: "null",
        1: "3.0]",
        2: "no box",
        3: "nan",
        4: "no expression",
        7: "no image",
    }.items():
        assert words in problems[f"row {number}"]
        assert str(refcoco) in problems[f"row {number}"]
    assert "at most 8192" in problems["row 10"]
    assert all(item.label is not None for item in items if not item.problem)
    assert [item.id for item in items if not item.problem] == ["1009/1", "1011/0", "1011/1"]
    assert len({item.id for item in items}) == len(items)


@pytest.mark.parametrize("limit", [1, 3, 7, 10, 13, 19, 20, 50])
def test_a_limit_spreads_over_the_whole_split(refcoco: Path, limit: int):
    """So many questions at even distances, the very ones that stand there when all are read."""
    everything = [item.id for item in _items("refcoco", refcoco, "val")]
    questions = _load("refcoco", refcoco, "val", limit=limit)
    found = [item.id for item in questions.items]
    count = min(limit, 20)
    assert found == [everything[place * 20 // count] for place in range(count)]
    assert questions.count == count


def test_items_can_be_read_again(refcoco: Path):
    """A second trial over the same questions gets the same ones."""
    questions = _load("refcoco", refcoco, "val", limit=5)
    assert list(questions.items) == list(questions.items)


def test_refcoco_plus_and_g_read_the_same_schema(refcoco: Path):
    """All three are one loader, each with its own dataset and splits."""
    assert _items("refcoco+", refcoco, "val") == _items("refcocog", refcoco, "val")
    assert [load_benchmark(name).source for name in ("refcoco", "refcoco+", "refcocog")] == [
        "lmms-lab-encoder/RefCOCO",
        "lmms-lab-encoder/RefCOCOplus",
        "lmms-lab-encoder/RefCOCOg",
    ]


@pytest.mark.parametrize("family", ["smolvlm", "idefics3", "mistral3"])
def test_refcoco_refuses_families_that_write_no_boxes(family: str):
    """The sentence comes before anything is looked for: this folder does not even exist."""
    with pytest.raises(UsageError, match=f"{family} models are not read .*no published way to write a box"):
        _load("refcoco", Path("/nowhere"), "val", family)


def test_pope_asks_in_its_own_words(tmp_path: Path):
    """Question and suffix, true yes or no, the category as the group, the COCO picture as the picture."""
    row = {
        "id": "0",
        "question_id": "1",
        "question": "Is there a snowboard in the image?",
        "answer": "yes",
        "image_source": "COCO_val2014_000000310196",
        "image": PNG,
        "category": "adversarial",
    }
    rows = [
        row,
        row | {"answer": "No", "category": "random"},
        row | {"answer": "maybe"},
        row | {"image": MISSING},
    ]
    first, second, *bad = _items("pope", hub.write_dataset(tmp_path, hub.POPE, {"test": rows}), "test")
    assert first.question == f"Is there a snowboard in the image?\n{SHORT}"
    assert (first.id, first.image, first.group) == (
        "adversarial/1",
        "COCO_val2014_000000310196",
        "adversarial",
    )
    assert (first.label.kind, first.label.answers, second.label.answers) == ("yes_no", ("yes",), ("no",))
    assert "'maybe' under 'answer', which is neither yes nor no" in bad[0].problem
    assert "holds no image" in bad[1].problem


def test_gqa_joins_questions_with_pictures(tmp_path: Path):
    """A question finds its picture in the other configuration, by its id; where there is none it says so."""
    kinds = {"structural": "query", "semantic": "attr", "detailed": "material"}
    row = {
        "id": "201307251",
        "imageId": "n1",
        "question": "What is it made of?",
        "answer": "wood",
        "types": kinds,
    }
    rows = [row, row | {"id": "2", "types": None}, row | {"imageId": "n9"}, row | {"id": "4", "answer": None}]
    hub.write_dataset(tmp_path, hub.GQA_QUESTIONS, {"testdev": rows}, "testdev_balanced_instructions")
    pictures = [{"id": "n0", "image": hub.picture(0)}, {"id": "n1", "image": PNG}, {"id": None, "image": PNG}]
    hub.write_dataset(tmp_path, hub.GQA_PICTURES, {"testdev": pictures}, "testdev_balanced_images")
    first, second, *bad = _items("gqa", tmp_path, "testdev")
    assert (first.id, first.image, first.group, first.images[0].data) == (
        "201307251",
        "n1",
        "attr",
        PNG["bytes"],
    )
    assert (first.label.kind, first.label.answers) == ("exact", ("wood",))
    assert first.question == f"What is it made of?\n{SHORT}"
    assert (second.group, second.images[0].data) == ("", PNG["bytes"])
    assert "image 'n9', which is not in testdev_balanced_images" in bad[0].problem
    assert "no text under 'answer', but null" in bad[1].problem


def _pairs(count: int) -> list[dict[str, Any]]:
    """So many pictures of MME with both of their questions, one after the other."""
    return [
        {
            "question_id": f"code_reasoning/{number:04d}.png",
            "image": hub.picture(number),
            "question": f"Is this {answer}? Please answer yes or no.",
            "answer": answer,
            "category": "code_reasoning",
        }
        for number in range(count)
        for answer in ("Yes", "No")
    ]


def test_mme_asks_both_questions_of_a_picture(tmp_path: Path):
    """Two items a picture under its name, the request at the end of the question replaced by the suffix."""
    items = _items("mme", hub.write_dataset(tmp_path, hub.MME, {"test": _pairs(2)}), "test")
    assert [item.id for item in items[:2]] == ["code_reasoning/0000.png", "code_reasoning/0000.png#2"]
    assert {item.image for item in items[:2]} == {"code_reasoning/0000.png"}
    assert items[0].question == f"Is this Yes?\n{SHORT}"
    assert [item.label.answers for item in items[:2]] == [("yes",), ("no",)]
    assert (items[0].label.kind, items[0].group) == ("mme", "code_reasoning")


def test_a_limit_never_parts_what_belongs_together(tmp_path: Path):
    """MME's pictures keep both of their questions; a limit of one can't be met and says so."""
    folder = hub.write_dataset(tmp_path, hub.MME, {"test": _pairs(6)})
    questions = _load("mme", folder, "test", limit=5)
    assert Counter(item.image for item in questions.items) == {
        "code_reasoning/0000.png": 2,
        "code_reasoning/0003.png": 2,
    }
    assert questions.count == 4
    with pytest.raises(UsageError, match="--limit 1 is less than one question, which is asked in 2 rows"):
        _load("mme", folder, "test", limit=1)


def _rotation(number: int, **changed: Any) -> dict[str, Any]:
    row = {
        "index": number,
        "question": "Which animal is it?",
        "hint": "nan",
        "answer": "B",
        "A": "a dog",
        "B": "a cat",
        "C": None,
        "D": "nan",
        "category": "identity_reasoning",
        "image": hub.picture(number % 1_000_000),
        "split": "dev",
    }
    return row | changed


def test_mmbench_lists_the_options_there_are(tmp_path: Path):
    """Hint, question and options a line each; null and the word nan are no option and no hint."""
    rows = [_rotation(7), _rotation(1_000_007, hint="Look closely.", C="two", D="none", answer="D")]
    first, second = _items("mmbench", hub.write_dataset(tmp_path, hub.MMBENCH, {"dev": rows}, "en"), "dev")
    assert first.question == f"Which animal is it?\nA. a dog\nB. a cat\n{LETTER}"
    assert second.question == (
        f"Look closely.\nWhich animal is it?\nA. a dog\nB. a cat\nC. two\nD. none\n{LETTER}"
    )
    assert first.label.options == (("A", "a dog"), ("B", "a cat"))
    assert (first.label.kind, first.label.answers, second.label.answers) == ("choice", ("B",), ("D",))
    assert (first.id, second.id, first.group) == ("7", "1000007", "identity_reasoning")


def test_mmbench_pictures_are_called_after_their_content(tmp_path: Path):
    """Questions about equal bytes share a picture, as do the rotations of one question in any case."""
    same = hub.picture(1)
    rows = [
        _rotation(1),
        _rotation(2, image=same),
        _rotation(3),
        _rotation(1_000_003, image=hub.picture(99)),
    ]
    items = _items("mmbench", hub.write_dataset(tmp_path, hub.MMBENCH, {"dev": rows}, "en"), "dev")
    assert items[0].image == items[1].image == hashlib.sha256(same["bytes"]).hexdigest()[:16]
    assert items[2].image == items[3].image != items[0].image


def test_mmbench_rows_that_are_no_choice_say_so(tmp_path: Path):
    """No index, no options, no answer, or one that is no option: each is its own sentence."""
    rows = [
        _rotation(1, index=None),
        _rotation(2, B=None),
        _rotation(3, answer=None),
        _rotation(4, answer="C"),
    ]
    items = _items("mmbench", hub.write_dataset(tmp_path, hub.MMBENCH, {"dev": rows}, "en"), "dev")
    assert all(item.problem for item in items)
    for item, words in zip(
        items, ["under 'index'", "1 options", "has no answer", "none of its options"], strict=True
    ):
        assert words in item.problem


def test_mmbench_test_split_is_refused():
    """Its answers are not published, so nothing is fetched."""
    with pytest.raises(UsageError, match="test split has no answers"):
        _load("mmbench", Path("/nowhere"), "test")


def test_mmbench_reads_an_index_that_is_text(tmp_path: Path):
    """Older copies of the dataset hold the index as text; rotations are still found by it."""
    rows = [_rotation(5, index="5"), _rotation(5, index="1000005")]
    schema = hub.MMBENCH | {"index": "string"}
    folder = hub.write_dataset(tmp_path, schema, {"dev": rows}, "en")
    assert [item.id for item in _items("mmbench", folder, "dev", limit=2)] == ["5", "1000005"]
    assert len({item.image for item in _items("mmbench", folder, "dev")}) == 1
