"""`reroute ask`: the answer, the card and the record."""

import json

import jsonschema
import pytest
from PIL import Image

from reroute_cli.records.answer import AnswerRecord
from reroute_cli.records.schema import schema_of

QUESTION = "where is the cup?"
ROUTED = ("--method", "pdrop", "--action", "reroute", "--ratio", "0.667")
SHORT = ("--max-new-tokens", "2")  # where the answer itself does not matter

pytestmark = pytest.mark.usefixtures("warm")


def test_stdout_is_the_answer_and_nothing_else(run, record, picture):
    """One line on stdout, the card on stderr, and both pipes plain text."""
    result = run("ask", picture, QUESTION)
    assert result.exit_code == 0
    assert result.stdout == record(picture, QUESTION)["answer"] + "\n"
    assert "visual tokens/layer 256 of 256 · dense" in result.stderr
    assert "\x1b" not in result.output


def test_quiet_leaves_only_the_answer(run, picture):
    """-q silences the card."""
    result = run("ask", picture, QUESTION, "-q", *SHORT)
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1


def test_quiet_measures_nothing_that_nobody_sees(run, picture, monkeypatch, tmp_path):
    """-q alone gives the same answer in one pass; with --json or -o everything is counted as always."""
    from reroute_cli.measure import passes

    counted = []
    count = passes.count_flops
    monkeypatch.setattr(passes, "count_flops", lambda *words: counted.append(1) or count(*words))
    loud = run("ask", picture, QUESTION, *SHORT).stdout
    counted.clear()
    assert run("ask", picture, QUESTION, "-q", *SHORT).stdout == loud
    assert counted == []
    run("ask", picture, QUESTION, "-q", "-o", str(tmp_path / "x.json"), *SHORT)
    assert json.loads((tmp_path / "x.json").read_text())["flops"]["prefill_flops"] > 0
    assert (
        json.loads(run("ask", picture, QUESTION, "-q", "--json", *SHORT).stdout)["flops"]["prefill_flops"] > 0
    )


def test_the_card_compares_with_dense(run, picture):
    """The headline has average tokens, prefill FLOPs and KV bytes as parts of dense; the rest is below it."""
    result = run("ask", picture, QUESTION, *ROUTED, "-v")
    headline = result.stderr.strip().splitlines()[0]
    assert headline.startswith("visual tokens/layer 84.")
    assert "of 256 · prefill 0.3" in headline
    assert "× FLOPs · KV 0.3" in headline
    for word in ("TTFT", "TPOT", "host peak RSS", "measured", "re-entered", "scoring", "pdrop reroute"):
        assert word in result.stderr
    assert all(len(line) <= 100 for line in result.stderr.splitlines())


@pytest.mark.parametrize("schedule", [(), ROUTED], ids=["dense", "routed"])
def test_the_record_is_complete_and_valid(record, picture, unexplained, schedule):
    """Every field is filled or null with a reason, and the schema accepts the record."""
    found = record(picture, QUESTION, *schedule)
    assert found["schema"] == "reroute.answer/2"
    assert [name for name in unexplained(found) if name not in ("error", "schedule.profile")] == []
    jsonschema.validate(found, schema_of("answer"))
    assert AnswerRecord.model_validate(found).as_dict() == found


def test_the_record_holds_the_fields_that_every_command_shares(record, picture):
    """Names that readers of the JSON rely on, section by section."""
    found = record(picture, QUESTION, *SHORT)
    sections = {name: set(part) for name, part in found.items() if isinstance(part, dict)}
    assert {"id", "image", "question", "answer", "boxes", "error"} <= set(found)
    assert {"id", "family", "dtype", "attention", "device"} <= sections["model"]
    assert {"method", "action", "ratio", "achieved_ratio", "stages"} <= sections["schedule"]
    assert {"visual_tokens", "prompt_tokens", "new_tokens", "visual_tokens_per_layer"} <= sections["tokens"]
    assert {"vision_flops", "prefill_flops", "scoring_flops", "decode_flops", "source"} <= sections["flops"]
    assert {"kv_end_bytes", "dense_kv_end_bytes", "per_layer_tokens"} <= sections["kv_cache"]
    assert {"ttft_s", "tpot_s", "e2e_s"} <= sections["latency"]
    assert {"weights_bytes", "torch_peak_allocated_bytes", "nvml_process_peak_bytes"} <= sections["memory"]


