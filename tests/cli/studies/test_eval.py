"""`reroute eval`: scores against an independent scorer, answers against `batch`, a report that says how."""

import csv
import io
import json
from pathlib import Path

import jsonschema
import pytest
from scipy import stats

from reroute_cli.records.evaluation import Evaluation
from reroute_cli.records.schema import schema_of

MANIFEST = Path(__file__).resolve().parents[3] / "samples" / "manifest.jsonl"
ROUTED = ("--method", "pdrop", "--action", "reroute", "--ratio", "0.8")
BOTH = ("--arms", "pdrop", "--ratio", "0.8")

pytestmark = pytest.mark.usefixtures("warm")


def refuse(name):
    """NaN and infinity are no JSON."""
    raise AssertionError(name)


def checked(text):
    """The report in this JSON, valid by the published schema and unchanged by a round trip."""
    plain = json.loads(text, parse_constant=refuse)
    jsonschema.validate(plain, schema_of("eval"), cls=jsonschema.Draft202012Validator)
    assert Evaluation.model_validate(plain).as_dict() == plain
    return plain


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where this module's runs keep their answers: what one has asked costs the next nothing."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def evaluate(run, kept):
    """Run `eval` over the sample questions and give the report back."""

    def evaluated(*arguments, code=0):
        common = ("--manifest", str(MANIFEST), "--records", str(kept / "r.jsonl"))
        result = run("eval", *common, *arguments, "--json")
        assert result.exit_code == code, result.output
        return checked(result.stdout)

    return evaluated


def said(report, arm):
    """Every answer of an arm by its item's id."""
    return {item["id"]: item["said"][arm] for item in report["items"]}


def test_the_scores_are_those_of_the_independent_scorer(evaluate, pocket):
    """The scorer that trained the model reads the same 42 answers: right or wrong and IoU, item by item."""
    from samples.pocket_training import evaluate as other

    items = other.read_manifest(MANIFEST)
    theirs = {found.item.id: found for found in other.evaluate(pocket.model, pocket.processor, items)}
    report = evaluate(*BOTH)
    ours = said(report, "dense")
    assert {name: found["right"] for name, found in ours.items()} == {
        name: found.right for name, found in theirs.items()
    }
    boxes = [found for found in theirs.values() if found.iou is not None]
    for found in boxes:  # ours rounds a box to hundredths of a pixel
        assert ours[found.item.id]["iou"] == pytest.approx(found.iou, abs=0.002)
    scores = report["arms"][0]["overall"]["scores"]
    assert scores["box_acc_at_05"]["value"] == pytest.approx(sum(found.right for found in boxes) / len(boxes))
    assert (scores["box_acc_at_05"]["n"], scores["words_right"]["n"]) == (len(boxes), 42 - len(boxes))


def test_two_arms_say_what_two_batches_say(evaluate, run):
    """Each arm's answers are those of `reroute batch` under the same schedule alone, item by item."""
    report = evaluate(*BOTH, "--limit", "21")
    for action in ("prune", "reroute"):
        choice = ("--method", "pdrop", "--action", action, "--ratio", "0.8", "--limit", "21")
        result = run("batch", "--manifest", str(MANIFEST), *choice)
        assert result.exit_code == 0, result.stderr
        alone = {record["id"]: record for record in map(json.loads, result.stdout.splitlines())}
        ours = said(report, f"pdrop-{action}")
        assert {name: found["answer"] for name, found in ours.items()} == {
            name: record["answer"] for name, record in alone.items()
        }
        assert all(found["box"] == (alone[name]["boxes"] or [None])[0] for name, found in ours.items())
        first = report["arms"][1 + (action == "reroute")]["made"]["first"]
        assert first == alone[report["items"][0]["id"]]["schedule"]


