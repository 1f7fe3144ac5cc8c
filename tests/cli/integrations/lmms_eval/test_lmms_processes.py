"""The model `reroute` as people run it: lmms-eval's own command, in one process and in two."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("lmms_eval")

from tests.cli.integrations.lmms_eval.rows import WORDS

ARGUMENTS = "pretrained=pocket,method=pdrop,action=reroute,ratio=0.889"
TWO = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1")
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def command(tasks, tmp_path):
    """Run `python -m lmms_eval` over the questions in words: its output, results, samples and costs."""

    def ran(*before):
        out, costs = tmp_path / "out", tmp_path / "costs.json"
        known = ["--tasks", "scenes_words", "--include_path", str(tasks), "--output_path", str(out)]
        model = ["--model", "reroute", "--model_args", f"{ARGUMENTS},costs={costs}", "--batch_size", "2"]
        done = subprocess.run(
            [sys.executable, *before, "-m", "lmms_eval", *model, *known, "--log_samples"],
            env=os.environ | OFFLINE | {"HF_HOME": str(tmp_path / "hf")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        results = next(out.rglob("*_results.json"), None)  # it ends with 0 after an error, too
        assert results is not None, done.stdout + done.stderr
        (samples,) = out.rglob("*_samples_scenes_words.jsonl")
        lines = [json.loads(line) for line in samples.read_text().splitlines()]
        return done.stdout, json.loads(results.read_text()), lines, json.loads(costs.read_text())

    return ran


@pytest.fixture
def expected(warm, run, manifest):
    """What `reroute batch` answers under the same schedule."""
    options = ("--method", "pdrop", "--action", "reroute", "--ratio", "0.889", "--max-new-tokens", "16")
    result = run("batch", "--manifest", manifest(WORDS), "--batch-size", "4", *options)
    return [json.loads(line)["answer"] for line in result.stdout.splitlines()]


def check(found, expected):
    """Answers, score and costs of a run are whole."""
    _, results, samples, costs = found
    answers = {sample["doc_id"]: sample["filtered_resps"] for sample in samples}
    assert [answers[index] for index in range(len(WORDS))] == expected
    right = sum(said == line["answer"] for said, line in zip(expected, WORDS, strict=True))
    assert results["results"]["scenes_words"]["right,none"] == pytest.approx(right / len(WORDS))
    assert costs["total"]["requests"] == costs["total"]["answered"] == len(WORDS)
    average = costs["total"]["means"]["visual"]["visual_tokens_per_layer"]
    assert average == pytest.approx(256 * (1 - 0.889), rel=0.03)
    assert results["throughput"]["avg_visual_tokens_per_layer"] == pytest.approx(average)


def test_the_command_of_lmms_eval(command, expected):
    """`--model reroute` is found, answers as `reroute batch` does, and the table is followed by its costs."""
    found = command()
    check(found, expected)
    output = found[0]
    assert "|scenes_words|" in output
    assert "avg_visual_tokens_per_layer" in output.split("|scenes_words|")[1]
    assert "7 of 7 answered · visual tokens/layer 27.7 of 256 (counted)" in output


def test_two_processes_share_the_work(command, expected):
    """Each process answers its part; scores and costs are those of all, and no request is counted twice."""
    found = command(*TWO)
    check(found, expected)
    assert found[0].count("of 7 answered") == 1
