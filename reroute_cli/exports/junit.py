"""A comparison as JUnit XML: one test suite an arm, one test case a gate, a failure for each that failed.

The elements and attributes are those that pytest, Ant and Jenkins share
(https://github.com/jenkinsci/xunit-plugin/blob/master/src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd/junit-10.xsd).
"""

from __future__ import annotations

from itertools import groupby
from xml.etree import ElementTree

from reroute_cli.exports.text import xml_text
from reroute_cli.records.comparison import Comparison, Row, Verdict
from reroute_cli.regression import words


def export(comparison: Comparison) -> str:
    """The comparison as a JUnit document."""
    failed = comparison.failed
    rows = [row for row in comparison.rows if row.limit is not None or row in failed]
    root = ElementTree.Element("testsuites", {"name": "reroute compare"} | _counts(rows, failed))
    for arm, group in groupby(rows, key=lambda row: row.arm):
        _suite(root, xml_text(arm or "run"), list(group), failed, comparison)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _counts(rows: list[Row], failed: list[Row]) -> dict[str, str]:
    skipped = sum(row.verdict is Verdict.NOT_GATED for row in rows)
    return {
        "tests": str(len(rows)),
        "failures": str(sum(row in failed for row in rows)),
        "errors": "0",
        "skipped": str(skipped),
        "time": "0",
    }


def _suite(
    root: ElementTree.Element, name: str, rows: list[Row], failed: list[Row], comparison: Comparison
) -> None:
    about = {"name": name, "timestamp": xml_text(comparison.current.created)} | _counts(rows, failed)
    suite = ElementTree.SubElement(root, "testsuite", about)
    for row in rows:
        title = f"{row.name} (limit {words.limit(row)})" if row.limit is not None else row.name
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"reroute.{name}", name=xml_text(title), time="0"
        )
        if row in failed:
            message = xml_text(words.failure(row))
            failure = ElementTree.SubElement(case, "failure", type=row.verdict.value, message=message)
            failure.text = message
        elif row.verdict is Verdict.NOT_GATED:
            ElementTree.SubElement(case, "skipped", message=xml_text(row.reason or "unknown in the baseline"))
