"""One word has one meaning: for one question under one schedule equal names are equal numbers."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reroute_cli.app import app
from reroute_cli.integrations.lmms_eval.costs import (
    TaskSums,
    costs_of,
)
from reroute_cli.integrations.lmms_eval.requests import ChatAnswer
from reroute_cli.records.answer import AnswerRecord
from reroute_cli.run.schedules import ScheduleChoice

NUWA = ("--method", "nuwa", "--ratio", "0.6")
NEW = 3
SHORT = ("--max-new-tokens", str(NEW))
SCENES = Path(__file__).resolve().parents[3] / "samples"
COUNTS = ("visual_tokens", "visual_tokens_per_layer", "prompt_tokens", "new_tokens")
FLOPS = ("vision_flops", "prefill_flops", "scoring_flops", "decode_flops")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """One question with its true answer."""
    item = json.loads((SCENES / "manifest.jsonl").read_text().splitlines()[0])
    path = tmp_path_factory.mktemp("words") / "one.jsonl"
    path.write_text(json.dumps(item | {"image": str(SCENES / item["image"])}) + "\n")
    return str(path), item


@pytest.fixture(scope="module", params=[NUWA, ()], ids=["nuwa", "dense"])
def said(request, pocket, manifest, tmp_path_factory):
    """What every command says of that question: kind of record -> its numbers by name."""
    path, item = manifest
    how, folder, routed = request.param, tmp_path_factory.mktemp("said"), bool(request.param)
    out = {kind: folder / f"{kind}.json" for kind in ("report", "eval", "sweep", "batch", "plan", "answer")}
    arms = ("--arms", "nuwa:prune", "--ratios", "0.6", "--cost-items", "0")
    lines = [
        ("ask", str(SCENES / item["image"]), item["question"], *how, *SHORT, "-o", str(out["answer"])),
        ("batch", "--manifest", path, *how, *SHORT, "--summary", str(out["batch"])),
        (
            "profile",
            "--manifest",
            path,
            *how,
            *SHORT,
            "--repeat",
            "1",
            "--warmup",
            "0",
            "-o",
            str(out["report"]),
        ),
        ("eval", "--manifest", path, *how, *SHORT, "-o", str(out["eval"])),
        ("sweep", "--manifest", path, *arms, *SHORT, "-o", str(out["sweep"])),
    ]
    for line in lines:
        result = CliRunner().invoke(app, line)
        assert result.exit_code == 0, result.output
    found = {kind: json.loads(file.read_text()) for kind, file in out.items() if file.exists()}
    answer = found["answer"]
    text = answer["tokens"]["prompt_tokens"] - answer["tokens"]["visual_tokens"]
    planned = CliRunner().invoke(
        app, ["plan", *how, "--text-tokens", str(text), "--dtype", "float32", "--json"]
    )
    found["plan"] = json.loads(planned.stdout)
    return {
        "answer": _flat(answer["tokens"], answer["flops"], answer["kv_cache"], answer["schedule"]),
        "batch": _flat(found["batch"]["means"]),
        "eval": _flat(found["eval"]["arms"][-1]["cost"], found["eval"]["arms"][-1]["made"]),
        "lmms_costs": _lmms(answer),
        "plan": _plan(found["plan"]),
        "report": _report(found["report"]),
        "sweep": _sweep(found["sweep"]["arms"][1 if routed else 0]),
    }


def _flat(*parts):
    """The numbers of a record's parts."""
    pairs = [pair for part in parts for pair in part.items()]
    return {name: value for name, value in pairs if isinstance(value, int | float)}


def _lmms(plain):
    """The record of a run under lmms-eval that had this one answer."""
    record = AnswerRecord.model_validate(plain)
    tokens, kv = record.tokens, record.kv_cache
    sums = TaskSums()
    sums.add(
        ChatAnswer(
            text=record.answer,
            prompt=tokens.prompt_tokens,
            visual=tokens.visual_tokens,
            new=tokens.new_tokens,
            average=tokens.visual_tokens_per_layer,
            kv=kv.kv_end_bytes,
            dense_kv=kv.dense_kv_end_bytes,
            seconds=record.latency.e2e_s,
        )
    )
    means = costs_of({"one": sums}, record.model, ScheduleChoice(), 1).as_dict()["total"]["means"]
    return _flat(means, means["visual"])


