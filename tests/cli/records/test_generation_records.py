"""Generation settings in records, on pages and between two sides: what is not neutral is always told."""

import json
from dataclasses import replace

import pytest

from reroute_cli.console.errors import Failure
from reroute_cli.console.options import ModelOptions
from reroute_cli.integrations.ray.config import check_settings
from reroute_cli.models.load import (
    load,
    without_weights,
)
from reroute_cli.records.reading import read_report
from reroute_cli.views.document import PAGE, Tone
from reroute_cli.views.emit import document
from reroute_cli.views.write.inputs import read_inputs, sections_of
from reroute_cli.views.write.terminal import text
from tests.cli import reports
from tests.cli.checkpoints import checkpoint
from tests.cli.studies.test_comparable import judged

PENALTY = {"repetition_penalty": 1.05}
TOLD = "the checkpoint sets repetition_penalty 1.05"
SHORT = ("--max-new-tokens", "3")


@pytest.fixture
def penalised(tmp_path):
    """A checkpoint with the penalty that Qwen2.5-VL ships."""
    return checkpoint(tmp_path / "model", PENALTY)


def expected(longest, settings="model", **active):
    """A record's `generation`."""
    return {"settings": settings, "greedy": True, "max_new_tokens": longest, **active}


def test_ask_records_and_says_what_is_not_neutral(run, picture, penalised):
    """The record has the penalty under its name and the card has one line of it."""
    result = run("ask", picture, "what?", "-m", penalised, *SHORT, "--json")
    assert json.loads(result.stdout)["generation"] == expected(3, **PENALTY)
    assert result.stderr.count(TOLD) == 1


def test_ask_neutral_records_that_and_says_nothing(run, picture, penalised):
    """Under --generation neutral there is nothing to beware of."""
    result = run("ask", picture, "what?", "-m", penalised, *SHORT, "--generation", "neutral", "--json")
    assert json.loads(result.stdout)["generation"] == expected(3, "neutral")
    assert "--generation" not in result.stderr


@pytest.mark.usefixtures("warm")
def test_a_neutral_checkpoint_is_not_spoken_of(run, picture):
    """The embedded model has nothing that changes a greedy answer."""
    result = run("ask", picture, "what?", *SHORT, "--json")
    assert json.loads(result.stdout)["generation"] == expected(3)
    assert "--generation" not in result.stderr


