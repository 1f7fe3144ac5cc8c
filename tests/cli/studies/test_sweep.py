"""`reroute sweep` on a few held-out scenes: every number of its report against another way to get it."""

import csv
import io
import json
import re
from pathlib import Path

import jsonschema
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

import routing
from reroute_cli.app import app
from reroute_cli.data.items import samples_manifest
from reroute_cli.models import load as models
from reroute_cli.records.schema import schema_of

ARMS = "fastv,fastv@3:prune,fastv@3+5+8:reroute"
FAST = ("--cost-items", "2", "--cost-tokens", "2", "--warmup", "0", "--repeat", "3")
ASKED = ("--limit", "12", "--arms", ARMS, "--ratios", "0.889,0.667", *FAST)
LAYERS = {"fastv@3": (3,), "fastv@3+5+8": (3, 5, 8)}


@pytest.fixture(scope="module")
def swept(pocket, tmp_path_factory):
    """One run: its folder, with the report and the records, and its words."""
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", lambda options: pocket)
        files = ("--records", str(folder / "records.jsonl"), "-o", str(folder / "sweep.json"))
        result = CliRunner().invoke(app, ["sweep", *ASKED, *files, "--format", "csv"])
    assert result.exit_code == 0, result.output
    return folder, result


@pytest.fixture(scope="module")
def report(swept):
    """The report as plain JSON."""
    return json.loads((swept[0] / "sweep.json").read_text(), parse_constant=pytest.fail)


@pytest.fixture(scope="module")
def answers(swept, report):
    """(arm's schedule, item) -> whether it was right, judged here from the records and the manifest."""
    manifest = samples_manifest().parent / "heldout" / "manifest.jsonl"
    truths = {line["id"]: line for line in map(json.loads, manifest.read_text().splitlines())}
    lines = map(json.loads, (swept[0] / "records.jsonl").read_text().splitlines())
    records = [line for line in lines if line["schema"] == "reroute.answer/2"]
    return {
        (record["schedule"]["digest"], record["id"]): _is_right(record, truths[record["id"]])
        for record in records
    }


def _is_right(record, truth):
    if truth["box"] is None:
        return record["answer"].strip(" .").lower() == truth["answer"].lower()
    if not record["boxes"]:
        return False
    one, other = record["boxes"][0], truth["box"]
    sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    both = max(0, sides[0]) * max(0, sides[1])
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (area - both) >= 0.5


def _is_box(item):
    manifest = samples_manifest().parent / "heldout" / "manifest.jsonl"
    lines = manifest.read_text().splitlines()
    return next(line["box"] is not None for line in map(json.loads, lines) if line["id"] == item)


def _arm(report, name):
    return next(arm for arm in report["arms"] if arm["name"] == name)


def _asked(report):
    return [arm for arm in report["arms"] if arm["refused"] is None]


def test_the_report_obeys_its_schema(report, unexplained):
    """And every null in it that needs one has a reason."""
    jsonschema.validate(report, schema_of("sweep"))
    arms = [arm | {"made": None} for arm in report["arms"]]
    for arm in arms:
        assert (
            set(unexplained({name: arm[name] for name in ("visual_tokens_per_layer", "right", "reasons")}))
            == set()
        )


def test_the_kept_costs_obey_their_schema(swept):
    """A block is a record with a report of its own in it."""
    lines = map(json.loads, (swept[0] / "records.jsonl").read_text().splitlines())
    blocks = [line for line in lines if line["schema"] == "reroute.cost/2"]
    assert len(blocks) == 2
    for block in blocks:
        jsonschema.validate(block, schema_of("cost"))


def test_every_arm_is_there_and_those_out_of_reach_say_why(report):
    """Dense, four of fastv, one of each at layer 3, and the two that can't be had at 0.889."""
    assert [arm["name"] for arm in report["arms"]] == [
        "dense",
        *(f"fastv-{action} {ratio}" for action in ("prune", "reroute") for ratio in ("0.667", "0.889")),
        *(
            f"{arm} {ratio}"
            for arm in ("fastv@3-prune", "fastv@3+5+8-reroute")
            for ratio in ("0.667", "0.889")
        ),
    ]
    refused = {arm["name"]: arm["refused"] for arm in report["arms"] if arm["refused"]}
    assert list(refused) == ["fastv@3-prune 0.889", "fastv@3+5+8-reroute 0.889"]
    assert all("nearest it reaches is 0.747" in reason for reason in refused.values())