def _plan(plan):
    """A plan's numbers, those of the dense model under dense_..."""
    dense = {f"dense_{name}": value for name, value in _flat(plan["dense"]).items()}
    ratios = {f"{name}_ratio": value for name, value in plan["ratios"].items()}
    return _flat(plan["tokens"], plan["schedule"], plan["routed"] or plan["dense"], dense, ratios)


def _report(report):
    """A report's metrics of the last arm under the names that other records have, with their units."""
    arm, dense, item = report["arms"][-1], report["arms"][0], report["workload"]["items"][0]
    suffix = {"bytes": "_bytes", "s": "_s"}
    values = {f"{name}{suffix.get(one['unit'], '')}": one["mean"] for name, one in arm["metrics"].items()}
    values |= {f"dense_{name}": dense["metrics"][name]["mean"] for name in ("prefill_flops", "vision_flops")}
    values |= {f"dense_{name}_bytes": dense["metrics"][name]["mean"] for name in ("kv_prefill", "kv_end")}
    ratios = {f"{name}_ratio": ratio["value"] for name, ratio in arm["ratios"].items()}
    return _flat(values, ratios, item, arm["items"][0]) | {"new_tokens": report["workload"]["new_tokens"]}


def _sweep(arm):
    suffix = {"bytes": "_bytes", "s": "_s"}
    values = {f"{name}{suffix.get(one['unit'], '')}": one["value"] for name, one in arm["costs"].items()}
    ratios = {f"{name}_ratio": one["ratio_to_dense"] for name, one in arm["costs"].items()}
    return _flat(values, ratios, arm["made"], {"visual_tokens_per_layer": arm["visual_tokens_per_layer"]})


NUMBERS = [
    *COUNTS,
    *FLOPS,
    "dense_prefill_flops",
    "dense_vision_flops",
    "kv_prefill_bytes",
    "kv_end_bytes",
    "dense_kv_end_bytes",
    "prefill_flops_ratio",
    "kv_prefill_ratio",
    "kv_end_ratio",
    "achieved_ratio",
]


@pytest.mark.parametrize("name", NUMBERS)
def test_equal_names_are_equal_numbers(said, name):
    """Two records at least have the number, and all that have it have the same."""
    found = {kind: numbers[name] for kind, numbers in said.items() if name in numbers}
    if name.endswith("_ratio") and name != "achieved_ratio":
        found |= {"quotient": _quotient(said, name)}
    assert len(found) >= 2, found
    assert len({round(value, 9) for value in found.values()}) == 1, found


def _quotient(said, name):
    """A ratio is the routed number over the dense one, whatever record has them."""
    numbers = said["plan"] | said["answer"]
    whole = name.removesuffix("_ratio")
    whole = whole if whole in numbers else f"{whole}_bytes"
    return numbers[whole] / numbers[f"dense_{whole}"]


def test_scoring_is_a_part_of_the_prefill(said):
    """Everywhere; where nothing is removed it is nothing, and the prefill is the dense one."""
    for kind, numbers in said.items():
        if "scoring_flops" in numbers and "prefill_flops" in numbers:
            assert numbers["prefill_flops"] >= numbers["scoring_flops"] >= 0, kind
    answer, plan = said["answer"], said["plan"]
    assert plan["prefill_flops"] == plan["unscored_prefill_flops"] + plan["scoring_flops"]
    dense = answer["visual_tokens"] == answer["visual_tokens_per_layer"]
    assert (answer["scoring_flops"] == 0) == dense
    assert (answer["prefill_flops"] == answer["dense_prefill_flops"]) == dense
    total = sum(answer[f"{part}_flops"] for part in ("vision", "prefill", "decode"))
    assert said["batch"]["total_flops"] == total


def test_tokens_per_layer_are_the_mean_of_all_layers(said):
    """visual_tokens is the prompt's; the reduction ratio says how much less an average layer has."""
    answer = said["answer"]
    assert answer["visual_tokens"] == 256
    left = answer["visual_tokens_per_layer"] / answer["visual_tokens"]
    assert answer["achieved_ratio"] == pytest.approx(1 - left)
