"""Profile files that are none: one sentence with file and key, and nothing read that should not be."""

from __future__ import annotations

from pathlib import Path

import pytest

import profiles
from profiles import ProfileError
from tests.profiles.test_profiles import written


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("", "", "keys and values"),
        ("- 1\n- 2\n", "", "keys and values"),
        ("title: x\n", "", "exactly one"),
        ("method: fastv\nratio: 0.5\nstages: []\n", "", "exactly one"),
        ("method: fastv\n", "", "ratio or a budget"),
        ("method: fastv\nratio: 0.5\nbudget: 3\n", "", "ratio or a budget"),
        ("method: fastw\nratio: 0.5\n", "method", "none, random, fastv"),
        ("method: fastv\nratio: 1.0\n", "ratio", "below 1"),
        ("method: fastv\nratio: .nan\n", "ratio", "finite"),
        ("method: fastv\nratio: .inf\n", "ratio", "finite"),
        ("method: fastv\nratio: '0.5'\n", "ratio", "finite number"),
        ("method: fastv\nratio: yes\n", "ratio", "finite number"),
        ("method: fastv\nratio:\n", "ratio", "empty"),
        ("method: fastv\nbudget: -1\n", "budget", "above 0"),
        ("method: fastv\nratio: 0.5\noptions: {rho: 1}\n", "options.rho", "unknown key"),
        ("method: fastv\nratio: 0.5\noptions: [1]\n", "options", "keys and values"),
        ("method: fastv\nratio: 0.5\nlayer: 3\n", "layer", "did you mean layers"),
        ("method: fastv\nratio: 0.5\nlayers: 0\n", "layers", "at least 1"),
        ("stages: []\nlayers: 100000000000\n", "layers", "at most 1000,"),
        ("stages: []\nvisual: 100000000000\n", "visual", "at most 1000000,"),
        (f"method: fastv\nbudget: 1{'0' * 400}\n", "line 2", "63 bits"),
        (f"method: fastv\nratio: 0.5\noptions: {{cuts: [0x{'f' * 9999}]}}\n", "line 3", "63 bits"),
        ("method: fastv\nratio: 0.95\nlayers: 32\noptions: {cuts: [3]}\n", "", "nearest"),
        ("method: fastv\naction: drop\nratio: 0.5\n", "action", "prune, reroute"),
        ("method: fastv\nratio: 0.5\ntitle: [a]\n", "title", "line of text"),
        ('method: fastv\nratio: 0.5\ntitle: "a\\e[31mb"\n', "title", "line of text"),
        ("stages: 3\n", "stages", "a list"),
        ("stages: [3]\n", "stages[0]", "keys and values"),
        ("stages: [{layer: 3}]\n", "stages[0].keep_ratio", "missing"),
        ("stages: [{layer: 3, keep_ratio: 2}]\n", "stages[0]", "at most 1"),
        ("stages: [{layer: -3, keep_ratio: 1}]\n", "stages[0].layer", "whole number"),
        ("stages: [{layer: 3.0, keep_ratio: 1}]\n", "stages[0].layer", "whole number"),
        (
            "stages: [{layer: 3, keep_ratio: 1, keep: 1}]\n",
            "stages[0].keep",
            "allowed are layer, keep_ratio, scored_by",
        ),
        ("stages: [{layer: 3, keep_ratio: 1}, {layer: 3, keep_ratio: 1}]\n", "stages", "increasing"),
        ("stages: []\nvision: {keep_ratio: 0.5, scorer: magic}\n", "vision.scorer", "cls, column_mean"),
        ("stages: [{layer: 30, keep_ratio: 0.5}]\nlayers: 12\n", "", "does not exist"),
        ("stages: []\nrounding: up\n", "rounding", "floor, budget"),
        ("stages: []\nscorer: magic\n", "scorer", "random, last_query, last_queries_max"),
        ("stages: []\nseed: 1.5\n", "seed", "whole number"),
    ],
)
def test_a_file_that_is_no_profile_is_one_sentence_with_file_and_key(
    tmp_path: Path, text: str, key: str, says: str
) -> None:
    """Unknown keys, wrong types, missing and contradicting values: file, dotted key, what is allowed."""
    path = written(tmp_path, text)
    with pytest.raises(ProfileError, match=says) as caught:
        profiles.load(path)
    assert (caught.value.file, caught.value.key) == (str(path), key)
    assert str(caught.value).startswith(f"{path}: {key}: " if key else f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title: !!python/object/apply:os.system [echo]\nstages: []\n", "tags"),
        ("title: !!str x\nstages: []\n", "tags"),
        ("title: &a x\nsource: *a\nstages: []\n", "anchors"),
        ("base: {}\n<<: {title: x}\nstages: []\n", "merge"),
        ("title: a\ntitle: b\nstages: []\n", "twice"),
        ("stages: [{layer: 1, layer: 2, keep_ratio: 1}]\n", "twice"),
        ("1: a\nstages: []\n", "words"),
        ("title: [unclosed\n", "expected"),
        ("title: a\n---\ntitle: b\n", "expected a single document"),
        ("[" * 5000, "deep"),
        ("title: \x00\n", "not allowed|valid YAML"),
    ],
)
def test_yaml_beyond_plain_data_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """Tags, anchors, merges, repeated keys, several documents and broken text never reach a profile."""
    with pytest.raises(ProfileError, match=says):
        profiles.load(written(tmp_path, text))


def test_files_that_cannot_be_profiles_are_refused_before_they_are_read(tmp_path: Path) -> None:
    """A missing file, a folder, bytes that are not text, and a file of a megabyte."""
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "huge.yaml").write_bytes(b"# " + b"x" * 2**20)
    for name, says in (
        ("missing.yaml", "cannot be read"),
        (".", "cannot be read"),
        ("bytes.yaml", "UTF-8"),
        ("huge.yaml", "larger"),
    ):
        with pytest.raises(ProfileError, match=says):
            profiles.load(tmp_path / name)


def test_an_unknown_name_suggests_the_nearest_ones() -> None:
    """A slip in a long name is answered with what is close to it."""
    with pytest.raises(ProfileError, match="llava15-avg192-fastv"):
        profiles.load("llava15-avg192-fastw")
    with pytest.raises(ProfileError, match=r"\.yaml"):
        profiles.load("")


@pytest.mark.parametrize("line", range(3))
def test_a_syntax_error_names_its_line(tmp_path: Path, line: int) -> None:
    """The key of a file that is not YAML is the line where reading stopped."""
    text = "".join(f"key{number}: 1\n" for number in range(line)) + "a: b: c\n"
    with pytest.raises(ProfileError) as caught:
        profiles.load(written(tmp_path, text))
    assert caught.value.key == f"line {line + 1}"
