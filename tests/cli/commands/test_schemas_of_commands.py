"""Everything that a command prints or writes as JSON names a kind of record, and obeys its JSON Schema."""

import json
from pathlib import Path

import jsonschema
import pytest
import typer

from reroute_cli.app import app
from reroute_cli.records.schema import KINDS, name_of, schema_of
from tests.cli import reports

FEW = ("--limit", "1", "--max-new-tokens", "1")
HALF = ("--method", "fastv", "--ratio", "0.5")
SCENES = Path(__file__).resolve().parents[3] / "samples" / "manifest.jsonl"
# What is run of each command; "PICTURE" and "REPORT" stand for files, and "OUT" for one that is written.
COMMANDS = [
    ("ask", "PICTURE", "what?", "--max-new-tokens", "1", "--json", "-o", "OUT"),
    ("batch", "FOLDER", "-q", "what?", *FEW, "--summary", "OUT"),
    ("profile", *HALF, "--limit", "1", "--repeat", "1", "--warmup", "0", "--json", "-o", "OUT"),
    ("compare", "REPORT", "REPORT", "--format", "json", "-o", "OUT"),
    ("eval", "--manifest", str(SCENES), *FEW, "--json", "-o", "OUT"),
    ("eval", "--list", "--json"),
    ("sweep", "--arms", "fastv:prune", "--ratios", "0.5", "--cost-items", "0", *FEW, "--json", "-o", "OUT"),
    (
        "tune",
        "--ratio",
        "0.6",
        "--limit",
        "24",
        "--answers",
        "100",
        "--methods",
        "fastv",
        "--json",
        "-o",
        "OUT",
    ),
    ("trace", "PICTURE", "what?", *HALF, "--json", "-o", "OUT"),
    ("plan", "--json", "-o", "OUT"),
    ("plan", "-m", "llava-1.5-7b", "--method", "nuwa", "--ratio", "0.8", "--json"),
    ("plan", "-m", "llava-1.5-13b", "-p", "llava15-avg192-pdrop-reroute", "--json"),
    ("check", "--family", "llava", "--json"),
    ("methods", "--json"),
    ("methods", "nuwa", "-m", "qwen2.5-vl-7b", "--json"),
    ("models", "--json"),
    ("env", "--json"),
    ("profiles", "list", "--json"),
    ("profiles", "show", "llava15-avg192-nuwa", "--json"),
    ("profiles", "show", "FILE.yaml", "--json"),
]


def _all(command, words=()):
    """Every command of the program with its options."""
    if not hasattr(command, "commands"):
        return [(words, {name for option in command.params for name in option.opts})]
    return [one for name, inner in command.commands.items() for one in _all(inner, (*words, name))]


def test_every_command_that_makes_json_is_tried_here():
    """A new command, or one that learns --json, needs a line above."""
    able = {words for words, names in _all(typer.main.get_command(app)) if names & {"--json", "--output"}}
    tried = {words for words in able if any(line[: len(words)] == words for line in COMMANDS)}
    assert able - tried == {("report",)}  # which writes a page


def _obeys(value):
    """The schema's name, once there is one of that name and the value is valid."""
    kinds = {name_of(kind): kind for kind in KINDS}
    assert next(iter(value)) == "schema"
    jsonschema.validate(value, schema_of(kinds[value["schema"]]))
    return value["schema"]


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda line: " ".join(line[:2]))
def test_what_a_command_prints_and_writes_obeys_its_schema(run, picture, tmp_path, arguments):
    """One JSON value, or one on each line; the file that is written has the same schema."""
    yaml = tmp_path / "own.yaml"
    yaml.write_text("title: mine\nmethod: fastv\naction: prune\nratio: 0.5\n")
    report, out = reports.save(reports.make(), tmp_path / "report.json"), tmp_path / "out" / "o.json"
    out.parent.mkdir()
    places = {"PICTURE": picture, "FOLDER": str(tmp_path), "REPORT": str(report), "OUT": str(out)}
    places["FILE.yaml"] = str(yaml)
    result = run(*(places.get(word, word) for word in arguments))
    assert result.exit_code == 0, result.output
    if arguments[0] != "compare":  # whose -o takes the JSON, and the table goes to stdout
        text = result.stdout
        values = map(json.loads, text.splitlines()) if arguments[0] == "batch" else [json.loads(text)]
        names = {_obeys(value) for value in values}
    if "OUT" in arguments:
        written = _obeys(json.loads(out.read_text()))
        assert arguments[0] in ("compare", "batch") or {written} == names


@pytest.mark.usefixtures("warm")
def test_kept_answers_and_costs_obey_their_schemas(run, tmp_path):
    """Each line of a file of records."""
    kept = tmp_path / "r.jsonl"
    costs = (
        "--arms",
        "fastv:prune",
        "--ratios",
        "0.5",
        "--cost-items",
        "1",
        "--repeat",
        "1",
        "--warmup",
        "0",
    )
    result = run("sweep", *costs, *FEW, "--records", str(kept))
    assert result.exit_code == 0, result.output
    found = {_obeys(json.loads(line)) for line in kept.read_text().splitlines()}
    assert found == {"reroute.answer/2", "reroute.cost/2"}