def test_a_routed_record_agrees_with_itself(record, picture):
    """Stages, averages, ratios, KV lengths and FLOPs tell one story."""
    found = record(picture, QUESTION, *ROUTED)
    stages, tokens, layers = (
        found["schedule"]["stages"],
        found["tokens"],
        len(found["kv_cache"]["per_layer_tokens"]),
    )
    kept = [256] * layers
    for stage in stages:
        kept[stage["layer"] :] = [stage["kept"]] * (layers - stage["layer"])
        assert stage["kept"] == max(1, int(256 * stage["keep_ratio"]))
    assert tokens["visual_tokens_per_layer"] == pytest.approx(sum(kept) / layers)
    assert found["schedule"]["achieved_ratio"] == pytest.approx(1 - sum(kept) / layers / 256)
    assert found["schedule"]["achieved_ratio"] == pytest.approx(0.667, abs=0.01)
    extra = tokens["prompt_tokens"] - 256 + tokens["new_tokens"] - 1
    assert found["kv_cache"]["per_layer_tokens"] == [count + extra for count in kept]
    flops = found["flops"]
    assert flops["dense_vision_flops"] == flops["vision_flops"]
    assert 0 < flops["scoring_flops"] < flops["prefill_flops"] < flops["dense_prefill_flops"] / 2
    latency = found["latency"]
    assert latency["e2e_s"] >= latency["ttft_s"] > 0


def test_the_same_question_has_the_same_id_and_another_schedule_another(record, picture):
    """The id is the key by which later runs find finished work."""
    asked = [(QUESTION,), (QUESTION,), (QUESTION, *ROUTED), ("where is the car?",)]
    first, again, routed, other = (record(picture, *words, *SHORT)["id"] for words in asked)
    assert first == again
    assert len({first, routed, other}) == 3


def test_output_holds_the_record_and_stdout_the_answer(run, picture, tmp_path):
    """-o writes the JSON beside, not instead."""
    target = tmp_path / "answer.json"
    result = run("ask", picture, QUESTION, "-o", str(target), *SHORT)
    assert json.loads(target.read_text())["answer"] == result.stdout.strip()


@pytest.mark.parametrize("place", ["missing/x.json", "."])
def test_an_output_that_cannot_be_written_is_said_first(run, fails, picture, tmp_path, monkeypatch, place):
    """No model is loaded for a result that has nowhere to go."""
    monkeypatch.setattr("reroute_cli.models.load.load", lambda *_: pytest.fail("loaded"))
    fails(run("ask", picture, QUESTION, "-o", str(tmp_path / place)), 4, "--output")


def test_several_pictures_make_one_prompt(record, picture):
    """Three pictures are three times the visual tokens; whose box it is can't be told."""
    found = record(picture, picture, picture, "which one has the cup?", *SHORT)
    assert found["tokens"]["visual_tokens"] == 3 * 256
    assert found["images"] == [picture] * 3
    assert found["boxes"] is None
    assert "several" in found["reasons"]["boxes"]


def test_too_many_pictures_are_refused_with_the_limit(run, fails, picture):
    """Four pictures exceed the embedded model's 1024 positions."""
    fails(run("ask", *[picture] * 4, QUESTION), 4, "1024")


def test_a_cut_answer_is_said_to_be_cut(run, record, picture):
    """At one token the answer is cut, TPOT is unknown, and both are said."""
    found = record(picture, QUESTION, "--max-new-tokens", "1")
    assert found["tokens"]["new_tokens"] == 1
    assert found["tokens"]["finish"] == "length"
    assert found["latency"]["tpot_s"] is None
    assert "--max-new-tokens 1" in run("ask", picture, QUESTION, "--max-new-tokens", "1").stderr


def test_exif_orientation_gives_the_upright_answer(record, drawn, tmp_path):
    """A picture stored turned, with its EXIF tag, is answered like the upright one."""
    upright = drawn()
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    answers = [record(str(tmp_path / name), QUESTION) for name in ("upright.png", "turned.png")]
    assert answers[0]["answer"] == answers[1]["answer"]
    assert answers[0]["boxes"] == answers[1]["boxes"]


def test_a_profile_is_a_schedule(record, picture, tmp_path):
    """-p FILE runs the stages that the file says, and the record says whence they came."""
    path = tmp_path / "mine.yaml"
    path.write_text("title: mine\naction: reroute\nstages:\n- {layer: 3, keep_ratio: 0.25}\n")
    found = record(picture, QUESTION, "-p", str(path), *SHORT)
    assert [(stage["layer"], stage["kept"]) for stage in found["schedule"]["stages"]] == [(3, 64)]
    assert (found["schedule"]["profile"], found["schedule"]["method"]) == (str(path), None)


def test_random_weights_are_called_random(run, record, picture, tiny_qwen):
    """A tiny Qwen2.5-VL with dummy weights runs under a schedule; record and card say what it is."""
    options = ("-m", tiny_qwen, "--load-format", "dummy", "--max-new-tokens", "4", *ROUTED)
    found = record(picture, QUESTION, *options)
    assert (found["model"]["family"], found["model"]["weights"]) == ("qwen2_5_vl", "random")
    assert found["tokens"]["visual_tokens"] == 64
    assert found["flops"]["prefill_flops"] < found["flops"]["dense_prefill_flops"]
    assert "random weights" in run("ask", picture, QUESTION, *options).stderr
