"""`reroute ask` with hostile pictures, questions, names, options, profiles and models."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from reroute_cli.data.prompts import MAX_QUESTION
from reroute_cli.models.pocket import WEIGHTS

QUESTION = "where is the cup?"
SHORT = ("--max-new-tokens", "2")  # the answer itself does not matter here

pytestmark = pytest.mark.usefixtures("warm")


@pytest.mark.parametrize("kind", ["dot", "cmyk", "palette", "deep", "alpha", "moving"])
def test_odd_pictures_are_answered(run, drawn, tmp_path, kind):
    """1 x 1, CMYK, palette, 16 bits, transparent and animated pictures are pictures."""
    path = tmp_path / {"cmyk": "x.tiff", "moving": "x.gif"}.get(kind, "x.png")
    image = drawn((64, 64))
    if kind == "dot":
        Image.new("RGB", (1, 1), "red").save(path)
    elif kind == "moving":
        image.save(path, save_all=True, append_images=[drawn((64, 64)).rotate(90)])
    else:
        mode = {"cmyk": "CMYK", "palette": "P", "deep": "I;16", "alpha": "RGBA"}[kind]
        (image.convert("L").convert("I;16") if kind == "deep" else image.convert(mode)).save(path)
    result = run("ask", str(path), QUESTION, "-q", *SHORT)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


@pytest.mark.parametrize("content", [None, b"", b"text", b"\x89PNG\r\n\x1a\n\x00\x00"], ids=str)
def test_what_is_no_picture_exits_4(run, fails, tmp_path, content):
    """Missing, empty and broken files: one sentence, nothing on stdout."""
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    fails(run("ask", str(path), QUESTION, "--json"), 4, "x.png")


def test_a_truncated_and_a_huge_picture_exit_4(run, fails, picture, tmp_path):
    """Half a file and a decompression bomb."""
    half = tmp_path / "half.png"
    half.write_bytes(Path(picture).read_bytes()[:300])
    Image.new("1", (10000, 10000)).save(tmp_path / "bomb.png")
    fails(run("ask", str(half), QUESTION), 4, "half.png")
    fails(run("ask", str(tmp_path / "bomb.png"), QUESTION), 4, "million pixels")


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("x" * (MAX_QUESTION + 1), str(MAX_QUESTION)),
        ("<image> x", "<image>"),
    ],
    ids=["empty", "blank", "enormous", "token"],
)
def test_what_is_no_question_exits_2(run, fails, picture, question, word):
    """Empty, enormous and token-bearing questions are usage errors."""
    fails(run("ask", picture, question), 2, word)


def test_a_question_longer_than_the_model_reads_exits_4(run, fails, picture):
    """Within our limit, beyond the model's: its own limit is named."""
    fails(run("ask", picture, "cup " * 1500), 4, "1024")


def test_a_picture_in_the_question_s_place_is_noticed(run, fails, picture):
    """Two pictures and no question."""
    fails(run("ask", picture, picture), 2, "the question comes last")


HOSTILE = "\x1b[31m[red]x[/red]\x1b]0;t\x07 \x9b2J :smile: \u202e?"


def test_a_hostile_question_reaches_no_terminal(run, record, picture):
    """Control characters in a question are asked about, stored exactly, and never shown."""
    result = run("ask", picture, HOSTILE, "-v", *SHORT)
    assert result.exit_code == 0
    assert not set(result.output) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert record(picture, HOSTILE, *SHORT)["question"] == HOSTILE


def test_a_hostile_answer_reaches_no_terminal(run, picture, pocket, monkeypatch):
    """An answer with escape sequences is shown as text, markup untouched; JSON keeps every character."""
    answer = "\x1b[31m[bold]cup[/bold]\x1b[0m\x07\nsecond line"
    monkeypatch.setattr(pocket.processor.tokenizer, "decode", lambda *_, **__: answer)
    assert run("ask", picture, QUESTION, "-q", *SHORT).stdout == "[bold]cup[/bold]\nsecond line\n"
    raw = run("ask", picture, QUESTION, "-q", "--json", *SHORT).stdout
    assert "\x1b" not in raw
    assert json.loads(raw)["answer"] == answer


def test_a_hostile_file_name_reaches_no_terminal(run, fails, record, picture, tmp_path):
    """Escape sequences and bytes that are no UTF-8 in a name: opened, recorded, never shown."""
    name = str(tmp_path / "\x1b[31m[red]a\udcff.png")
    shutil.copy(picture, os.fsencode(name))
    assert record(name, QUESTION, *SHORT)["image"] == name
    missing = run("ask", name + "x", QUESTION)
    fails(missing, 4, "[red]a")
    assert "\x1b" not in missing.stderr


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (("--method", "fastv", "--ratio", "1"), 2, "1"),
        (("--method", "fastv", "--ratio", "-0.1"), 2, "-0.1"),
        (("--method", "pdrop", "--ratio", "0.9999"), 2, "0.9"),
        (("--method", "fastv", "--budget", "1000"), 2, "1000"),
        (("--method", "wat", "--ratio", "0.5"), 2, "wat"),
        (("--ratio", "0.5"), 2, "--method"),
        (("-p", "nothing"), 2, "nothing"),
        (("-m", "nobody/nothing"), 4, "nobody/nothing"),
        (("-m", "./nowhere"), 4, "nowhere"),
        (("-m", "~nobody-here/x"), 4, "~nobody-here"),
        (("--device", "cuda:7"), 4, "cuda:7"),
        (("--device", "abacus"), 2, "abacus"),
        (("--attn", "flash_attention_2"), 4, "--attn sdpa"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_impossible_options_end_in_one_sentence(run, fails, picture, monkeypatch, options, code, word):
    """Ratios, names and devices that can't be had: what was given, what is allowed."""
    monkeypatch.setattr(
        "huggingface_hub.HfApi.model_info", lambda *_, **__: (_ for _ in ()).throw(OSError("no"))
    )
    fails(run("ask", picture, QUESTION, *options), code, word)


@pytest.mark.parametrize(
    "text",
    [
        "title: x\nstages: []\nwat: 1\n",
        "title: x\nmethod: fastv\nratio: lots\n",
        "title: !!python/object/apply:os.system ['true']\n",
        "stages: {layer: 3}\n",
        "- 1\n",
        "a: &a [*a]\n",
        "",
        "\x00",
    ],
)
def test_a_bad_profile_exits_2_before_anything_is_loaded(run, fails, picture, tmp_path, monkeypatch, text):
    """Unknown keys, wrong types and tags: the file is named, no model is loaded."""
    monkeypatch.setattr("reroute_cli.models.load.load", lambda *_: pytest.fail("loaded"))
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    fails(run("ask", picture, QUESTION, "-p", str(path)), 2, "bad.yaml")


def test_a_damaged_model_exits_4(run, fails, picture, tmp_path):
    """Corrupt and pickled weights end in one sentence that names the folder."""
    folder = tmp_path / "model"
    shutil.copytree(WEIGHTS, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    fails(run("ask", picture, QUESTION, "-m", str(folder)), 4, "pickle")
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    fails(run("ask", picture, QUESTION, "-m", str(folder)), 4, "damaged")
