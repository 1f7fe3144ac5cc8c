"""A report for people: the terminal page, Markdown and CSV, over reports made by hand."""

import csv
import io
import re
from copy import deepcopy

import pytest

from reroute_cli.console.output import draw, to_json
from reroute_cli.records.metrics import METRICS, Kind, Level
from reroute_cli.views.profile import STATISTICS, document, headline, warnings
from reroute_cli.views.write.csv import document_csv
from reroute_cli.views.write.markdown import markdown
from reroute_cli.views.write.terminal import page as terminal_page
from tests.cli import reports
from tests.cli.published import checked

NINE = ("dense", *(f"{m}-{a}" for m in ("nuwa", "pdrop", "fastv", "random") for a in ("prune", "reroute")))
HOSTILE = "<b>x</b> | `y` *z* [a](http://b) \x1b[31mred\x1b[0m\nnext \u202eline =1+1 " + "long " * 40


def _make(arms):
    """A plain report whose exact ratios are points, as `profile` makes them."""
    plain = reports.make(arms)
    for arm in plain["arms"]:
        for name, ratio in arm["ratios"].items():
            if METRICS[name].kind is Kind.EXACT:
                ratio.update(low=ratio["value"], high=ratio["value"])
    return plain


def _two(change=lambda plain: None):
    plain = _make(("dense", "nuwa-prune"))
    change(plain)
    return checked(to_json(reports.build(plain).as_dict()))


def _hostile(plain):
    """Every text that comes from outside is hostile."""
    plain["model"]["id"] = HOSTILE
    plain["model"]["family"] = HOSTILE
    plain["environment"]["cpu"]["model"] = HOSTILE
    for item in plain["workload"]["items"]:
        item.update(question=HOSTILE)
    plain["arms"][1].update(name=HOSTILE, profile=HOSTILE, method=None, action=None, ratio=None)
    for item, dense in zip(plain["arms"][1]["items"], plain["arms"][0]["items"], strict=True):
        item.update(answer=HOSTILE, agrees=False)
        dense.update(answer="=cmd|' /C calc'!A0")


@pytest.fixture
def drawn(monkeypatch):
    """A report as a terminal of this width shows it."""

    def draw_at(report, columns, *, verbose=False):
        monkeypatch.setenv("COLUMNS", str(columns))
        return draw(tuple(terminal_page(document(report, verbose=verbose))), io.StringIO())

    return draw_at


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("arms", [("dense",), NINE[:2], NINE[:3], NINE], ids=len)
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(drawn, arms, columns, verbose):
    """One, two, three and nine arms fit in 80 columns, every ratio and interval on one line."""
    page = drawn(reports.build(_make(arms)), columns, verbose=verbose)
    assert max(map(len, page.splitlines())) <= columns
    tables = page.split("\n\n", 1)[1]  # below the headline, a sentence that may wrap anywhere
    assert tables.count("[") == len(re.findall(r"\[(?:\d+\.\d\d, \d+\.\d\d|95%)\]", tables))
    assert "…" not in page.replace("cup on the", "")


def test_the_headline_is_the_result():
    """FLOPs, TTFT with its interval, KV and answers, in one sentence."""
    assert headline(_two()) == (
        "nuwa prune at 0.5: prefill 0.50× FLOPs, TTFT 0.50× [0.47, 0.53], KV 0.50×, answers 3/3 equal"
    )


def test_the_headline_of_many_arms_names_the_extremes():
    """Who has the first token soonest, and whose answers are most often dense's."""
    plain = reports.make(NINE)
    plain["arms"][4]["ratios"]["ttft"] |= {"value": 0.3, "low": 0.25, "high": 0.35}
    for arm in (*plain["arms"][1:6], *plain["arms"][7:]):
        arm["items"][0].update(agrees=False, answer="other")
    found = headline(reports.build(plain))
    assert found.startswith(
        "8 schedules at 0.5: first token soonest with pdrop reroute, TTFT 0.30× [0.25, 0.35]"
    )
    assert found.endswith("most answers equal with fastv reroute, 3/3")


def test_no_schedule_is_praised_for_no_equal_answer():
    """Where no arm answers as the dense one does, the headline says just that."""
    plain = reports.make(NINE)
    for arm in plain["arms"][1:]:
        for item in arm["items"]:
            item["agrees"] = False
    assert headline(reports.build(plain)).endswith("; no answer equal to dense")