def test_an_arm_out_of_reach_is_asked_nothing(report, swept):
    """It has no answers in the records: they are those of the other arms, one an item."""
    lines = map(json.loads, (swept[0] / "records.jsonl").read_text().splitlines())
    assert sum(line["schema"] == "reroute.answer/2" for line in lines) == 12 * len(_asked(report))
    assert report["counts"] == {"items": 12, "compared": 12, "images": 12, "answers": 84, "errors": 0}


def test_right_and_wrong_are_those_of_the_recorded_answers(report, answers):
    """Each character, judged again by a judge of this file."""
    for arm in _asked(report):
        digest = arm["made"]["first"]["digest"]
        assert arm["right"] == "".join("01"[answers[digest, item]] for item in report["items"]), arm["name"]


def test_scores_and_differences_are_those_of_the_strings(report):
    """Shares, their differences to dense and between prune and reroute, and McNemar's p by scipy."""
    for score, boxes in (("box_acc_at_05", True), ("words_right", False)):
        places = [place for place, item in enumerate(report["items"]) if _is_box(item) is boxes]
        right = {arm["name"]: [arm["right"][place] == "1" for place in places] for arm in _asked(report)}
        for arm in _asked(report):
            found = arm["scores"][score]
            assert (found["value"], found["n"]) == (pytest.approx(_mean(right[arm["name"]])), len(places))
            if arm["name"] != "dense":
                _check_difference(arm["to_dense"][score], right[arm["name"]], right["dense"])
        for pair in report["pairs"]:
            _check_difference(pair["scores"][score], right[pair["reroute"]], right[pair["prune"]])


def _mean(values):
    return sum(values) / len(values)


def _check_difference(found, this, base):
    only_this = sum(one and not other for one, other in zip(this, base, strict=True))
    only_base = sum(other and not one for one, other in zip(this, base, strict=True))
    n = only_this + only_base
    assert found["value"] == pytest.approx(_mean(this) - _mean(base))
    assert (found["only_this"], found["only_base"]) == (only_this, only_base)
    assert found["mcnemar_p"] == pytest.approx(binomtest(only_this, n).pvalue if n else 1.0)


def test_pairs_are_the_same_method_and_ratio(report):
    """And the two with their layers typed, whose first layer is the same."""
    assert [(pair["prune"], pair["reroute"]) for pair in report["pairs"]] == [
        ("fastv-prune 0.667", "fastv-reroute 0.667"),
        ("fastv-prune 0.889", "fastv-reroute 0.889"),
        ("fastv@3-prune 0.667", "fastv@3+5+8-reroute 0.667"),
    ]


def test_the_achieved_average_is_the_solver_s(report):
    """Counted in the run, worked out here by the engine's solver for 256 visual tokens in 12 layers."""
    for arm in _asked(report)[1:]:
        cuts = LAYERS.get(arm["place"])
        more = {} if cuts is None else {"cuts": cuts}
        schedule = routing.solve(
            "fastv", action=arm["action"], ratio=arm["ratio"], layers=12, visual=256, **more
        )
        assert arm["visual_tokens_per_layer"] == pytest.approx(schedule.average_tokens(256, 12))
        assert arm["made"]["achieved_ratio"] == pytest.approx(schedule.achieved_ratio(256, 12))
        assert [stage["kept"] for stage in arm["made"]["first"]["stages"]] == list(schedule.counts(256, 12))


def test_costs_are_measured_and_agree_with_arithmetic(report, swept):
    """FLOPs counted in a block against those worked out for the answers to the same question."""
    lines = [json.loads(line) for line in (swept[0] / "records.jsonl").read_text().splitlines()]
    records = {
        (line["schedule"]["digest"], line["id"]): line
        for line in lines
        if line["schema"] == "reroute.answer/2"
    }
    for arm in _asked(report):
        found = arm["costs"]["prefill_flops"]
        own = [records[arm["made"]["first"]["digest"], item]["flops"] for item in report["costs"]["items"]]
        assert found["source"] == "measured"
        assert found["value"] == pytest.approx(_mean([flops["prefill_flops"] for flops in own]), rel=1e-3)
        assert arm["costs"]["ttft"]["n"] == 2 * 3


def test_ratios_of_times_have_intervals_from_pairs(report):
    """Six pairs of an item and a round are just enough; FLOPs do not vary, so theirs has no width."""
    for arm in _asked(report)[1:]:
        ttft, flops = arm["costs"]["ttft"], arm["costs"]["prefill_flops"]
        assert ttft["low"] <= ttft["ratio_to_dense"] <= ttft["high"]
        assert flops["low"] == flops["ratio_to_dense"] == flops["high"] < 1
    assert _arm(report, "dense")["costs"]["ttft"]["ratio_to_dense"] is None


