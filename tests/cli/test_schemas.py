"""The published schemas: written by the models, and strict."""

import json

import jsonschema
import pytest

from reroute_cli.schemas import FOLDER, MODELS, published, schema_of
from tests.cli import reports


@pytest.mark.parametrize("name", MODELS)
def test_a_published_schema_is_what_the_model_says(name):
    """`python -m reroute_cli.schemas` would change nothing."""
    assert published(name) == json.loads(json.dumps(schema_of(MODELS[name])))
    jsonschema.Draft202012Validator.check_schema(published(name))


def test_there_is_a_file_for_each_model_and_no_other():
    """No schema is left over from an older version by accident."""
    assert {path.stem for path in FOLDER.glob("*.json")} == set(MODELS)


@pytest.mark.parametrize(
    "damage",
    [
        lambda report: report.pop("arms"),
        lambda report: report.update(schema="reroute.report/2"),
        lambda report: report.update(extra=1),
        lambda report: report["arms"][0]["metrics"]["ttft"].update(p50="fast"),
        lambda report: report["workload"]["items"][0].pop("digest"),
        lambda report: report["arms"][0]["items"][0].update(finish="maybe"),
    ],
    ids=["part missing", "other version", "unknown field", "text for a number", "no digest", "other word"],
)
def test_the_schema_refuses_what_is_no_report(damage):
    """A reader that has nothing but the schema notices the damage."""
    report = reports.build(reports.make()).as_dict()
    jsonschema.validate(report, published("report-1"))
    damage(report)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, published("report-1"))
