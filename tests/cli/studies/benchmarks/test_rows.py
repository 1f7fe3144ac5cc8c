"""What is read out of a row's columns, and what is refused there."""

from typing import Any

import pytest

from reroute_cli.console.errors import Failure
from reroute_cli.studies.benchmarks.rows import TableRow


def _row(value: Any) -> TableRow:
    return TableRow(3, {"column": value}, "row 3 of somewhere test")


@pytest.mark.parametrize(
    "value",
    [None, {}, {"bytes": None, "path": "/etc/passwd"}, {"bytes": b""}, {"bytes": "text"}, b"", "aGVsbG8=", 5],
    ids=repr,
)
def test_only_bytes_are_a_picture(value: Any):
    """Nothing, text and paths are none; a path is never opened."""
    with pytest.raises(Failure, match="row 3 of somewhere test holds no image under 'column'"):
        _row(value).image("column")


@pytest.mark.parametrize("value", [None, "", "  ", "nan", "NaN", 5, 2.5, ["text"], b"text"], ids=repr)
def test_only_words_are_text(value: Any):
    """Null, blanks, the word nan and other types are no text; the sentence shows what is there instead."""
    assert _row(value).text_or_none("column") is None
    with pytest.raises(Failure, match="has no text under 'column', but ") as caught:
        _row(value).text("column")
    assert ("null" if value is None else repr(value)) in str(caught.value)


@pytest.mark.parametrize(("value", "name"), [("a ", "a"), (7, "7"), (0, "0"), (-1, "-1")])
def test_names_are_text_or_whole_numbers(value: Any, name: str):
    """A dataset may count its questions or call them by name."""
    assert _row(value).name("column") == name


@pytest.mark.parametrize("value", [None, True, 1.0, [], ""], ids=repr)
def test_nothing_else_is_a_name(value: Any):
    """True is no number, and a share no name."""
    with pytest.raises(Failure, match="has no text under 'column'"):
        _row(value).name("column")


@pytest.mark.parametrize(
    "value",
    [None, [1, 2], [1, 2, 3], [1, "2"], [1, None], [1, float("inf")], [1, True], "12", {"0": 1}],
    ids=repr,
)
def test_numbers_are_as_many_as_asked_for(value: Any):
    """Too few, too many, or what is no finite number: none of them are taken."""
    count = 3 if value == [1, 2] else 2
    with pytest.raises(Failure, match=f"has no {count} numbers under 'column', but "):
        _row(value).numbers("column", count)


def test_a_long_value_is_cut():
    """A sentence stays a sentence, whatever the row holds."""
    with pytest.raises(Failure) as caught:
        _row(list(range(10_000))).text("column")
    assert len(str(caught.value)) < 200