def test_the_front_is_nobody_beaten(report):
    """By its definition, over the report's scores and costs; who is beaten says by whom and by how much."""
    for front in report["fronts"]:
        points = {
            arm["name"]: (arm["costs"]["prefill_flops"]["value"], -arm["scores"][front["score"]]["value"])
            for arm in _asked(report)
        }
        beaten = {
            name
            for name, (cost, score) in points.items()
            if any(a <= cost and b <= score and (a, b) != (cost, score) for a, b in points.values())
        }
        assert set(front["arms"]) == set(points) - beaten
        assert {part["arm"] for part in front["beaten"]} == beaten
        for part in front["beaten"]:
            assert part["score"]["value"] == pytest.approx(points[part["by"]][1] - points[part["arm"]][1])


def test_csv_has_every_number_once(swept, report):
    """As many rows as the report has scores, differences, costs, ratios, reasons and refusals."""
    rows = list(csv.DictReader(io.StringIO(swept[1].stdout)))
    wanted = 0
    for arm in report["arms"]:
        wanted += len(arm["scores"]) + len(arm["to_dense"]) + len(arm["costs"]) + len(arm["unknown"])
        wanted += bool(arm["refused"]) + sum(
            cost["ratio_to_dense"] is not None for cost in arm["costs"].values()
        )
    wanted += sum(len(pair["scores"]) for pair in report["pairs"])
    assert len(rows) == wanted
    mine = [row for row in rows if row["arm"] == "fastv-reroute 0.889" and row["kind"] == "difference"]
    pair = next(pair for pair in report["pairs"] if pair["reroute"] == "fastv-reroute 0.889")
    found = {(row["base"], row["name"]): float(row["value"]) for row in mine}
    assert found["fastv-prune 0.889", "words_right"] == pair["scores"]["words_right"]["value"]
    assert (
        found["dense", "words_right"]
        == _arm(report, "fastv-reroute 0.889")["to_dense"]["words_right"]["value"]
    )


@pytest.fixture(scope="module")
def again(pocket, swept):
    """A function that runs the same sweep on the same records, with more options."""

    def run(*more):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(models, "load", lambda options: pocket)
            result = CliRunner().invoke(
                app, ["sweep", *ASKED, "--records", str(swept[0] / "records.jsonl"), *more]
            )
        assert result.exit_code == 0, result.output
        return result

    return run


def test_a_second_run_asks_and_measures_nothing(again, report):
    """Its report is the first one, costs and all, but for when it was made and what it did itself."""
    second = json.loads(again("--json").stdout)
    assert second["this_run"]["answered"] == 0
    assert second["this_run"]["resumed"] == 84
    for one in (second, report := json.loads(json.dumps(report))):
        for name in ("created", "this_run", "environment"):
            one.pop(name)
    assert second == report


def test_costs_that_are_not_measured_are_estimated_and_say_so(again):
    """--cost-items 0: FLOPs and KV bytes by arithmetic, times unknown with a reason."""
    found = json.loads(again("--cost-items", "0", "--json").stdout)
    dense, arm = found["arms"][0], _arm(found, "fastv-reroute 0.889")
    assert found["costs"]["items"] == []
    assert arm["costs"]["prefill_flops"]["source"] == arm["costs"]["kv_end"]["source"] == "estimated"
    assert "ttft" not in arm["costs"]
    assert arm["unknown"]["ttft"] == "nothing was measured: --cost-items 0"
    both = [part["costs"]["prefill_flops"]["value"] for part in (arm, dense)]
    assert arm["costs"]["prefill_flops"]["ratio_to_dense"] == pytest.approx(both[0] / both[1])


def test_the_page_fits_80_columns_and_holds_what_the_report_says(again, report, monkeypatch):
    """Scores beside one another, the difference signed, the reasons below."""
    monkeypatch.setenv("COLUMNS", "80")
    page = again("-q").stdout
    assert max(map(len, page.splitlines())) <= 80
    pair = next(pair for pair in report["pairs"] if pair["reroute"] == "fastv-reroute 0.889")
    both = [_arm(report, pair[side])["scores"]["words_right"]["value"] for side in ("prune", "reroute")]
    sign = "+" if both[1] > both[0] else "−"
    line = rf"0\.889 +[•~]?{both[0]:.2f} .*[ •~]{both[1]:.2f} .*{re.escape(sign)}{abs(both[1] - both[0]):.2f}"
    assert re.search(line, page)
    assert "nearest it reaches is 0.747" in " ".join(page.split())


