"""The two halves of the questions, and which questions a score is of."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.study_options import SearchOptions
from reroute_cli.data.images import ImageSource
from reroute_cli.data.items import Item, Truth
from reroute_cli.measure.scores import PLAIN
from reroute_cli.studies.benchmarks import load_benchmark
from reroute_cli.studies.benchmarks.benchmark import Wanted
from reroute_cli.studies.tune.request import asks_for, choose_questions, chosen_score, split, tune_request

BOX = Truth("box", box=(0.0, 0.0, 5.0, 5.0))


def _items(pictures: list[int], truth: Truth = BOX) -> list[Item]:
    """A question about each of these pictures, by number; the bytes are the picture's number."""
    return [
        Item(
            f"q{place}", (ImageSource(f"{number}.png", "", b"picture %d" % number),), f"where {place}?", truth
        )
        for place, number in enumerate(pictures)
    ]


@given(pictures=some.lists(some.integers(0, 30), min_size=60, max_size=120), seed=some.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_no_picture_is_in_both_halves(pictures: list[int], seed: int) -> None:
    """Every question is in exactly one half, no picture in both, and the halves differ by one picture."""
    items = _items([*pictures, *range(12)])
    halves = split(items, seed)
    searched, reported = halves.searched.items, halves.reported.items
    assert sorted(item.id for item in (*searched, *reported)) == sorted(item.id for item in items)
    assert not {item.image for item in searched} & {item.image for item in reported}
    assert halves.searched.images == len({item.image for item in searched})
    assert halves.searched.images - halves.reported.images in (0, 1)


def test_a_picture_under_two_names_stays_in_one_half(tmp_path: Path) -> None:
    """Pictures are told by their bytes: a copy under another name never crosses over."""
    items = []
    for number in range(12):
        for name in (f"{number}.bin", f"copy of {number}.bin"):
            (tmp_path / name).write_bytes(b"picture %d" % number)
            items.append(Item(name, (ImageSource(name, str(tmp_path / name)),), "where?", BOX))
    for seed in range(20):
        halves = split(items, seed)
        sides = {item.image.removeprefix("copy of ") for item in halves.searched.items}
        assert not sides & {item.image.removeprefix("copy of ") for item in halves.reported.items}


@given(
    sets=some.lists(some.lists(some.integers(0, 60), min_size=1, max_size=3), min_size=1, max_size=40),
    seed=some.integers(0, 9),
)
@settings(max_examples=50, deadline=None)
def test_questions_that_share_any_image_stay_in_one_half(sets: list[list[int]], seed: int) -> None:
    """Questions about several images are connected by each of them, directly or through others."""
    images = [
        [ImageSource(f"{number}", "", b"picture %d" % number) for number in numbers]
        for numbers in [*sets, *([number] for number in range(100, 130))]
    ]
    items = [Item(f"q{place}", tuple(shown), "where?", BOX) for place, shown in enumerate(images)]
    halves = split(items, seed)
    sides = [
        {image.name for item in half.items for image in item.images}
        for half in (halves.searched, halves.reported)
    ]
    assert not sides[0] & sides[1]
    assert sorted(item.id for half in (halves.searched, halves.reported) for item in half.items) == sorted(
        item.id for item in items
    )


def test_the_first_questions_are_about_different_pictures() -> None:
    """The searched half asks one question about each of its pictures before a second about any."""
    halves = split(_items([number for number in range(20) for _ in range(3)]), 0)
    first = halves.searched.items[: halves.searched.images]
    assert len({item.image for item in first}) == halves.searched.images == 10


def test_the_seed_decides_the_halves() -> None:
    """One seed always gives the same halves in the same order; another gives others."""
    items = _items(list(range(40)))
    assert split(items, 1) == split(items, 1)
    assert {item.id for item in split(items, 1).searched.items} != {
        item.id for item in split(items, 2).searched.items
    }


def test_too_few_pictures_are_refused_however_many_questions() -> None:
    """Eleven pictures can't be two halves with intervals, nor can a hundred questions about one."""
    for pictures in (list(range(11)), [0] * 100):
        with pytest.raises(Failure, match="12 images at least") as refused:
            split(_items(pictures), 0)
        assert f"{len(set(pictures))} image" in str(refused.value)


def test_only_questions_of_the_score_are_asked() -> None:
    """Of the held-out scenes the boxes are asked for the first score, and the words for the other: as many
    as the lines of the manifest with and without a box."""
    items = tuple(load_benchmark("scenes").load(Wanted("heldout", "llava")).items)
    boxes = sum(item.label is not None and item.label.box is not None for item in items)
    assert chosen_score(None, PLAIN, items).name == "box_acc_at_05"
    assert len(asks_for(chosen_score(None, PLAIN, items), items)) == boxes > 100
    assert len(asks_for(chosen_score("words_right", PLAIN, items), items)) == len(items) - boxes
    assert len(asks_for(chosen_score("right", PLAIN, items), items)) == len(items)


def test_a_limit_is_of_questions_that_count() -> None:
    """--limit 40 of scenes is forty boxes, and all other questions are counted as not asked."""
    items = tuple(load_benchmark("scenes").load(Wanted("heldout", "llava")).items)
    found = choose_questions(items, PLAIN, None, 40, 0)
    assert len(found.halves.searched.items) + len(found.halves.reported.items) == 40
    assert found.other == sum(item.label is not None and item.label.box is None for item in items)


def test_words_alone_are_tuned_for_words() -> None:
    """Without a box the headline is of nothing, so the next score is taken; a score by name stays."""
    items = _items(list(range(12)), Truth("words", ("yes",)))
    assert chosen_score(None, PLAIN, items).name == "words_right"
    with pytest.raises(Failure, match=r"none of the 12 questions has a box Acc@0\.5"):
        chosen_score("box_acc_at_05", PLAIN, items)
    with pytest.raises(UsageError, match="there is no score 'cider' here: choose one of box_acc_at_05"):
        chosen_score("cider", PLAIN, items)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({}, "neither an amount nor a floor"),
        ({"budget": 30.0, "ratio": 0.5}, "--budget and --ratio"),
        ({"ratio": 1.0}, "--ratio 1 is out of range"),
        ({"ratio": float("nan")}, "--ratio nan is no number"),
        ({"budget": -1.0}, "--budget -1 is no number of tokens"),
        ({"floor": "lots"}, "--floor 'lots' is no floor"),
        ({"floor": "101%"}, "--floor '101%' is no floor"),
        ({"floor": "nan"}, "--floor 'nan' is no floor"),
        ({"ratio": 0.5, "methods": "fastv,none"}, "--methods has 'none' in it: give some of random"),
        ({"ratio": 0.5, "actions": ""}, "--actions has '' in it"),
    ],
)
def test_what_makes_no_sense_is_refused(typed: dict[str, object], words: str) -> None:
    """Amounts that contradict each other or are none, floors that are none, methods that are not searched."""
    options = {"budget": None, "ratio": None, "floor": None, "methods": "fastv", "actions": "prune"}
    with pytest.raises(UsageError) as refused:
        tune_request(SearchOptions(**(options | typed)))  # type: ignore[arg-type]
    assert words in str(refused.value)


def test_a_floor_is_a_score_or_a_share_of_the_dense_model() -> None:
    """'0.9' is 0.9 whatever the dense model has; '95%' of a dense 0.8 is 0.76."""

    def floor(text: str) -> float:
        found = tune_request(SearchOptions(floor=text)).floor
        assert found is not None
        return found.value(0.8)

    assert floor("0.9") == 0.9
    assert floor("95%") == pytest.approx(0.76)
