"""The JSON Schemas of records: made from the models, strict, and pinned, so that none changes unnoticed.

python -m tests.cli.records.test_schemas        writes their digests anew, after a change that is meant
"""

import hashlib
import json
from pathlib import Path

import jsonschema
import pytest

from reroute_cli.records.schema import KINDS, model_of, name_of, schema_of
from tests.cli import reports

PINNED = Path(__file__).resolve().parents[2] / "fixtures" / "schema_digests.json"


def _digests():
    """SHA-256 of each schema as canonical JSON: names sorted, no spaces."""
    texts = {
        name_of(kind): json.dumps(schema_of(kind), sort_keys=True, separators=(",", ":")) for kind in KINDS
    }
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def test_no_schema_changes_unnoticed():
    """Whoever changes one renews its digest, and gives it a new number where older readers would fail."""
    assert _digests() == json.loads(PINNED.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one_and_names_its_kind(kind):
    """The table's version is the one that records of this kind say."""
    jsonschema.Draft202012Validator.check_schema(schema_of(kind))
    assert f'"{name_of(kind)}"' in json.dumps(schema_of(kind))
    assert model_of(kind).__doc__


@pytest.mark.parametrize(
    "damage",
    [
        lambda report: report.pop("arms"),
        lambda report: report.update(schema="reroute.report/3"),
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
    jsonschema.validate(report, schema_of("report"))
    damage(report)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, schema_of("report"))


@pytest.mark.parametrize("name", ["report", "report/2", "reroute.report/2"])
def test_the_command_prints_a_schema(run, name):
    """By the kind, with or without its version."""
    result = run("schema", name)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == schema_of("report")


def test_the_command_lists_the_kinds(run):
    """One name a line."""
    assert run("schema").stdout.splitlines() == [name_of(kind) for kind in KINDS]


@pytest.mark.parametrize("name", ["reports", "report/1", "?"])
def test_an_unknown_schema_is_a_usage_error(run, fails, name):
    """An older version has none any more."""
    fails(run("schema", name), 2, f"'{name}'", "reroute.report/2")


if __name__ == "__main__":
    PINNED.write_text(json.dumps(_digests(), indent=2) + "\n")
