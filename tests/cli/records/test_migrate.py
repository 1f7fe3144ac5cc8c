"""Records of version 1 are read as if this release had written them: same numbers, today's names."""

import json
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest

from reroute_cli.console.errors import Failure
from reroute_cli.records.migrate import NAMES, upgraded
from reroute_cli.records.reading import checked, read_report
from reroute_cli.records.schema import KINDS, model_of, name_of, schema_of
from reroute_cli.views.write.inputs import (
    read_input,
)

OLD = Path(__file__).resolve().parents[2] / "fixtures" / "records" / "1"
SCENES = Path(__file__).resolve().parents[3] / "samples"
FILES = sorted(OLD.glob("*.json*"))


def _records(path):
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    return [json.loads(line) for line in lines]


def _stands_in(part, whole):
    """Whether all of a record is in another one, which may say more: what has a default."""
    if isinstance(part, dict):
        return all(name in whole and _stands_in(value, whole[name]) for name, value in part.items())
    if isinstance(part, list):
        return len(part) == len(whole) and all(map(_stands_in, part, whole))
    return part == whole


def _numbers(value):
    """Every number in a record, sorted: what a change of names leaves alone."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return sorted(number for part in value for number in _numbers(part))
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_record_of_version_1_is_a_valid_one_of_version_2(path):
    """Each validates strictly, obeys today's schema and comes back from its model as it went in."""
    for old in _records(path):
        new = upgraded(old)
        kind = old["schema"].removeprefix("reroute.").removesuffix("/1")
        assert new["schema"] == name_of(kind) == f"reroute.{kind}/2"
        jsonschema.validate(new, schema_of(kind))
        record = checked(path, new, model_of(kind), "")
        record = getattr(record, "root", record)
        assert _stands_in(new, record.as_dict())
        assert upgraded(new) is new


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_number_changes_but_the_prefill_that_now_includes_scoring(path):
    """Sums apart, the numbers of a record are those that were in it."""
    for old in _records(path):
        before, after = _numbers(old), _numbers(upgraded(old))
        for number in before:
            if number in after:
                after.remove(number)
        kind = old["schema"].removeprefix("reroute.").removesuffix("/1")
        parts = {"answer": [old.get("flops")], "plan": [old.get("dense"), old.get("routed")]}.get(kind, [])
        names = ("prefill", "scoring") if kind == "answer" else ("prefill_flops", "scoring_flops")
        sums = sorted(sum(part[name] for name in names) for part in parts if part)
        assert set(after) <= set(sums)


def test_every_kind_of_version_2_has_a_way_from_version_1():
    """Whatever got a new number is still read, but for lists, which nothing reads; each is tried above."""
    assert {kind for kind, (version, _) in KINDS.items() if version == 2} - {"profile", "profiles"} == set(
        NAMES
    )
    tried = {record["schema"] for path in FILES for record in _records(path)}
    assert tried == {f"reroute.{kind}/1" for kind in NAMES}


def test_the_words_move_to_where_version_2_has_them():
    """A prefill gets its scoring, a model its device, a metric its name."""
    answer = json.loads((OLD / "answer.json").read_text())
    flops = upgraded(answer)["flops"]
    assert flops["prefill_flops"] == answer["flops"]["prefill"] + answer["flops"]["scoring"]
    report = json.loads((OLD / "report.json").read_text())
    found = read_report(OLD / "report.json")
    assert found.model.device == report["protocol"]["device"]
    assert found.model.config_digest == report["workload"]["model"]["config_digest"]
    arm = found.arms[1].metrics["visual_tokens_per_layer"]
    assert arm.values == report["arms"][1]["metrics"]["visual_tokens"]["values"]
    sweep = upgraded(json.loads((OLD / "sweep.json").read_text()))
    assert {front["cost"] for front in sweep["fronts"]} <= set(sweep["arms"][0]["costs"])


def test_a_prefill_is_unknown_where_the_scoring_in_it_is():
    """Version 1 knew the decoder's part alone, which is no prefill any more."""
    old = json.loads((OLD / "answer.json").read_text())
    old["flops"] |= {"scoring": None, "reasons": {"scoring": "no tower"}}
    new = upgraded(old)
    assert new["flops"]["prefill_flops"] is None
    assert new["flops"]["reasons"] == dict.fromkeys(("prefill_flops", "scoring_flops"), "no tower")
    checked(OLD, new, model_of("answer"), "")