def test_times_show_p50_and_p90_in_scaled_units(drawn):
    """The table's own cells: dense, routed, ratio."""
    page = drawn(_two(), 80)
    row = next(line for line in page.splitlines() if line.startswith("TTFT"))
    dense = reports.arm(reports.make(), "dense")["metrics"]["ttft"]
    assert f"{dense['p50'] * 1e3:.0f} ms · {dense['p90'] * 1e3:.0f} ms" in row
    assert "0.50× [" in row


def _served(plain):
    """Three items in passes of two and one, under objectives, after a warm-up that did not agree."""
    plain["workload"] |= {"batch_size": 2, "passes": [[0, 2], [1]]}
    plain["protocol"] |= {
        "slo": {"ttft": 0.2, "itl": 0.03},
        "warmup": 10,
        "warmup_auto": {"agreed": False, "last": 3, "within": 0.05, "most": 10, "seconds": [[1.0, 2.0]] * 10},
    }
    for arm, met in zip(plain["arms"], (4, 12), strict=True):
        for name, metric in METRICS.items():
            if name in arm["metrics"] and metric.per == "pass":
                reports.set_values(arm, name, arm["metrics"][name]["values"][:2])
        del arm["unknown"]["goodput"]
        reports.set_values(arm, "goodput", [[1.5, 1.5, 3.0, 1.5]])
        reports.set_values(arm, "itl", [[0.01 + 0.0002 * gap for gap in range(60)]] * 2)
        arm["metrics"]["itl"]["outliers"] = 7
        arm["requests_met"] = met
    plain["arms"][1]["percentile_ratios"] = {"itl": {"p99": plain["arms"][1]["ratios"]["itl"]}}


def test_a_served_run_says_how_it_was_served(drawn):
    """Passes, objectives with who met them, outliers and the warm-up stand below the numbers in all text."""
    report = _two(_served)
    told = [" ".join(drawn(report, 80).split()), markdown(document(report)).replace("\\", "")]
    for page in told:
        for words in (
            "3 items in 2 passes × 4 rounds: 8 values of a time, after 10 warm-up rounds; 16 new tokens",
            "up to 2 requests go together",
            "not every pass holds 2 requests, but 2, 1",
            "14 of 240 ITL",
            "at most TTFT 200 ms, ITL 30.0 ms",
            "4 of 12 dense, 12 of 12 nuwa prune",
            "the warm-up ended after 10 rounds, whose last 3 are not within 5% of one another",
            "1.5 requests/s",
        ):
            assert words in page


def test_latencies_are_shown_by_percentile_with_their_numbers(drawn):
    """ITL: 120 gaps have a p99, eight times have none; the ratio of p99 with its interval."""
    lines = drawn(_two(_served), 80).splitlines()
    at = lines.index("ITL")
    assert lines[at + 1].split() == ["dense", "15.9", "ms", "20.6", "ms", "21.8", "ms", "120"]
    assert lines[at + 2].endswith("120   0.50× [0.47, 0.53]")
    first = next(line for line in lines[lines.index("TTFT") + 1 :] if line.startswith("dense"))
    assert first.split()[-3:] == ["–", "–", "8"]


def test_a_steady_warm_up_is_said_to_have_been_steady(drawn):
    """How many rounds it took until the last ones agreed, and no warning."""

    def change(plain):
        auto = {"agreed": True, "last": 3, "within": 0.05, "most": 10, "seconds": [[1.0, 2.0]] * 4}
        plain["protocol"] |= {"warmup": 4, "warmup_auto": auto}

    page = " ".join(drawn(_two(change), 80).split())
    assert "after 4 warm-up rounds until they agreed" in page
    assert "not steady" not in page


def test_csv_has_outliers_and_the_ratios_of_percentiles():
    """Beside the statistics, in base units; empty where there is none."""
    rows = list(csv.DictReader(io.StringIO(document_csv(document(_two(_served))))))
    itl = next(row for row in rows if (row["arm"], row["metric"]) == ("nuwa-prune", "itl"))
    assert (itl["n"], itl["outliers"], itl["p99_ratio"], itl["p90_ratio"]) == ("120", "7", "0.5", "")
    ttft = next(row for row in rows if (row["arm"], row["metric"]) == ("dense", "ttft"))
    assert (ttft["n"], ttft["p90"], ttft["p99_ratio"]) == ("8", "", "")