def test_the_report_counts_itself(evaluate):
    """Scores, differences, counts and tests follow from the items that are in the report."""
    report = evaluate(*BOTH)
    counts = report["counts"]
    assert (counts["questions"], counts["answered"], counts["errors"], counts["left_out"]) == (42, 126, 0, 0)
    assert report["headlines"] == ["box_acc_at_05", "words_right"]
    for name, kind in (("box_acc_at_05", "box"), ("words_right", "words")):
        asked = [item for item in report["items"] if item["truth"]["kind"] == kind]
        right = {
            arm["name"]: [item["said"][arm["name"]]["right"] for item in asked] for arm in report["arms"]
        }
        for arm in report["arms"]:
            assert arm["overall"]["scores"][name]["value"] == pytest.approx(
                sum(right[arm["name"]]) / len(asked)
            )
        for part in (
            report["arms"][1]["overall"]["to_dense"][name],
            report["arms"][2]["overall"]["to_prune"][name],
        ):
            mine = right["pdrop-prune" if part["base"] == "dense" else "pdrop-reroute"]
            pairs = list(zip(mine, right[part["base"]], strict=True))
            only = sum(one > other for one, other in pairs), sum(other > one for one, other in pairs)
            assert (part["only_this"], part["only_base"]) == only
            assert part["value"] == pytest.approx((only[0] - only[1]) / len(asked))
            assert part["mcnemar_p"] == pytest.approx(stats.binomtest(only[0], max(sum(only), 1)).pvalue)


def test_kinds_of_question_add_up(evaluate):
    """Every kind of the manifest has its own scores, over as many questions as it has."""
    report = evaluate(*BOTH)
    lines = [json.loads(line) for line in MANIFEST.read_text().splitlines()]
    kinds = [line["kind"] for line in lines]
    for arm in report["arms"]:
        assert list(arm["groups"]) == list(dict.fromkeys(kinds))
        for kind, part in arm["groups"].items():
            (leading,) = {part["scores"][name]["n"] for name in report["headlines"] if name in part["scores"]}
            assert leading == kinds.count(kind)


def test_costs_are_those_of_the_answers(evaluate, kept):
    """Means over the kept records, and ratios to the same answers dense."""
    report = evaluate(*BOTH)
    records = [json.loads(line) for line in (kept / "r.jsonl").read_text().splitlines()]
    for arm in report["arms"]:
        mine = [one for one in records if one["schedule"]["digest"] == arm["made"]["first"]["digest"]]
        assert len(mine) == 42
        tokens = sum(one["tokens"]["visual_tokens_per_layer"] for one in mine) / 42
        assert arm["cost"]["visual_tokens_per_layer"] == pytest.approx(tokens)
        assert arm["made"]["achieved_ratio"] == pytest.approx(1 - tokens / 256)
        kv = [sum(one["kv_cache"][name] for one in mine) for name in ("kv_end_bytes", "dense_kv_end_bytes")]
        assert arm["cost"]["kv_end_ratio"] == pytest.approx(kv[0] / kv[1])
        spent = sum(one["flops"]["prefill_flops"] for one in mine)
        assert arm["cost"]["prefill_flops_ratio"] == pytest.approx(
            spent / sum(one["flops"]["dense_prefill_flops"] for one in mine)
        )
    assert report["arms"][0]["cost"]["prefill_flops_ratio"] == report["arms"][0]["cost"]["kv_end_ratio"] == 1


def test_the_workload_says_what_was_asked(evaluate):
    """Model, source, how many of how many, and each question word for word."""
    report = evaluate(*BOTH, "--limit", "10")
    workload = report["workload"]
    assert report["model"]["id"] == "pocket"
    asked = workload["questions"]
    assert (asked["benchmark"], asked["asked"], asked["available"]) == ("manifest", 10, 42)
    assert asked["provenance"] == {"manifest": str(MANIFEST)}
    assert (workload["max_new_tokens"], workload["batch_size"]) == (64, 8)
    assert report["environment"]["packages"]["torch"]
    lines = {line["id"]: line for line in map(json.loads, MANIFEST.read_text().splitlines())}
    for item in report["items"]:
        assert item["question"] == lines[item["id"]]["question"]
        assert item["truth"]["box"] == lines[item["id"]]["box"]