@pytest.mark.parametrize(
    "damage",
    [
        lambda old: old.pop("model"),
        lambda old: old.update(model=[]),
        lambda old: old.update(flops="many"),
        lambda old: old["flops"].update(prefill="many"),
        lambda old: old["flops"].update(prefill_flops=1),
        lambda old: old["flops"].update(reasons=3),
        lambda old: old.update(environment=7),
        lambda old: old.update(tokens=[[[{"visual": 1}]]]),
        lambda old: old["model"].update(reasons=[]),
        lambda old: old.update(generation={}),
        lambda old: old.update(reroute={}),
    ],
)
def test_a_damaged_record_of_version_1_is_refused_in_one_sentence(tmp_path, damage):
    """Wrong types, missing parts and both names at once end as any broken record does."""
    old = json.loads((OLD / "answer.json").read_text())
    damage(old)
    file = tmp_path / "x.json"
    file.write_text(json.dumps(old))
    with pytest.raises(Failure, match=r"x\.json.* does not match reroute\.answer/2") as caught:
        read_input(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("filler", [None, 7, "x", [], {}, [7], [{}], {"*": 7}], ids=repr)
def test_whatever_stands_in_a_record_of_version_1_is_no_bug(kind, filler):
    """Each part of each kind replaced by something else: read or refused in a sentence, never a bug."""
    old = next(one for file in FILES for one in _records(file) if one["schema"] == f"reroute.{kind}/1")
    for name in old:
        if name != "schema":
            new = upgraded(old | {name: filler})
            with suppress(Failure):
                checked(OLD, new, model_of(kind), "")


def test_an_old_report_is_compared_with(run, tmp_path):
    """`compare` of a version 1 baseline with itself passes; so does one written anew."""
    old = str(OLD / "report.json")
    again = tmp_path / "again.json"
    again.write_text(json.dumps(read_report(OLD / "report.json").as_dict()))
    for pair in ((old, old), (old, str(again)), (str(again), old)):
        result = run("compare", *pair)
        assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("warm")
def test_an_old_report_is_a_baseline(run, tmp_path):
    """`profile --baseline` measures the same work again and finds every exact number where it was."""
    same = ("--method", "nuwa", "--ratio", "0.5", "--limit", "1", "--repeat", "1", "--warmup", "0")
    result = run("profile", *same, "--max-new-tokens", "3", "--baseline", str(OLD / "report.json"))
    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("kind", ["answers", "eval"])
def test_a_file_of_old_answers_is_continued(run, tmp_path, kind):
    """Answers of version 1 are not asked again, and count in the summary as new ones do."""
    file, out = tmp_path / f"{kind}.jsonl", tmp_path / "out.json"
    file.write_bytes((OLD / f"{kind}.jsonl").read_bytes())
    lines = (SCENES / "manifest.jsonl").read_text().splitlines()
    count, tokens = (2, "3") if kind == "answers" else (3, "2")
    items = [json.loads(line) for line in lines[:count]]
    items = [item | {"image": str(SCENES / item["image"])} for item in items]
    manifest = tmp_path / "items.jsonl"
    manifest.write_text("".join(json.dumps(item) + "\n" for item in items))
    how = ("--manifest", str(manifest), "--method", "nuwa", "--ratio", "0.5", "--max-new-tokens", tokens)
    rest = (
        ("-o", str(file), "--summary", str(out))
        if kind == "answers"
        else ("--records", str(file), "-o", str(out))
    )
    result = run("batch" if kind == "answers" else "eval", *how, *rest)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    resumed = found["counts"]["resumed"] if kind == "answers" else found["this_run"]["resumed"]
    assert (resumed, found["this_run"]["answered"]) == (count if kind == "answers" else 2 * count, 0)
    written = json.loads((OLD / ("batch.json" if kind == "answers" else "eval.json")).read_text())
    old = written["means"] if kind == "answers" else written["arms"][1]["cost"]
    new = found["means"] if kind == "answers" else found["arms"][1]["cost"]
    assert new["prefill_flops"] == old["prefill_flops"]
    assert new["visual_tokens_per_layer"] == old["average_visual"]


def test_measured_blocks_of_an_old_sweep_are_read(tmp_path):
    """A file of a sweep's records holds costs of version 1, each with a report in it."""
    from reroute_cli.records.store import RecordFile

    file = tmp_path / "sweep.jsonl"
    file.write_bytes((OLD / "sweep.jsonl").read_bytes())
    with RecordFile(file) as records:
        blocks = [record for record in records.records() if record["schema"] == name_of("cost")]
        assert len(blocks) == 1
        assert records.get(blocks[0]["key"]) == blocks[0]
    assert "visual_tokens_per_layer" in model_of("cost").model_validate(blocks[0]).report.arms[1].metrics
