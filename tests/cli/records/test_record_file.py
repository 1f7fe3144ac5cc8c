"""The file that a run writes its records to: killed at any moment, it holds what was finished, once."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reroute_cli.console.errors import Failure
from reroute_cli.records.store import RecordFile


def _record(key: str, answer: str = "yes", error: str | None = None) -> dict[str, object]:
    return {"schema": "reroute.answer/2", "key": key, "answer": answer, "error": error}


def _write(path: Path, *records: dict[str, object]) -> None:
    with RecordFile(path) as file:
        for record in records:
            file.append(record)


def _keys(path: Path) -> list[str]:
    return [json.loads(line)["key"] for line in path.read_text().splitlines()]


def test_what_was_appended_is_there_again(tmp_path: Path):
    """Another process opening the file finds every record and knows which keys are done."""
    path = tmp_path / "run.jsonl"
    _write(path, _record("a"), _record("b", error="unreadable"))
    with RecordFile(path) as file:
        assert [record["key"] for record in file.records()] == ["a", "b"]
        assert (file.is_done("a"), file.is_done("b"), file.is_done("c")) == (True, False, False)


def test_a_retried_error_is_replaced_where_it_stood(tmp_path: Path):
    """After a retry the file holds the good record alone, at the place of the failed one."""
    path = tmp_path / "run.jsonl"
    _write(path, _record("a"), _record("b", error="unreadable"), _record("c"))
    _write(path, _record("b", answer="no"))
    assert _keys(path) == ["a", "b", "c"]
    assert json.loads(path.read_text().splitlines()[1])["answer"] == "no"


def test_a_failure_never_replaces_an_answer(tmp_path: Path):
    """A late error record of a key that is done changes nothing."""
    path = tmp_path / "run.jsonl"
    _write(path, _record("a"), _record("a", error="out of memory"))
    assert [json.loads(line)["error"] for line in path.read_text().splitlines()] == [None]


def test_an_answer_takes_the_place_of_an_error_of_another_key(tmp_path: Path):
    """Where an item's error has a key of its own, its answer stands where the error stood, once."""
    path = tmp_path / "run.jsonl"
    _write(path, _record("a"), _record("failed b", error="unreadable"), _record("c"))
    with RecordFile(path) as file:
        file.append(_record("b"))
        file.supersede("failed b", "b")
        assert [record["key"] for record in file.records()] == ["a", "b", "c"]
        assert len(file) == 3
    assert _keys(path) == ["a", "b", "c"]


def test_an_answer_is_never_superseded(tmp_path: Path):
    """Only an error gives way: neither a good record, nor a key that is not there, nor itself."""
    path = tmp_path / "run.jsonl"
    with RecordFile(path) as file:
        for record in (_record("a"), _record("b"), _record("c", error="unreadable")):
            file.append(record)
        for failure, key in (("a", "b"), ("x", "b"), ("c", "x"), ("c", "c")):
            file.supersede(failure, key)
    assert _keys(path) == ["a", "b", "c"]


def test_a_kill_before_an_error_gave_way_loses_nothing(tmp_path: Path):
    """Both records are in the file that a killed writer left; asking again lets the error go."""
    path = tmp_path / "run.jsonl"
    lines = [_record("failed b", error="unreadable"), _record("a"), _record("b")]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with RecordFile(path) as file:
        file.supersede("failed b", "b")
    assert _keys(path) == ["b", "a"]


def test_records_are_found_in_a_file_that_was_tidied_on_opening(tmp_path: Path):
    """What a killed writer left twice is rewritten at once, and every record is read from its new place."""
    path = tmp_path / "run.jsonl"
    lines = [_record("a", error="unreadable"), _record("b", "no"), _record("c", error="torn"), _record("a")]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with RecordFile(path) as file:
        assert _keys(path) == ["a", "b", "c"]
        assert [(one["key"], one["error"]) for one in file.records()] == [
            ("a", None),
            ("b", None),
            ("c", "torn"),
        ]
        assert (file.get("b")["answer"], file.is_done("a"), file.is_done("c")) == ("no", True, False)
        with pytest.raises(KeyError):
            file.get("d")


def test_a_link_stays_a_link(tmp_path: Path):
    """Rewriting the file behind a link leaves the link where it was."""
    path = tmp_path / "link.jsonl"
    path.symlink_to(tmp_path / "real.jsonl")
    _write(path, _record("a", error="unreadable"))
    _write(path, _record("a"))
    assert path.is_symlink()
    assert [json.loads(line)["error"] for line in path.read_text().splitlines()] == [None]


