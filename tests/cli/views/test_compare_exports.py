"""A comparison in the formats of other tools, read back by parsers that know nothing of ours."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from reroute_cli.records.comparison import Comparison
from reroute_cli.records.schema import schema_of
from reroute_cli.studies.compare import compare
from reroute_cli.studies.gates import all_gates
from reroute_cli.views.comparison import document
from reroute_cli.views.document import TEXT, Tone
from reroute_cli.views.write.ci import NUMBERS, junit
from reroute_cli.views.write.markdown import markdown
from tests.cli import reports

PRUNE = "nuwa-prune"
HOSTILE = "<img src=x onerror=alert(1)> | `code` *bold* [link](http://x) \x1b[31m \x00 \ufffe & \" '"


def _comparison(*, strict: bool = False) -> Comparison:
    """One regression, one win, one changed answer, with a hostile name and answer."""
    old, new = reports.make(), reports.make()
    for plain in (old, new):
        plain["arms"][2]["name"] = f"nuwa {HOSTILE}"
    reports.scale(reports.arm(new, PRUNE), "prefill_flops", 1.125)
    reports.scale(reports.arm(new, "dense"), "kv_end", 0.5)
    new["arms"][2]["items"][0]["answer"] = HOSTILE
    gates = all_gates(["ttft.ratio:10%"])
    return compare(reports.build(old), reports.build(new), gates, strict=strict, accept="cp -- a b")


def _suites(text: str) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(text)
    assert root.tag == "testsuites"
    return {suite.attrib["name"]: suite for suite in root}


def test_junit_has_a_suite_an_arm_and_a_case_a_gate():
    """Each gate is one case under its arm; counts are those of the cases."""
    text = junit(_comparison())
    suites = _suites(text)
    assert [name.partition(" ")[0] for name in suites] == ["dense", PRUNE, "nuwa", "run"]
    for suite in suites.values():
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(cases)
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert all({"classname", "name", "time"} <= case.attrib.keys() for case in cases)
        assert len({case.attrib["name"] for case in cases}) == len(cases)
    root = ElementTree.fromstring(text)
    assert int(root.attrib["tests"]) == len(root.findall("testsuite/testcase")) == 3 * 9 + 2 + 1
    assert int(root.attrib["failures"]) == 2


def test_junit_fails_what_failed_and_says_why():
    """The failing gates and no others carry a failure with the line of the terminal; wins under --strict."""
    failing = {
        (suite, case.attrib["name"]): case[0].attrib
        for suite, element in _suites(junit(_comparison(strict=True))).items()
        for case in element
        if len(case)
    }
    assert {(suite.partition(" ")[0], name) for suite, name in failing} == {
        ("dense", "kv_end (limit exact)"),
        (PRUNE, "prefill_flops (limit exact)"),
        ("nuwa", "answers (limit exact)"),
    }
    told = failing[(PRUNE, "prefill_flops (limit exact)")]
    assert told["type"] == "regression"
    assert "3 of 3 items worse" in told["message"]


def test_junit_reports_what_is_missing():
    """An arm that is gone is a suite of its own with one failing case."""
    old, new = reports.make(), reports.make(arms=("dense", PRUNE))
    found = compare(reports.build(old), reports.build(new), all_gates([]))
    suite = _suites(junit(found))["nuwa-reroute"]
    assert [case[0].attrib["type"] for case in suite] == ["missing"]


def test_junit_reports_a_loss_that_nothing_gates():
    """What the same machine could measure before and not now fails as a case of its own."""
    new = reports.make()
    del reports.arm(new, PRUNE)["metrics"]["torch_peak_allocated"]
    reports.arm(new, PRUNE)["unknown"]["torch_peak_allocated"] = "the allocator is silent"
    found = compare(reports.build(reports.make()), reports.build(new), all_gates([]))
    suite = _suites(junit(found))[PRUNE]
    told = {case.attrib["name"]: case[0].attrib["message"] for case in suite if len(case)}
    assert list(told) == ["torch_peak_allocated.p50"]
    assert "the allocator is silent" in told["torch_peak_allocated.p50"]


def test_xml_holds_no_forbidden_character():
    """What XML can't hold is left out, what it can is escaped and comes back."""
    suites = _suites(junit(_comparison()))
    (name,) = [name for name in suites if name.startswith("nuwa <")]
    assert "<img src=x onerror=alert(1)>" in name
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe]", name)


def test_markdown_is_a_table_and_shows_text_as_text():
    """Every row of a table has its header's cells, and no name or answer becomes markup."""
    text = markdown(document(_comparison()))
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    for block in tables:
        cells = [len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()]
        assert len(set(cells)) == 1
    assert "<img" not in text
    assert "\\`code\\` \\*bold\\*" in text
    assert "\x1b" not in text
    assert re.search(r"\| nuwa-prune \| prefill\\_flops \| .* \| \+12\.5% \| exact \| ❌ REGRESSION \|", text)
    assert text.startswith("### ❌ reroute compare: 2 of 30 gates failed")
    assert "to accept the new numbers: <code>cp -- a b</code>" in text


def test_the_sides_name_their_commits():
    """Twelve characters of each, and the + of a checkout that was changed."""
    old, new = reports.make(), reports.make()
    commit = "9e82d306ecfbc58c5f62a11a9fc5a413af597cb5"
    old["environment"]["commit"], new["environment"]["commit"] = commit, f"{commit}+"
    found = document(compare(reports.build(old), reports.build(new), all_gates([])))
    ends = [text.rpartition(", ")[2] for text in found.texts(TEXT, Tone.NOTE)[:2]]
    assert ends == ["commit 9e82d306ecfb", "commit 9e82d306ecfb+"]


