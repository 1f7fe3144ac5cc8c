"""The one check of a report that a test makes: its schema, its models, and a reason for every null."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from reroute_cli.records.report import Report
from reroute_cli.records.schema import schema_of

PLAIN_NULLS = {"method", "action", "profile", "ratio", "budget"}  # of an arm: null says that it was not typed
PLAIN_NULLS |= {"adapter"}  # and here that the model is none
PLAIN_NULLS |= {"resized"}  # of a schedule: its images were not made smaller
PLAIN_NULLS |= {"outliers", "requests_met", "warmup_auto"}  # here that nothing was to be counted


def checked(text: str) -> Report:
    """The report in this JSON text, valid by the published schema and unchanged by a round trip."""
    plain = json.loads(text, parse_constant=_refuse)
    jsonschema.validate(plain, schema_of("report"), cls=jsonschema.Draft202012Validator)
    report = Report.model_validate(plain)
    assert report.as_dict() == plain
    assert _unexplained({name: part for name, part in plain.items() if name != "environment"}) == []
    return report


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def _unexplained(value: Any, path: str = "") -> list[str]:
    """Dotted names of every null that its own section gives no reason for."""
    if isinstance(value, list):
        return [name for index, part in enumerate(value) for name in _unexplained(part, f"{path}{index}.")]
    if not isinstance(value, dict):
        return []
    reasons = value.get("reasons", {})
    nulls = [name for name, part in value.items() if part is None and name not in reasons]
    found = [f"{path}{name}" for name in nulls if name not in PLAIN_NULLS]
    return found + [name for key, part in value.items() for name in _unexplained(part, f"{path}{key}.")]
