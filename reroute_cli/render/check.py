"""What `reroute check` found, as a table: one line a family."""

from __future__ import annotations

from typing import Any

from reroute_cli.records.installation import Check
from reroute_cli.render.draw import DIM, STRONG, Page, plain, table


def check_page(record: Check) -> Page:
    """The table of a `reroute.check/1`."""
    found = record.as_dict()
    installed = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    standing = f"this release was {'' if found['proven'] else 'not '}proven with them"
    proven = "; ".join(f"{name} {', '.join(known)}" for name, known in found["proven_releases"].items())
    rows = [_row(family) for family in found["families"]]
    return [
        plain(f"{installed}: {standing}", STRONG),
        table(("family", "holds", "seconds", ""), rows, right=(1, 2)),
        plain(f"proven with {proven}", DIM),
    ]


def _row(family: dict[str, Any]) -> tuple[str, str, str, str]:
    findings = family["findings"]
    held = sum(finding["passed"] for finding in findings)
    told = [finding for finding in findings if not finding["passed"]] or [
        finding for finding in findings if finding["detail"]
    ]
    remark = f"{told[0]['invariant']}: {told[0]['detail']}" if told else ""
    return family["family"], f"{held} of {len(findings)}", f"{family['seconds']:.1f}", remark
