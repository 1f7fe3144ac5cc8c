"""Reading a report: whatever is in the file, one sentence and the right exit code, never a traceback."""

import json
import os
import random
from pathlib import Path

import pytest

from reroute_cli.console.errors import CliError, Failure, NotComparable
from reroute_cli.records import reading as files
from reroute_cli.records.reading import read_report
from tests.cli import reports


@pytest.fixture
def text() -> str:
    """A report as text."""
    return json.dumps(reports.build(reports.make(items=("desk",), arms=("dense", "nuwa-prune"))).as_dict())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes it."""
    return tmp_path / "report.json"


def _refused(file: Path, kind: type[CliError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        read_report(file)
    sentence = str(caught.value)
    assert type(caught.value) is kind
    assert str(file) in sentence
    assert "\n" not in sentence
    assert all(word in sentence for word in words), sentence


def test_a_report_comes_back_as_it_was_written(file, text):
    """What was saved is what is read."""
    file.write_text(text)
    assert read_report(file).as_dict() == json.loads(text)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"n": 3', '"n": 4', ("process.metrics.host_peak_rss", "n is 4, but there are 3 values")),
        ('"n": 3', '"n": NaN', ("NaN is no number in JSON",)),
        ('"n": 3', '"n": -Infinity', ("-Infinity is no number",)),
        ('"n": 3', '"n": 1e999', ("1e999", "out of range")),
        ('"n": 3', '"n": 1e31', ("1e31", "out of range")),
        ('"n": 3', '"n": ' + "9" * 5000, ("out of range",)),
        ('"n": 3', '"n": "3"', ("n: Input should be a valid integer",)),
        ('"n": 3', '"n": true', ("n: Input should be a valid integer",)),
        ('"n": 3', '"n": 3, "n": 3', ("'n' stands twice",)),
        ('"n": 3', '"n": 3, "more": 3', ("more: Extra inputs",)),
        ('"unit": "s"', '"unit": "ms"', ("ttft", "'ms'", "not in s")),
        ('"name": "dense"', '"name": "sparse"', ("the first arm is 'dense'",)),
        ('"name": "nuwa-prune"', '"name": "dense"', ("names are unique",)),
        ('"ttft": {', '"tttf": {', ("arms.0", "each of")),
        ('{"schema"', '{"Schema"', ("does not say",)),
        ('"reroute.report/2"', "7", ("does not say",)),
        ('"reroute.report/2"', '"pytest-benchmark"', ("does not say",)),
    ],
)
def test_what_is_no_report_is_a_failure(file, text, old, new, words):
    """NaN, numbers out of range, repeated names, wrong types, units and names: exit 4, naming the place."""
    assert old in text
    file.write_text(text.replace(old, new, 1))
    _refused(file, Failure, *words)


@pytest.mark.parametrize("name", ["reroute.report/3", "reroute.answer/2", "reroute.comparison/2"])
def test_another_schema_does_not_compare(file, text, name):
    """A later version and another kind of record are known for what they are: exit 5."""
    file.write_text(text.replace("reroute.report/2", name, 1))
    _refused(file, NotComparable, name, "reroute.report/2")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("no JSON", "truncated")),
        (b"{", ("no JSON", "truncated")),
        (b"<html>", ("no JSON", "line 1, column 1")),
        (b"[1, 2]", ("does not say",)),
        (b"null", ("does not say",)),
        (b'"\xff"', ("not UTF-8",)),
        (b"\xef\xbb\xbf{}", ("BOM",)),
        (b"\x00" * 100, ("no JSON",)),
        (b"[" * 1_000_000, ("nested too deeply",)),
        (b'{"a":' * 1_000_000, ("nested too deeply",)),
    ],
    ids=["empty", "brace", "html", "list", "null", "bytes", "bom", "zeros", "lists", "objects"],
)
def test_what_is_no_json_is_a_failure(file, content, words):
    """Empty, foreign, binary and bottomless files: exit 4."""
    file.write_bytes(content)
    _refused(file, Failure, *words)


def test_deep_nesting_where_anything_may_stand_is_no_bug(file, text):
    """The environment may hold anything; what the parser can hold and the checks can't is refused as well."""
    for depth in (10, 900, 990, 5000, 100_000):
        deep = "[" * depth + "]" * depth
        content = text.replace('"environment": {', f'"environment": {{"deep": {deep},', 1)
        said = _sentence(file, content.encode())
        assert said == "" or "nested too deeply" in said


def test_there_must_be_a_file(tmp_path, file):
    """Missing is exit 4, or what the caller says; a path through a file is missing as well."""
    _refused(file, Failure, "there is no report", "reroute profile -o")
    with pytest.raises(NotComparable, match="there is no report"):
        read_report(file, absent=NotComparable)
    file.write_text("{}")
    _refused(file / "below", Failure, "there is no report")
    with pytest.raises(Failure, match="no file name"):
        read_report(Path("a\0b"))


def test_a_folder_is_no_report(tmp_path):
    """Exit 4, by name."""
    _refused(tmp_path, Failure, "is a folder")


def test_pipes_and_devices_are_refused_without_waiting(tmp_path):
    """Nothing is read from what may never end or never start."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    _refused(pipe, Failure, "no regular file")
    _refused(Path("/dev/zero"), Failure, "no regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(file):
    """Exit 4, with the system's reason."""
    file.write_text("{}")
    file.chmod(0)
    _refused(file, Failure, "can't be read")


def test_size_is_bounded_before_reading(file, monkeypatch):
    """A file beyond the bound is refused by its size, and so is one that grows while it is read."""
    with file.open("wb") as sparse:
        sparse.truncate(files.LARGEST + 1)
    _refused(file, Failure, "too large", "200 MiB")
    file.write_bytes(b"x" * 100)
    monkeypatch.setattr(files, "LARGEST", 99)
    _refused(file, Failure, "too large")


def test_a_cut_file_is_called_truncated(file, text):
    """Where the file ends too early, in a string or between two values, the sentence says so."""
    for length in (text.index("pocket") + 3, text.index('"workload"') - 1):
        file.write_text(text[:length])
        _refused(file, Failure, "the file looks truncated")


def _sentence(file: Path, content: bytes) -> str:
    """What reading these bytes says; nothing where they are a report."""
    file.write_bytes(content)
    try:
        read_report(file)
    except (Failure, NotComparable) as error:
        return str(error)
    return ""


def test_every_truncation_ends_in_a_sentence(file, text):
    """A report cut anywhere is refused: no prefix of one is one."""
    content = text.encode()
    for length in sorted({*range(60), *random.Random(0).sample(range(len(content)), 150)}):
        file.write_bytes(content[:length])
        with pytest.raises(Failure):
            read_report(file)


def test_every_corruption_ends_in_a_sentence(file, text):
    """Bytes changed, dropped or doubled anywhere give a report or one sentence."""
    chance, content = random.Random(1), text.encode()
    for _ in range(300):
        place = chance.randrange(len(content))
        broken = bytearray(content)
        broken[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        assert "\n" not in _sentence(file, bytes(broken))
