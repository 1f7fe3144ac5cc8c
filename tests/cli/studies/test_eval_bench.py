"""`reroute eval --bench` over a dataset of the hub: its own scores, and where it comes from."""

import json
from pathlib import Path

import pytest

from reroute_cli.models import load as models
from tests.cli.studies.benchmarks import hub_tables as hub
from tests.cli.studies.test_eval import checked

pytest.importorskip("datasets", reason="the extra eval")

SAMPLES = Path(__file__).resolve().parents[3] / "samples"


@pytest.fixture(scope="module")
def pope(tmp_path_factory):
    """The sample questions that are answered yes or no, as POPE has them."""
    lines = map(json.loads, (SAMPLES / "manifest.jsonl").read_text().splitlines())
    rows = [
        {
            "id": line["id"],
            "question_id": line["id"],
            "question": line["question"],
            "answer": line["answer"],
            "image_source": line["image"],
            "image": {"bytes": (SAMPLES / line["image"]).read_bytes(), "path": None},
            "category": "popular" if place % 2 else "random",
        }
        for place, line in enumerate(lines)
        if line["answer"] in ("yes", "no")
    ]
    return hub.write_dataset(tmp_path_factory.mktemp("pope"), hub.POPE, {"test": rows})


@pytest.mark.usefixtures("warm")
def test_a_hub_benchmark_has_its_own_scores(run, pope, tmp_path):
    """POPE: accuracy first, and F1 as it follows from the answers; a picture counts once."""
    options = ("--method", "pdrop", "--action", "reroute", "--ratio", "0.8", "-o", str(tmp_path / "o.json"))
    result = run("eval", "--bench", "pope", "--data", str(pope), *options)
    assert result.exit_code == 0, result.output
    assert "accuracy" in result.stdout
    report = checked((tmp_path / "o.json").read_text())
    assert report["headlines"] == ["pope_accuracy"]
    for arm in report["arms"]:
        pairs = [(item["truth"]["answers"][0], item["said"][arm["name"]]["read"]) for item in report["items"]]
        scores = arm["overall"]["scores"]
        assert scores["pope_accuracy"]["value"] == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
        both = pairs.count(("yes", "yes"))
        yes = sum(truth == "yes" for truth, _ in pairs) + sum(said == "yes" for _, said in pairs)
        assert scores["pope_f1"]["value"] == pytest.approx(2 * both / yes)
        assert scores["pope_accuracy"]["images"] == len({item["image"] for item in report["items"]})
    asked = report["workload"]["questions"]
    assert (asked["benchmark"], asked["split"], asked["asked"]) == ("pope", "test", len(report["items"]))
    assert str(pope) in json.dumps(asked["provenance"])
    assert all("single word" in item["question"] for item in report["items"]), "asked in LLaVA's words"
    assert set(report["arms"][0]["groups"]) == {"popular", "random"}


def test_a_dataset_that_is_not_there_is_known_before_the_model_is_loaded(run, fails, monkeypatch):
    """The sentence names what was given."""

    def loaded(_options):
        pytest.fail("a model was loaded")

    monkeypatch.setattr(models, "load", loaded)
    result = run("eval", "--bench", "pope", "--data", "/nowhere/pope", "--quiet")
    fails(result, result.exit_code, "/nowhere/pope")
    assert result.exit_code in (2, 4)
