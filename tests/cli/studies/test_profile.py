"""`reroute profile`: the report's numbers against arithmetic, against `ask`, and against each other."""

import csv
import io
import json
import statistics
from itertools import chain

import pytest

from reroute_cli.console.options import ModelOptions
from reroute_cli.models import load as models
from reroute_cli.models.shapes import read_shape
from routing import solve
from routing.cost import PromptSize, cost
from tests.cli.published import checked

ARMS = ("--arms", "nuwa:prune,pdrop:reroute", "--ratio", "0.9")
LENGTH = 4
ROUNDS = 3
SHORT = ("--limit", "1", "--warmup", "0", "--repeat", "1", "--max-new-tokens", "2")


@pytest.fixture(scope="module")
def profiled(pocket):
    """One run of three arms over two sample scenes: its JSON, its exit code and what stderr said."""
    from typer.testing import CliRunner

    from reroute_cli.app import app

    load = models.load
    models.load = lambda options: pocket if options == ModelOptions() else load(options)
    words = [*ARMS, "--limit", "2", "--repeat", str(ROUNDS), "--max-new-tokens", str(LENGTH), "--json"]
    try:
        return CliRunner().invoke(app, ["profile", *words])
    finally:
        models.load = load


@pytest.fixture(scope="module")
def report(profiled):
    """The report of that run."""
    assert profiled.exit_code == 0, profiled.output
    return checked(profiled.stdout)


@pytest.fixture(scope="module")
def expected(report):
    """Arithmetic for an arm and an item: the schedule, and its cost from shapes alone."""
    shaped = read_shape("pocket")

    def arithmetic(column, row):
        arm, item = report.arms[column], report.workload.items[row]
        options = {"layers": len(shaped.shape.layers), "visual": item.visual_tokens}
        if arm.method == "nuwa":
            options["vision_scorer"] = "cls"
        action = arm.action or "prune"
        schedule = solve(arm.method or "none", action=action, ratio=arm.ratio or 0.0, **options)
        prompts = [PromptSize(item.prompt_tokens - item.visual_tokens, item.visual_tokens)]
        return schedule, cost(shaped.shape, schedule, prompts, LENGTH, 4, shaped.grids)

    return arithmetic


CELLS = [(column, row) for column in range(3) for row in range(2)]


@pytest.mark.parametrize(("column", "row"), CELLS)
def test_flops_are_those_of_the_arithmetic(report, expected, column, row):
    """Counted while running equals the closed forms, integer for integer, for each arm and item."""
    _, costs = expected(column, row)
    metrics = report.arms[column].metrics
    scoring = costs.scoring_flops + costs.anchor_flops
    assert metrics["vision_flops"].values[row] == [costs.vision_flops]
    assert metrics["scoring_flops"].values[row] == [scoring]
    assert metrics["prefill_flops"].values[row] == [costs.prefill_flops + scoring]
    assert metrics["decode_flops"].values[row] == [costs.decode_flops]


@pytest.mark.parametrize(("column", "row"), CELLS)
def test_the_kv_cache_is_that_of_the_arithmetic(report, expected, column, row):
    """Bytes after the prefill are text and kept tokens of each layer; each further token adds one to each."""
    _, costs = expected(column, row)
    arm = report.arms[column]
    item = arm.items[row]
    assert item.kv_cache_prefill.per_layer_bytes == list(costs.kv_bytes)
    assert item.kv_cache_prefill.per_layer_tokens == list(costs.widths)
    assert item.kv_cache_prefill.logical_tokens == report.workload.items[row].prompt_tokens
    assert item.kv_cache_end.per_layer_tokens == [width + LENGTH - 1 for width in costs.widths]
    assert arm.metrics["kv_prefill"].values[row] == [sum(costs.kv_bytes)]
    assert arm.metrics["kv_end"].values[row] == [sum(item.kv_cache_end.per_layer_bytes)]
    assert item.kv_cache_end.dense_bytes == sum(report.arms[0].items[row].kv_cache_end.per_layer_bytes)


@pytest.mark.parametrize(("column", "row"), CELLS)
def test_visual_tokens_are_those_of_the_schedule(report, expected, column, row):
    """What each layer processed is what the schedule says, and the average follows from it."""
    schedule, _ = expected(column, row)
    arm, asked = report.arms[column], report.workload.items[row]
    item = arm.items[row]
    assert item.per_layer_visual_tokens == list(schedule.tokens_per_layer(asked.visual_tokens, 12))
    assert arm.metrics["visual_tokens_per_layer"].values[row] == [
        schedule.average_tokens(asked.visual_tokens, 12)
    ]
    assert item.achieved_ratio == pytest.approx(schedule.achieved_ratio(asked.visual_tokens, 12))
    assert item.schedule_digest == schedule.digest()