@pytest.mark.parametrize("tail", [b"\0\0\0\0", b"{", b'{"schema": "rer'])
def test_a_torn_tail_is_cut_off(tmp_path: Path, tail: bytes):
    """What a killed writer or a power cut left behind the last whole line is dropped, and nothing else."""
    path = tmp_path / "run.jsonl"
    _write(path, _record("a"))
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    _write(path, _record("b"))
    assert path.read_bytes().startswith(whole)
    assert _keys(path) == ["a", "b"]


def test_a_file_torn_at_any_byte_resumes(tmp_path: Path):
    """Cut anywhere in its last record, the file holds the records before it and takes new ones."""
    path = tmp_path / "run.jsonl"
    _write(path, _record("a"), _record("ü\u2028"))
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    for cut in range(second, len(whole)):
        path.write_bytes(whole[:cut])
        _write(path, _record("ü\u2028"))
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "text", ["notes of mine", "notes\n", '{"a": 1}', "[1]\n", '{"schema": "reroute.answer/2"}\n']
)
def test_somebody_elses_file_is_refused_and_left_alone(tmp_path: Path, text: str):
    """A file that holds no records of ours is an error, and keeps every byte."""
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(Failure, match=r"line 1 of .* is no record"), RecordFile(path):
        pass
    assert path.read_text() == text


def test_damage_in_the_middle_is_told_not_skipped(tmp_path: Path):
    """A broken line that is not the last one is named by its number."""
    path = tmp_path / "run.jsonl"
    _write(path, _record("a"), _record("b"), _record("c"))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1][:20] + "\n" + lines[2])
    with pytest.raises(Failure, match="line 2"), RecordFile(path):
        pass


def test_a_second_writer_is_refused(tmp_path: Path):
    """While one process writes a file, another one gets a sentence instead of the file."""
    path = tmp_path / "run.jsonl"
    code = f"""
from pathlib import Path
from reroute_cli.records.store import RecordFile
with RecordFile(Path({str(path)!r})):
    pass
"""
    with RecordFile(path):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "another process is writing" in done.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_link_to_the_file_is_the_same_file(tmp_path: Path):
    """A second writer is refused under another name too."""
    path, link = tmp_path / "run.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(path)
    with RecordFile(path), pytest.raises(Failure, match="another process is writing"), RecordFile(link):
        pass


def test_a_folder_is_refused(tmp_path: Path):
    """A folder can't hold records."""
    with pytest.raises(Failure, match="is no file"), RecordFile(tmp_path):
        pass


def test_a_full_disk_leaves_whole_records(tmp_path: Path):
    """Where the system takes half of a record, that half is taken back and the run ends with a sentence."""
    path = tmp_path / "run.jsonl"
    code = f"""
import resource, sys
from pathlib import Path
from reroute_cli.records.store import RecordFile
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_record_file import _record
with RecordFile(Path({str(path)!r})) as file:
    file.append(_record("a"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    file.append(_record("b"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Failure" in done.stderr
    assert "can't be written" in done.stderr
    assert _keys(path) == ["a"]


WRITER = """
import sys
from pathlib import Path
from reroute_cli.records.store import RecordFile
with RecordFile(Path(sys.argv[1])) as file:
    for number in range(int(sys.argv[2])):
        key = str(number)
        if not file.is_done(key):
            failed = number % 7 == 3 and key not in {record["key"] for record in file.records()}
            file.append({"schema": "reroute.answer/2", "key": key, "answer": "x" * 3000,
                         "error": "once" if failed else None})
"""


def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(tmp_path: Path):
    """A writer killed 20 times and started again leaves every key once, in order."""
    path, count, kills = tmp_path / "run.jsonl", 400, 0
    luck = random.Random(5)
    while kills < 20:
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(count)])
        before = path.stat().st_size if path.exists() else 0
        while process.poll() is None and not (path.exists() and path.stat().st_size > before):
            time.sleep(0.001)
        time.sleep(luck.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        count += 40
    for _ in range(2):  # the second run tries again what failed in the first
        subprocess.run([sys.executable, "-c", WRITER, str(path), str(count)], check=True)
    assert _keys(path) == [str(number) for number in range(count)]
    assert not [line for line in path.read_text().splitlines() if json.loads(line)["error"]]
    assert list(tmp_path.glob(".*.tmp")) == []
