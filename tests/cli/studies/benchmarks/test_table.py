"""Datasets that can't be read: each failure is one sentence with what was given and what helps."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.data.items import Item
from reroute_cli.studies.benchmarks import BENCHMARKS, load_benchmark
from reroute_cli.studies.benchmarks import rows as tables
from reroute_cli.studies.benchmarks.benchmark import Wanted
from reroute_cli.studies.benchmarks.rows import TableItems, TableRow, choose, open_table
from tests.cli.studies.benchmarks import hub_tables as hub

datasets = pytest.importorskip("datasets", reason="the extra eval")

ROWS = [{"id": str(number), "image": hub.picture(number)} for number in range(4)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four rows with a picture each, in the split `test`."""
    return hub.write_dataset(tmp_path / "set", hub.GQA_PICTURES, {"test": ROWS})


def test_a_folder_is_its_source(folder: Path):
    """Reports name the folder and the split; a folder has no revision."""
    table = open_table(str(folder), None, "test", ["id"])
    assert table.source == {"folder": str(folder), "split": "test"}
    assert table.revision is None


def test_pictures_stay_bytes(folder: Path):
    """What was written comes back undecoded, damaged or not, and only the columns that were asked for."""
    table = open_table(str(folder), None, "test", ["id", "image"])
    assert [row["image"]["bytes"] for row in table.rows(["image"])] == [row["image"]["bytes"] for row in ROWS]
    assert list(table.rows(["id"])) == [{"id": str(number)} for number in range(4)]


@pytest.mark.parametrize(
    "place", ["nowhere", "/nowhere/at/all", "../set", "a/b/c", "https://x/y", "a b/c", "\x00", ""]
)
def test_what_can_be_no_dataset_is_a_usage_error(place: str):
    """Neither a folder nor OWNER/NAME: refused before anything is fetched."""
    with pytest.raises(UsageError, match=r"there is no folder '.*', and a dataset of the hub is OWNER/NAME"):
        open_table(place, None, "test", ["id"])


def test_another_split_is_named(folder: Path):
    """The sentence says which splits there are."""
    with pytest.raises(Failure, match="has no split 'val', but test: check --data"):
        open_table(str(folder), None, "val", ["id"])


def test_another_column_is_named(folder: Path):
    """The sentence says which column is missed and which there are."""
    with pytest.raises(
        Failure, match="has no column 'bbox' in split 'test', but id, image: give --data a copy"
    ):
        open_table(str(folder), None, "test", ["id", "bbox"])


def test_another_configuration_is_named(folder: Path):
    """A benchmark that keeps its questions in a configuration says that it is not there."""
    with pytest.raises(Failure, match=r"'en' not found.*with its README.md"):
        open_table(str(folder), "en", "test", ["id"])


def test_an_empty_folder_holds_no_dataset(tmp_path: Path):
    """No data files is a sentence."""
    with pytest.raises(Failure, match="can't be read"):
        open_table(str(tmp_path), None, "test", ["id"])


def test_a_torn_file_ends_in_a_sentence(folder: Path):
    """A file cut off in the middle is said to be unreadable, without a traceback."""
    [file] = (folder / "data").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(Failure, match=f"'{folder}' can't be read"):
        open_table(str(folder), None, "test", ["id"])


def test_a_file_damaged_in_the_middle_says_how_far_it_was_read(folder: Path):
    """The rows before the damage are given out; then a sentence says how many they were."""
    [file] = (folder / "data").iterdir()
    second = folder / "data" / "test-00001-of-00002.parquet"
    table = open_table(str(folder), None, "test", ["id"])
    second.write_bytes(b"PAR1 no more")
    rows = table.rows(["id"])
    assert [next(rows)["id"] for _ in range(4)] == ["0", "1", "2", "3"]
    with pytest.raises(Failure, match="ended after 4 rows"):
        next(rows)
    assert file.exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            lambda: datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub."),
            ["gated", "accept its terms at huggingface.co/datasets/a/b", "hf auth login"],
        ),
        (
            lambda: datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub"),
            ["doesn't exist", "check --data"],
        ),
        (
            lambda: ConnectionError("Couldn't reach 'a/b' on the Hub (OfflineModeIsEnabled)"),
            ["unset HF_HUB_OFFLINE", "a folder that holds a copy"],
        ),
        (
            lambda: ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)"),
            ["check the network", "a folder that holds a copy"],
        ),
        (TimeoutError, ["TimeoutError", "check the network"]),
        (lambda: ValueError("x" * 5000), ["xxx", "check --data"]),
    ],
    ids=["gated", "missing", "offline", "network", "timeout", "long"],
)
def test_what_the_hub_refuses_is_said(
    monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception], words: list[str]
):
    """Each way in which the hub fails ends in one short line that says what helps."""

    def refuse(*_: Any, **__: Any) -> None:
        raise error()

    monkeypatch.setattr(datasets, "load_dataset_builder", refuse)
    with pytest.raises(Failure) as caught:
        open_table("a/b", None, "test", ["id"])
    sentence = str(caught.value)
    assert sentence.startswith("'a/b' can't be read (")
    assert "\n" not in sentence
    assert len(sentence) < 600
    for word in words:
        assert word in sentence