@pytest.mark.parametrize("column", range(3))
@pytest.mark.usefixtures("warm")
def test_answers_are_those_of_ask(report, record, column):
    """The same picture, question, schedule and length through `ask` give the same answer and stages."""
    from pathlib import Path

    from reroute_cli.data.items import samples_manifest

    arm, asked = report.arms[column], report.workload.items[1]
    words = ["--method", arm.method, "--action", arm.action, "--ratio", "0.9"] if arm.method else []
    picture = str(Path(samples_manifest()).parent / asked.images[0])
    found = record(picture, asked.question, *words, "--max-new-tokens", str(LENGTH))
    item = arm.items[1]
    assert (item.answer, item.finish) == (found["answer"], found["tokens"]["finish"])
    assert [stage.model_dump() for stage in item.stages] == found["schedule"]["stages"]
    assert item.schedule_digest == found["schedule"]["digest"]


def test_agreement_is_equality_with_the_dense_answer(report):
    """The dense arm agrees with itself; another arm's answer agrees when it is the same text."""
    dense = report.dense.items
    for arm in report.arms:
        same = [item.answer == other.answer for item, other in zip(arm.items, dense, strict=True)]
        assert [item.agrees for item in arm.items] == same
        assert arm.metrics["agreement"].values == [[int(equal)] for equal in same]


def test_every_time_has_a_value_for_each_item_and_round(report):
    """Nothing is averaged away: 2 items × 3 rounds, and parts that add up in each of them."""
    for arm in report.arms:
        times = {name: arm.metrics[name].values for name in ("ttft", "vision", "prefill", "decode", "e2e")}
        assert {tuple(map(len, values)) for values in times.values()} == {(ROUNDS,) * 2}
        for row in range(2):
            for number in range(ROUNDS):
                ttft, vision, prefill, decode, e2e = (part[row][number] for part in times.values())
                assert vision + prefill == pytest.approx(ttft)
                assert ttft + decode == pytest.approx(e2e)
                tpot = arm.metrics["tpot"].values[row][number]
                assert tpot == pytest.approx(decode / (LENGTH - 1))
                rate = arm.metrics["output_rate"].values[row][number]
                assert rate == pytest.approx(LENGTH / e2e)


def test_itl_is_every_gap_and_the_gaps_lie_inside_of_decode(report):
    """2 items × 3 rounds × 3 gaps, pooled: those of one answer are its decode but for the return."""
    for arm in report.arms:
        gaps, decode = arm.metrics["itl"], arm.metrics["decode"].values
        assert (gaps.n, [len(values) for values in gaps.values]) == (2 * ROUNDS * (LENGTH - 1), [9, 9])
        for row in range(2):
            for number in range(ROUNDS):
                answer = gaps.values[row][number * 3 : number * 3 + 3]
                assert min(answer) > 0
                assert sum(answer) <= decode[row][number] + 1e-9
        assert gaps.p50 == pytest.approx(statistics.median(chain.from_iterable(gaps.values)))
        assert (gaps.p95, gaps.p99) == (None, None)
        assert gaps.reasons == {"p95": "p95 needs 20 values: 18", "p99": "p99 needs 100 values: 18"}
        assert arm.metrics["request_rate"].values[0][0] == pytest.approx(1 / arm.metrics["e2e"].values[0][0])
        assert "--slo" in arm.unknown["goodput"]


def test_ratios_of_percentiles_are_quotients_of_percentiles(report):
    """ITL's p90 over dense's, with an interval over answers; no p99 of 18 gaps, and none of six TTFTs."""
    assert report.dense.percentile_ratios == {}
    for arm in report.arms[1:]:
        assert {name: list(found) for name, found in arm.percentile_ratios.items()} == {"itl": ["p90"]}
        ratio = arm.percentile_ratios["itl"]["p90"]
        assert ratio.value == pytest.approx(arm.metrics["itl"].p90 / report.dense.metrics["itl"].p90)
        assert ratio.low <= ratio.value <= ratio.high


def test_ratios_are_quotients_with_intervals_around_them(report):
    """Exact metrics: the quotient of sums, as a point. Times: of medians, inside their interval."""
    dense = report.dense
    assert dense.ratios == {}
    for arm in report.arms[1:]:
        flops = arm.ratios["prefill_flops"]
        sums = [sum(map(sum, part.metrics["prefill_flops"].values)) for part in (arm, dense)]
        assert flops.value == flops.low == flops.high == sums[0] / sums[1]
        ttft = arm.ratios["ttft"]
        medians = [
            statistics.median(chain.from_iterable(part.metrics["ttft"].values)) for part in (arm, dense)
        ]
        assert ttft.value == pytest.approx(medians[0] / medians[1])
        assert ttft.low <= ttft.value <= ttft.high
        assert ttft.low < ttft.high
        assert "preprocess" not in arm.ratios


def test_arms_are_named_and_say_what_they_are(report):
    """Dense first, then METHOD-ACTION in the order typed."""
    shown = [(arm.name, arm.method, arm.action, arm.profile, arm.ratio) for arm in report.arms]
    assert shown == [
        ("dense", None, None, None, None),
        ("nuwa-prune", "nuwa", "prune", None, 0.9),
        ("pdrop-reroute", "pdrop", "reroute", None, 0.9),
    ]