def test_the_default_is_the_held_out_scenes_dense(run, kept):
    """Without options but a limit: the benchmark of the package, one arm, its scores and no difference."""
    result = run("eval", "--limit", "8", "--json", "--records", str(kept / "scenes.jsonl"))
    report = checked(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    asked = report["workload"]["questions"]
    assert (asked["benchmark"], asked["split"], asked["asked"], asked["available"]) == (
        "scenes", "heldout", 8, 4063,
    )  # fmt: skip
    (arm,) = report["arms"]
    assert (arm["name"], arm["overall"]["to_dense"], report["workload"]["max_new_tokens"]) == (
        "dense",
        {},
        32,
    )


def test_a_second_run_asks_nothing_and_says_the_same(evaluate):
    """But for its own course and the date, the report of kept answers is the report of new ones."""
    first, again = evaluate(*BOTH), evaluate(*BOTH)
    assert (again["this_run"]["answered"], again["this_run"]["resumed"]) == (0, 126)
    for report in (first, again):
        del report["this_run"], report["created"]
    assert first == again


def test_records_of_another_run_are_left_alone(run, kept):
    """A file that holds answers under other settings keeps them, and none of them is taken for one's own."""
    common = ("eval", "--manifest", str(MANIFEST), "--limit", "3", "--records", str(kept / "mixed.jsonl"))
    assert run(*common, "--max-new-tokens", "2", "--json").exit_code == 0
    report = checked(run(*common, "--json").stdout)
    assert (report["this_run"]["answered"], report["this_run"]["resumed"]) == (3, 0)
    assert len((kept / "mixed.jsonl").read_text().splitlines()) == 6


def test_the_output_file_is_what_json_prints(evaluate, kept):
    """Byte for byte the same report, written whole."""
    printed = evaluate(*ROUTED, "--limit", "6", "-o", str(kept / "o.json"))
    assert checked((kept / "o.json").read_text()) == printed


def test_csv_has_a_row_for_each_score_and_each_difference(run, evaluate, kept):
    """Numbers as in the JSON, in full."""
    report = evaluate(*BOTH)
    common = ("--manifest", str(MANIFEST), "--records", str(kept / "r.jsonl"))
    found = list(csv.DictReader(io.StringIO(run("eval", *common, *BOTH, "--format", "csv").stdout)))
    arm = report["arms"][2]
    rows = {
        (row["score"], row["minus"]): row for row in found if (row["arm"], row["group"]) == (arm["name"], "")
    }
    assert float(rows["box_acc_at_05", ""]["value"]) == arm["overall"]["scores"]["box_acc_at_05"]["value"]
    twin = arm["overall"]["to_prune"]["words_right"]
    row = rows["words_right", "pdrop-prune"]
    assert (float(row["low"]), int(row["only_this"])) == (twin["low"], twin["only_this"])
    parts = [part for one in report["arms"] for part in (one["overall"], *one["groups"].values())]
    assert len(found) == sum(len(numbers) for part in parts for numbers in part.values())


def test_cut_answers_are_counted(run, kept):
    """An answer that --max-new-tokens ended is told of: a score of halves of answers is no score."""
    common = ("eval", "--manifest", str(MANIFEST), "--limit", "3", "--records", str(kept / "mixed.jsonl"))
    result = run(*common, "--max-new-tokens", "2")
    assert "1 answer cut at --max-new-tokens 2" in " ".join(result.stdout.split()), (
        "one of the three is a box"
    )


def test_answers_that_are_not_kept_are_told_of(run):
    """Without --records a remark says so, on stderr; --quiet leaves it out."""
    common = ("eval", "--manifest", str(MANIFEST), "--limit", "1", "--max-new-tokens", "1")
    assert "add --records" in run(*common).stderr
    assert run(*common, "--quiet").stderr == ""


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_the_list_names_every_benchmark(run, form):
    """Its splits and where it comes from."""
    from reroute_cli.studies.benchmarks import BENCHMARKS, load_benchmark

    result = run("eval", "--list", *form)
    assert result.exit_code == 0
    for name in BENCHMARKS:
        assert name in result.stdout
        assert all(split in result.stdout for split in load_benchmark(name).splits)