def test_markdown_of_a_pass_says_so():
    """Nothing failed: the headline says it and there is no command to accept anything."""
    plain = reports.build(reports.make())
    text = markdown(document(compare(plain, plain, all_gates([]), accept="cp a b")))
    assert text.startswith("### ✅ reroute compare: all 28 gates passed")
    assert "cp a b" not in text


def test_json_is_the_whole_comparison(run, tmp_path):
    """`--format json` is strict JSON under its own schema name, with every row and its verdict."""
    new = reports.make()
    reports.scale(reports.arm(new, PRUNE), "kv_end", 2)
    files = [
        str(reports.save(plain, tmp_path / f"{i}.json")) for i, plain in enumerate((reports.make(), new))
    ]
    found = json.loads(run("compare", *files, "--format", "json").stdout, parse_constant=pytest.fail)
    jsonschema.validate(found, schema_of("comparison"))
    assert found["schema"] == "reroute.comparison/2"
    assert found["passed"] is False
    assert Comparison.model_validate_json(json.dumps(found)).as_dict() == found
    bad = [(row["arm"], row["metric"]) for row in found["rows"] if row["verdict"] == "regression"]
    assert bad == [(PRUNE, "kv_end")]
    assert found["baseline"]["path"] == files[0]


ENTRIES = {  # what github-action-benchmark's documentation asks of customSmallerIsBetter
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string"},
            "unit": {"type": "string"},
            "value": {"type": "number"},
            "range": {"type": "string"},
            "extra": {"type": "string"},
        },
    },
}
BENCHER = {  # https://bencher.dev/bmf.json
    "type": "object",
    "patternProperties": {
        ".+": {
            "type": "object",
            "patternProperties": {
                ".+": {
                    "type": "object",
                    "properties": {
                        name: {"type": "number"} for name in ("value", "lower_value", "upper_value")
                    },
                    "required": ["value"],
                }
            },
        }
    },
}


def test_github_action_benchmark_gets_one_direction_a_file():
    """Entries have the fields of the action; what is better when bigger is in the other file only."""
    plain = reports.make()
    reports.set_values(reports.arm(plain, "dense"), "ttft", [[0.1, 0.2, 0.9], [0.1, 0.2, 0.9], [0.2]])
    report = reports.build(plain)
    smaller = json.loads(NUMBERS["github-action-benchmark"](report))
    bigger = json.loads(NUMBERS["github-action-benchmark-bigger"](report))
    for entries in (smaller, bigger):
        jsonschema.validate(entries, ENTRIES)
    names = [entry["name"] for entry in [*smaller, *bigger]]
    assert len(set(names)) == len(names)
    assert {name.split(" / ")[-1] for name in (entry["name"] for entry in bigger)} == {
        "agreement",
        "output_rate",
        "output_rate ratio",
        "request_rate",
        "request_rate ratio",
    }
    by_name = {entry["name"]: entry for entry in smaller}
    assert by_name["pocket / dense / ttft"]["value"] == 0.2  # the median; the mean is 0.37
    ttft = by_name["pocket / nuwa-prune / ttft"]
    # 0.121 × 0.5 for the first item, 1% more for each further one, 0.04 / 3 more for each further round
    assert ttft["value"] == pytest.approx(0.0605 * 1.03)
    assert ttft["unit"] == "s"
    assert by_name["pocket / nuwa-prune / ttft ratio"] == {
        "name": "pocket / nuwa-prune / ttft ratio",
        "unit": "× dense",
        "value": 0.5,
        "range": "0.475 to 0.525",
        "extra": "TTFT, over dense in one run, 95% interval",
    }
    assert by_name["pocket / run / weights"]["value"] == 31_000_000


def test_bencher_gets_benchmarks_of_measures():
    """An arm is a benchmark, a metric a measure; names and slugs stay within Bencher's 64 characters."""
    found = json.loads(NUMBERS["bencher"](reports.build(reports.make())))
    jsonschema.validate(found, BENCHER)
    assert set(found) == {"pocket", *(f"pocket / {name}" for name in reports.ARMS)}
    assert found["pocket / nuwa-prune"]["ttft_ratio"] == {
        "value": 0.5,
        "lower_value": 0.475,
        "upper_value": 0.525,
    }
    ttft = found["pocket / dense"]["ttft"]
    assert (ttft["lower_value"], ttft["upper_value"]) == (0.121, pytest.approx(0.121 * 1.06))
    assert found["pocket"]["weights"] == {"value": 31_000_000}
    assert max(len(measure) for part in found.values() for measure in part) <= 64


def test_a_ratio_without_an_interval_is_exported_without_one():
    """Too few values for an interval: the value stands alone, never null."""
    plain = reports.make()
    for ratio in reports.arm(plain, PRUNE)["ratios"].values():
        ratio |= {"low": None, "high": None, "reasons": {"low": "too few", "high": "too few"}}
    report = reports.build(plain)
    jsonschema.validate(json.loads(NUMBERS["bencher"](report)), BENCHER)
    entries = {entry["name"]: entry for entry in json.loads(NUMBERS["github-action-benchmark"](report))}
    assert "range" not in entries["pocket / nuwa-prune / ttft ratio"]


@pytest.mark.parametrize("form", ["github-action-benchmark", "bencher"])
def test_reports_are_exported_from_current(run, tmp_path: Path, form):
    """The formats that hold numbers hold CURRENT's, while the exit code is still the verdict."""
    new = reports.make()
    reports.scale(reports.arm(new, "dense"), "kv_end", 3)
    files = [
        str(reports.save(plain, tmp_path / f"{i}.json")) for i, plain in enumerate((reports.make(), new))
    ]
    result = run("compare", *files, "--format", form)
    assert result.exit_code == 3
    assert result.stdout == NUMBERS[form](reports.build(new))