def test_what_a_cpu_can_t_tell_is_unknown_with_its_reason(report):
    """GPU peaks and energy are in `unknown`, never 0."""
    gpu = {"torch_peak_allocated", "torch_peak_reserved", "nvml_process_peak", "nvml_device_peak", "energy"}
    for arm in report.arms:
        assert set(arm.unknown) == gpu | {"goodput"}
        assert {arm.unknown[name] for name in gpu} == {"no CUDA GPU in use"}


def test_the_workload_decides_what_may_be_compared(report):
    """Model, items by digest, forced length, batch and seed are all there."""
    workload = report.workload
    assert (report.model.id, report.model.weights, workload.batch_size) == ("pocket", "loaded", 1)
    assert len(report.model.config_digest) == 64
    assert (workload.new_tokens, workload.seed) == (LENGTH, 0)
    assert [item.id for item in workload.items] == ["desk-0", "station-0"]
    assert len({item.digest for item in workload.items}) == 2
    assert (report.protocol.warmup, report.protocol.rounds) == (1, ROUNDS)


def test_stderr_says_how_much_of_the_samples_was_measured(profiled):
    """Two of 42 are not all of them; without a terminal there is no bar."""
    assert profiled.stderr == "measuring 2 of 42 items, spread evenly; see --limit\n"


@pytest.mark.usefixtures("warm")
def test_output_holds_the_report_and_stdout_the_table(run, tmp_path):
    """-o writes the JSON beside whatever the format shows."""
    target = tmp_path / "report.json"
    result = run("profile", "--method", "fastv", "--ratio", "0.9", *SHORT, "-o", str(target))
    assert result.exit_code == 0, result.output
    report = checked(target.read_text())
    assert [arm.name for arm in report.arms] == ["dense", "fastv-prune"]
    assert result.stdout.startswith("fastv prune at 0.9: prefill 0.1")
    assert "no intervals: an interval needs 6 pairs of values" in " ".join(result.stdout.split())
    assert report.arms[1].ratios["ttft"].low is None
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.usefixtures("warm")
def test_requests_are_served_together_under_objectives(run, picture):
    """--batch-size, --slo and --warmup auto in one run: passes, goodput and warm-up stand in the report."""
    words = ("--slo", "ttft:1000s,itl:1000s", "--batch-size", "2", "--warmup", "auto", "--repeat", "1")
    asked = ("-Q", "where is the cup?", "--max-new-tokens", "2", "--json", "--quiet")
    report = checked(run("profile", picture, picture, *asked, *words).stdout)
    assert (report.workload.batch_size, report.workload.passes) == (2, [[0, 1]])
    assert report.protocol.slo == {"ttft": 1000.0, "itl": 1000.0}
    auto = report.protocol.warmup_auto
    assert 3 <= len(auto.seconds) == report.protocol.warmup <= 10
    (pass_,) = report.dense.metrics["e2e"].values
    assert report.dense.metrics["goodput"].values == [[pytest.approx(2 / pass_[0])]]
    assert report.dense.requests_met == 2


@pytest.mark.usefixtures("warm")
def test_pictures_of_one_s_own_are_items_of_one_question(run, picture, tmp_path):
    """Each named picture is an item with the question, called after its file; a profile is an arm."""
    words = ("-Q", "where is the cup?", "-p", "pocket-reroute", *SHORT[2:], "--json", "--quiet")
    result = run("profile", picture, picture, *words)
    report = checked(result.stdout)
    assert result.stderr == ""
    assert [item.id for item in report.workload.items] == ["picture.png", "picture.png#2"]
    assert [item.images for item in report.workload.items] == [[picture]] * 2
    arm = report.arms[1]
    assert (arm.name, arm.method, arm.profile) == ("pocket-reroute", None, "pocket-reroute")
    assert arm.items[0].stages[0].layer == 3


@pytest.mark.usefixtures("warm")
def test_without_a_schedule_the_dense_model_is_measured_alone(run):
    """One arm, no ratio; at one token nothing follows, so TPOT and decode are unknown, and decode FLOPs 0."""
    result = run("profile", *SHORT[:6], "--max-new-tokens", "1", "--format", "csv")
    rows = {row["metric"]: row for row in csv.DictReader(io.StringIO(result.stdout))}
    assert {row["arm"] for row in rows.values()} == {"dense", "(process)"}
    assert rows["tpot"]["unknown"] == rows["decode"]["unknown"] == "there is only one new token"
    assert rows["decode_flops"]["max"] == "0"
    assert rows["ttft"]["ratio"] == ""


@pytest.mark.usefixtures("warm")
def test_a_manifest_names_items_of_its_own(run, picture, tmp_path):
    """Pictures are relative to the manifest; ids are its own, or the line's."""
    lines = [
        {"id": "first", "image": "picture.png", "question": "where is the cup?", "answer": "ignored"},
        {"image": "picture.png", "question": "where is the car?"},
    ]
    manifest = tmp_path / "items.jsonl"
    manifest.write_text("\n\n".join(json.dumps(line) for line in lines))
    result = run("profile", "--manifest", str(manifest), *SHORT[2:], "--json")
    report = checked(result.stdout)
    assert [item.id for item in report.workload.items] == ["first", "line 3"]
    assert [item.images for item in report.workload.items] == [["picture.png"]] * 2