def test_markdown_has_a_row_for_each_line(again, report):
    """Tables of GitHub's Markdown, as wide as their heads."""
    page = again("--format", "markdown").stdout
    rows = [line for line in page.splitlines() if line.startswith("|")]
    # each line says its method and its amount: two scores and the costs, for two places
    named = [[cell.strip() for cell in row.split("|")[1:3]] for row in rows]
    places = [place for place, amount in named if amount == "0.889"]
    assert len(places) == 2 * 3
    assert places.count("fastv") == 3
    tables = re.findall(r"(?:^\|.*\n?)+", page, flags=re.MULTILINE)
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ratios", ""), "--ratios"),
        (("--arms", ""), "--arms"),
        (("--plot", "x.jpg"), "'x.jpg' ends in neither of .svg, .png"),
        (("--plot", "svg"), ".svg, .png"),
        (("--cost-items", "0", "--against", "ttft"), "--against ttft needs measured times"),
        (("--json", "--format", "csv"), "--json and --format csv"),
        (("--bench", "nothing"), "nothing"),
        (("--bench", "scenes", "--manifest", "x.jsonl"), "--bench"),
        (("--budgets", "64", "--ratios", "0.5"), "--budgets"),
    ],
)
def test_what_makes_no_sense_is_said_before_a_model_is_loaded(run, fails, monkeypatch, options, words):
    """Exit 2 and one sentence."""
    monkeypatch.setattr(models, "load", lambda _: pytest.fail("a model was loaded"))
    fails(run("sweep", *options), 2, words)


def test_a_plot_without_its_library_is_one_sentence(run, fails, monkeypatch):
    """It names what to install."""
    from reroute_cli.console import study_options as choices

    monkeypatch.setattr(models, "load", lambda _: pytest.fail("a model was loaded"))
    monkeypatch.setattr(choices, "find_spec", lambda name: None)
    fails(run("sweep", "--plot", "x.svg"), 4, "pip install 'reroute[plot]'")


def test_layers_that_the_model_lacks_are_a_usage_error(run, fails, warm):
    """Told once the model is known, before anything is asked."""
    result = run("sweep", "--arms", "fastv@3+12:reroute", "--ratios", "0.5", "--limit", "2", "-q")
    fails(result, 2, "0..11", "[3, 12]")


def test_nothing_in_reach_is_a_failure(run, fails, warm):
    """There is nothing to compare with dense: one sentence with the nearest ratio."""
    result = run("sweep", "--arms", "fastv@8:prune", "--ratios", "0.889", "--limit", "2", "-q")
    fails(result, 4, "none of the arms", "nearest")


def test_questions_that_fail_are_left_out_and_counted(run, warm, tmp_path, picture):
    """Exit 4; the scores are of the rows that every arm has answered."""
    Path(tmp_path / "broken.png").write_bytes(b"no picture")
    lines = [
        {"id": f"q{n}", "image": picture, "question": "is there a cup?", "answer": "no"} for n in range(2)
    ]
    lines.append({"id": "bad", "image": "broken.png", "question": "is there a cup?", "answer": "no"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ("--arms", "fastv:prune", "--ratios", "0.5", "--cost-items", "0", "--json", "-q")
    result = run("sweep", "--manifest", str(tmp_path / "m.jsonl"), *options)
    found = json.loads(result.stdout)
    assert result.exit_code == 4
    assert found["counts"] == {"items": 3, "compared": 2, "images": 1, "answers": 4, "errors": 2}
    assert [arm["right"][2] for arm in found["arms"]] == ["-", "-"]
    assert all(arm["scores"]["words_right"]["n"] == 2 for arm in found["arms"])
    assert "broken.png" in found["first_error"]


def test_where_nothing_can_be_answered_there_is_still_a_report(run, warm, tmp_path):
    """No score, no front, exit 4; a hostile name reaches the page as text and nothing else."""
    (tmp_path / "broken.png").write_bytes(b"no picture")
    line = {"id": "\x1b[31m\u202e[b]x", "image": "broken.png", "question": "is there a cup?", "answer": "no"}
    (tmp_path / "m.jsonl").write_text(json.dumps(line) + "\n")
    options = ("--manifest", str(tmp_path / "m.jsonl"), "--arms", "fastv:prune", "--ratios", "0.5", "-q")
    result = run("sweep", *options)
    assert result.exit_code == 4, result.output
    assert "[b]x" in result.stdout
    assert not {"\x1b", "\u202e"} & set(result.stdout)
    found = json.loads(run("sweep", *options, "--json").stdout)
    assert found["scores"] == found["fronts"] == []