def test_a_hub_dataset_is_read_at_one_revision(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """The commit that the hub answers with is what reports name and what all later reading is held to."""
    commit, asked = "0123456789abcdef0123456789abcdef01234567", []
    real = datasets.load_dataset_builder

    def hub_like(path: str, name: str | None = None, **named: Any) -> Any:
        asked.append((path, named.pop("revision")))
        builder = real(str(folder), name, **named)
        builder.base_path = f"hf://datasets/{path}@{commit}"
        return builder

    monkeypatch.setattr(datasets, "load_dataset_builder", hub_like)
    table = open_table("lmms-lab-encoder/GQA", None, "test", ["id"])
    assert table.source == {"dataset": "lmms-lab-encoder/GQA", "split": "test", "revision": commit}
    assert len(list(table.rows(["id"]))) == 4
    assert asked[0] == ("lmms-lab-encoder/GQA", None)
    assert set(asked[1:]) == {("lmms-lab-encoder/GQA", commit)}


def test_every_benchmark_of_the_hub_reads_its_own_dataset(monkeypatch: pytest.MonkeyPatch):
    """Without --data it is lmms-lab-encoder's copy that is opened, with the first split there is."""
    asked: dict[str, tuple[str, str]] = {}

    def note(place: str, _config: str | None, split: str, _needed: Any) -> None:
        asked[current] = (place, split)
        raise Failure("enough")

    for name in BENCHMARKS:
        found = load_benchmark(name)
        if not found.source:
            continue
        current = name
        module = "refcoco" if name.startswith("refcoco") else name
        monkeypatch.setattr(f"reroute_cli.studies.benchmarks.{module}.open_table", note)
        with pytest.raises(Failure, match="enough"):
            found.load(Wanted(found.splits[0], "llava"))
    assert asked == {
        "refcoco": ("lmms-lab-encoder/RefCOCO", "testA"),
        "refcoco+": ("lmms-lab-encoder/RefCOCOplus", "testA"),
        "refcocog": ("lmms-lab-encoder/RefCOCOg", "test"),
        "pope": ("lmms-lab-encoder/POPE", "test"),
        "gqa": ("lmms-lab-encoder/GQA", "testdev"),
        "mme": ("lmms-lab-encoder/MME", "test"),
        "mmbench": ("lmms-lab-encoder/MMBench", "dev"),
    }


def test_of_parquet_only_the_columns_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """The builder itself is told which columns are wanted, so that a stream does not fetch the others."""
    table, asked = open_table(str(folder), None, "test", ["id", "image"]), []
    real = datasets.load_dataset_builder

    def noted(*given: Any, **named: Any) -> Any:
        asked.append(named.get("columns"))
        return real(*given, **named)

    monkeypatch.setattr(datasets, "load_dataset_builder", noted)
    list(table.rows(["id"]))
    assert asked[-1] == ["id"]


def test_without_the_extra_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """One sentence says what to install."""
    monkeypatch.setattr(tables, "find_spec", lambda _name: None)
    with pytest.raises(Failure, match=r"pip install 'reroute\[eval\]'"):
        open_table(str(folder), None, "test", ["id"])


@pytest.mark.parametrize("kind", ["struct", "binary"])
def test_pictures_need_no_metadata(tmp_path: Path, kind: str):
    """A file that does not say that a column holds pictures still holds their bytes."""
    import pyarrow as pa
    from pyarrow import parquet

    data = hub.picture(3)["bytes"]
    values = [data] if kind == "binary" else [{"bytes": data, "path": "a.png"}]
    (tmp_path / "data").mkdir()
    parquet.write_table(pa.table({"image": values}), tmp_path / "data" / "test-00000-of-00001.parquet")
    [row] = open_table(str(tmp_path), None, "test", ["image"]).rows(["image"])
    assert TableRow(0, row, "row 0").image() == data


def test_files_that_are_no_parquet_are_read_too(tmp_path: Path):
    """Lines of JSON have no columns to skip; the rows are the same."""
    (tmp_path / "test.jsonl").write_text('{"id": "a", "more": 1}\n{"id": "b", "more": 2}\n')
    table = open_table(str(tmp_path), None, "test", ["id"])
    assert [row["id"] for row in table.rows(["id"])] == ["a", "b"]


@pytest.mark.parametrize(
    ("sizes", "limit", "taken"),
    [
        ([1, 1, 1, 1], 2, [0, 2]),
        ([2, 2, 2], 4, [0, 1]),
        ([2, 2, 2], 5, [0, 1]),
        ([4, 1, 1, 4], 4, [0]),
        ([1, 4, 1, 4], 3, [0, 2]),
        ([], 3, []),
        ([1, 1], 9, [0, 1]),
        ([3, 3], None, [0, 1]),
    ],
)
def test_as_many_whole_units_as_fit_are_chosen(sizes: list[int], limit: int | None, taken: list[int]):
    """Evenly spread, never parted, never more than the limit."""
    units = [[(unit, index) for index in range(size)] for unit, size in enumerate(sizes)]
    assert choose(units, limit) == {unit: list(range(sizes[unit])) for unit in taken}


class _Counted:
    """A table of a hundred rows that knows how many were taken."""

    place, split, taken = "somewhere", "test", 0

    def rows(self, _columns: Any) -> Any:
        """Each row once."""
        for self.taken in range(1, 101):
            yield {"question": f"number {self.taken}?"}


def test_nothing_is_read_behind_the_last_question():
    """A stream ends where the choice does: what follows is not fetched."""
    table = _Counted()
    items = TableItems(table, (), lambda row: [Item(row.where, (), row.text("question"))], {0: [0], 3: [0]})
    assert [item.question for item in items] == ["number 1?", "number 4?"]
    assert table.taken == 4


def test_loggers_of_the_libraries_keep_quiet(folder: Path, capfd: pytest.CaptureFixture[str]):
    """Nothing but what is raised is said: no bars, no retries, no warnings."""
    list(open_table(str(folder), None, "test", ["id"]).rows(["id"]))
    for name in tables._TALKATIVE:
        logging.getLogger(name).warning("noise")
    assert capfd.readouterr() == ("", "")