def test_another_choice_is_another_answer_to_a_resumed_batch(run, picture, penalised, tmp_path):
    """A file of answers under the checkpoint's settings is not taken for one under neutral ones."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "picture.png").rename(tmp_path / "pictures" / "picture.png")
    command = ("batch", str(tmp_path / "pictures"), "--question", "what?", "-m", penalised)
    out = ("-o", str(tmp_path / "answers.jsonl"), *SHORT)
    first = run(*command, *out, "--summary", str(tmp_path / "first.json"))
    assert TOLD in first.stderr
    run(*command, *out, "--generation", "neutral", "--summary", str(tmp_path / "second.json"))
    assert json.loads((tmp_path / "first.json").read_text())["generation"] == expected(3, **PENALTY)
    second = json.loads((tmp_path / "second.json").read_text())
    assert (second["generation"], second["counts"]["resumed"]) == (expected(3, "neutral"), 0)
    again = run(*command, *out, "--summary", str(tmp_path / "third.json"))
    assert again.exit_code == 0
    assert json.loads((tmp_path / "third.json").read_text())["counts"]["resumed"] == 1


def test_every_command_that_measures_records_the_settings(run, picture, penalised, tmp_path):
    """profile, eval, sweep and trace write them into the record of the whole run, failed items included."""
    (tmp_path / "m.jsonl").write_text(
        json.dumps({"image": "picture.png", "question": "what?", "answer": "a cup"}) + "\n"
    )
    manifest = ("--manifest", str(tmp_path / "m.jsonl"))
    once = ("--warmup", "0", "--repeat", "1")
    fastv = ("--method", "fastv", "--ratio", "0.5")
    commands = {
        "profile": (picture, "--question", "what?", *once),
        "eval": (*manifest, *fastv),
        "sweep": (*manifest, "--arms", "fastv:prune", "--ratios", "0.5", "--cost-items", "0"),
        "trace": (picture, "what?", *fastv),
    }
    for name, arguments in commands.items():
        result = run(name, *arguments, "-m", penalised, *SHORT, "--json")
        assert result.exit_code == 0, result.output
        record = json.loads(result.stdout)
        assert record["generation"] == expected(3, **PENALTY), name


def made(active, settings="model"):
    """A report whose answers were made under these settings; None for one of an older release."""
    plain = reports.make()
    if active is None:
        del plain["generation"]
    else:
        plain["generation"] = expected(16, settings, **active)
    return plain


def written(path, active, settings="model"):
    """The same as a file."""
    path.write_text(json.dumps(made(active, settings)))
    return path


def test_an_older_report_without_settings_is_read(tmp_path):
    """A file that does not say is no error and says nothing."""
    report = read_report(written(tmp_path / "old.json", None))
    assert report.generation is None
    assert not [block for block in document(report).blocks if "--generation" in getattr(block, "text", "")]


@pytest.mark.parametrize("active", [PENALTY, {}])
def test_the_pages_say_in_one_line_what_is_not_neutral(tmp_path, active):
    """Terminal, Markdown and HTML have the sentence once, and none of it where all is neutral."""
    path = written(tmp_path / "run.json", active)
    said = [block.text for block in document(read_report(path)).blocks if TOLD in getattr(block, "text", "")]
    (section,) = sections_of(read_inputs([path]))
    assert (
        len(said)
        == len([text for text in section.document.texts(PAGE, Tone.WARNING) if TOLD in text])
        == len(active)
    )


def test_a_page_of_two_runs_says_that_their_settings_differ(tmp_path):
    """Side by side on one HTML page, both are told by file."""
    one = written(tmp_path / "one.json", PENALTY)
    other = written(tmp_path / "other.json", {}, "neutral")
    first, second = (one.document.texts(PAGE, Tone.WARNING) for one in sections_of(read_inputs([one, other])))
    said = [text for text in first if "settings differ" in text]
    assert len(said) == 1
    assert "one.json: repetition_penalty 1.05; other.json: neutral" in said[0]
    assert not [text for text in second if "settings differ" in text]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (PENALTY, {}, "baseline: repetition_penalty 1.05; current: neutral"),
        (None, PENALTY, "baseline: not said; current: repetition_penalty 1.05"),
        (PENALTY, {"repetition_penalty": 1.2}, "current: repetition_penalty 1.2"),
        (PENALTY, PENALTY, None),
        (None, {}, None),
    ],
)
def test_a_comparison_warns_where_the_settings_differ(old, new, told):
    """Reports under other settings compare, with a sentence; an older one is as good as a neutral one."""
    found = judged(made(old), made(new))
    notes = [note for note in found.notes if "settings differ" in note]
    assert len(notes) == (told is not None)
    assert (told or "") in " ".join(text(document(found)).split())
    assert found.passed


def test_a_hostile_record_cannot_flood_a_page(tmp_path):
    """Names, values and numbers of settings from a file are cut, and control characters go."""
    active = {f"{number}{'k' * 900}": "\x1b[31m" + "v" * 9000 for number in range(500)}
    report = read_report(written(tmp_path / "run.json", active))
    (said,) = [
        one for block in document(report).blocks if "--generation" in (one := getattr(block, "text", ""))
    ]
    assert len(said) < 800
    assert "\x1b" not in said


@pytest.mark.parametrize("generation", ["model", "neutral"])
def test_the_driver_of_a_cluster_knows_the_settings_without_loading(penalised, generation):
    """What the driver makes keys of is what a worker loads."""
    options = ModelOptions(penalised, device="cpu", generation=generation)
    known, loaded = without_weights(options, "cpu").generation, load(options).generation
    assert (known, dict(known.active)) == (loaded, dict(loaded.active))


def test_a_worker_with_other_settings_is_refused(penalised):
    """A node whose copy of the checkpoint has a penalty that the driver's lacks answers nothing."""
    loaded = without_weights(ModelOptions(penalised, device="cpu"), "cpu").generation
    mine, theirs = ({"generation": one.identity(8)} for one in (replace(loaded, active={}), loaded))
    with pytest.raises(Failure, match="repetition_penalty"):
        check_settings(mine, theirs)