def test_flops_saved_that_save_no_time_are_said():
    """Prefill's time surely above its FLOPs: said. Interval down to the FLOPs: not said."""

    def slower(low):
        def change(plain):
            plain["arms"][1]["ratios"]["prefill_flops"] |= {"value": 0.2, "low": 0.2, "high": 0.2}
            plain["arms"][1]["ratios"]["prefill"] |= {"value": 0.4, "low": low, "high": 0.5}

        return change

    assert list(warnings(_two(slower(0.3)), verbose=False)) == [
        "FLOPs saved are not time saved: prefill took 0.40× [0.30, 0.50] of the time for 0.20× of the FLOPs "
        "(nuwa prune)"
    ]
    assert list(warnings(_two(slower(0.15)), verbose=False)) == []


def test_a_slower_arm_is_said_to_be_slower():
    """An interval above 1 is said by metric; one that reaches 1 is not."""

    def said(low):
        report = _two(lambda plain: plain["arms"][1]["ratios"]["tpot"].update(value=1.2, low=low, high=1.3))
        return " ".join(warnings(report, verbose=False))

    assert "slower than dense: nuwa prune, TPOT 1.20× [1.10, 1.30]" in said(1.1)
    assert "slower" not in said(0.99)


def test_too_few_values_for_an_interval_accuse_nobody():
    """A ratio above 1 without an interval is shown and not called slower."""
    few = {"value": 1.2, "low": None, "high": None, "reasons": dict.fromkeys(("low", "high"), "2 pairs")}
    report = _two(lambda plain: plain["arms"][1]["ratios"].update(tpot={"confidence": 0.95, **few}))
    assert "slower" not in " ".join(warnings(report, verbose=False))


def test_no_interval_is_missed_that_is_there(drawn):
    """One ratio without an interval is named beside those that have one; where all lack it, no name is."""
    few = {"value": 1.2, "low": None, "high": None, "reasons": dict.fromkeys(("low", "high"), "2 pairs")}
    none = {"confidence": 0.95, **few}
    one = _two(lambda plain: plain["arms"][1]["ratios"].update(tpot=none))
    assert "no intervals of TPOT: 2 pairs" in " ".join(drawn(one, 80).split())

    def bare(plain):
        ratios = plain["arms"][1]["ratios"]
        ratios |= {name: none for name in ratios if METRICS[name].kind is not Kind.EXACT}

    assert "no intervals: 2 pairs" in " ".join(drawn(_two(bare), 80).split())


def test_random_weights_are_said():
    """Dummy models cost what they cost and know nothing."""
    said = warnings(_two(lambda plain: plain["model"].update(weights="random")), verbose=False)
    assert "random weights" in next(iter(said))


def test_what_is_unknown_is_told_with_its_reason_and_not_as_a_row(drawn):
    """Metrics without a value are named once for each reason."""
    page = " ".join(drawn(_two(), 80).split())
    assert "unknown: NVML process peak, NVML device peak, energy (no NVIDIA driver)" in page
    assert page.count("no NVIDIA driver") == 1


def test_an_estimate_is_marked(drawn):
    """A number that arithmetic made stands behind ≈; measured ones do not."""
    page = drawn(_two(lambda plain: plain["arms"][1]["metrics"]["kv_end"].update(source="estimated")), 80)
    assert page.count("≈") == 1


def test_answers_that_differ_are_listed_and_counted(drawn):
    """Eight at most, then how many more; -v lists all, and every question."""
    items = [f"item {index}" for index in range(12)]
    plain = reports.make(("dense", "nuwa-prune"), items)
    for item in plain["arms"][1]["items"]:
        item.update(answer="other", agrees=False)
    report = reports.build(plain)
    assert drawn(report, 100).count("other") == 8
    assert "and 4 more answers that differ" in drawn(report, 100)
    assert drawn(report, 100, verbose=True).count("other") == 12


def test_layers_are_runs_of_equal_counts(drawn):
    """'0–1: 4 · 2: 3', with means where items differ."""
    plain = reports.make(("dense", "nuwa-prune"))
    for item, last in zip(plain["arms"][1]["items"], (1, 2, 3), strict=True):
        item["per_layer_visual_tokens"] = [4, 4, last]
    assert "0–1: 4 · 2: 2" in drawn(reports.build(plain), 80)


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("verbose", [False, True])
def test_hostile_text_stays_text_in_a_terminal(drawn, columns, verbose):
    """No escape sequence, no bidi override, no line too wide, names cut short."""
    page = drawn(_two(_hostile), columns, verbose=verbose)
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert max(map(len, page.splitlines())) <= columns
    assert re.search(
        r"^of it prefill +73\.1 ms · 74\.5 ms +36\.6 ms · 37\.3 ms +0\.50× \[0\.47, 0\.53\]$", page, re.M
    )


@pytest.mark.parametrize("verbose", [False, True])
def test_hostile_text_stays_text_in_markdown(verbose):
    """No tag, no code span, no link, and every table row has the cells of its header."""
    page = markdown(document(_two(_hostile), verbose=verbose))
    assert "<b>" not in page
    assert "](" not in page
    assert not re.search(r"(?<!\\)`", page)
    blocks = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    for head, _, *rows in blocks:
        cells = [len(re.split(r"(?<!\\)\|", line)) for line in (head, *rows)]
        assert len(set(cells)) == 1
    assert page.startswith("**")


def test_markdown_says_what_the_terminal_says(drawn):
    """The same headline, rows and notes."""
    report = _two()
    page = markdown(document(report)).replace("\\", "")
    assert page.splitlines()[0] == f"**{headline(report)}**"
    for word in ("| TTFT |", "0.50× [", "2 FLOPs per multiply-add", "visual tokens by layer"):
        assert word in page


def test_csv_has_a_row_for_each_arm_and_metric():
    """In base units, with statistics, ratio and its interval; unknown ones with the reason."""
    report = _two()
    rows = list(csv.DictReader(io.StringIO(document_csv(document(report)))))
    per_arm = sum(metric.level is Level.ARM for metric in METRICS.values())
    assert len(rows) == 2 * per_arm + len(METRICS) - per_arm
    quotients = ("ratio", "p90_ratio", "p95_ratio", "p99_ratio")
    more = (*(one + end for one in quotients for end in ("", "_low", "_high")), "unknown")
    assert tuple(rows[0]) == ("arm", "metric", "unit", "source", *STATISTICS, *more)
    ttft = next(row for row in rows if (row["arm"], row["metric"]) == ("nuwa-prune", "ttft"))
    series, ratio = report.arms[1].metrics["ttft"], report.arms[1].ratios["ttft"]
    assert float(ttft["p90"]) == series.p90
    assert (float(ttft["ratio"]), float(ttft["ratio_low"])) == (ratio.value, ratio.low)
    assert (ttft["unit"], ttft["n"], ttft["unknown"]) == ("s", "12", "")
    energy = next(row for row in rows if (row["arm"], row["metric"]) == ("dense", "energy"))
    assert (energy["mean"], energy["unknown"]) == ("", "no NVIDIA driver")


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_cell_is_a_formula(start):
    """A profile's name that a spreadsheet would compute is led by an apostrophe."""

    def change(plain):
        plain["arms"][1].update(name=f"\u202e {start}1+1\n2", profile="x")

    rows = list(csv.DictReader(io.StringIO(document_csv(document(_two(change))))))
    assert {row["arm"] for row in rows} == {"dense", f"'{start}1+1 2", "(process)"}
    assert {row["mean"][:1] for row in rows} <= set("0123456789") | {""}


def test_gpu_numbers_are_rows_when_they_are_known(drawn):
    """Peaks and energy, measured on a GPU, stand in the table without -v, and the GPU is named."""

    def change(plain):
        for arm in plain["arms"]:
            arm["unknown"].pop("energy")
            arm["metrics"]["energy"] = reports.series([[1.5], [2.0], [2.5]], "J")
        plain["model"]["device"] = "cuda:1"
        plain["environment"]["gpus"] = [{"name": "first"}, {"name": "second"}]

    page = drawn(_two(change), 80)
    assert re.search(r"energy +2\.0 J", page)
    assert "second" in page
    assert "first" not in page


def test_the_page_of_a_report_without_flops_or_ttft_still_stands(drawn):
    """Everything unknown but the answers: a page, no exception."""
    plain = deepcopy(reports.make(("dense", "nuwa-prune", "nuwa-reroute")))
    for arm in plain["arms"]:
        arm["unknown"] |= dict.fromkeys(arm["metrics"], "nobody looked")
        arm["metrics"], arm["ratios"] = {}, {}
    assert "nobody looked" in drawn(reports.build(plain), 80, verbose=True)
