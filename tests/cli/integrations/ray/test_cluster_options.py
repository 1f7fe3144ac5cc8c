"""What is typed about a cluster: refused in one sentence where it makes no sense, and no Ray without it."""

import sys

import pytest


@pytest.mark.parametrize(
    "option",
    [("--workers", "2"), ("--ray-address", "auto"), ("--gpus-per-worker", "0.5")],
    ids=lambda o: o[0],
)
def test_options_of_a_cluster_need_the_engine(run, fails, option):
    """They would do nothing without it."""
    fails(run("batch", ".", "-Q", "x", *option), 2, option[0], "--engine ray")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--workers", "0"), "0 is no whole number from 1 to 100000"),
        (("--gpus-per-worker", "1.5"), "whole number"),
        (("--device", "cuda:0"), "none of auto"),
        (("--gpus-per-worker", "1", "--device", "cpu"), "drop one of them"),
    ],
    ids=["no workers", "a GPU and a half", "a numbered GPU", "GPUs of a CPU"],
)
def test_wishes_that_no_cluster_can_meet_are_usage_errors(run, fails, tmp_path, drawn, option, words):
    """Before a cluster is begun."""
    drawn().save(tmp_path / "a.png")
    fails(run("batch", str(tmp_path), "-Q", "x", "--engine", "ray", *option), 2, words)


def test_without_ray_the_sentence_names_the_extra(run, fails, monkeypatch, tmp_path, drawn):
    """And exit 4."""
    monkeypatch.setitem(sys.modules, "ray", None)
    drawn().save(tmp_path / "a.png")
    fails(run("batch", str(tmp_path), "-Q", "x", "--engine", "ray"), 4, "pip install 'reroute[ray]'")


def test_one_machine_needs_no_ray(forks, tmp_path, drawn):
    """A batch in this process loads neither Ray nor pyarrow, and runs where they can't be loaded."""
    pictures, script = tmp_path / "pictures", tmp_path / "script.py"
    pictures.mkdir()
    drawn().save(pictures / "a.png")
    script.write_text("""
import sys
assert not {"ray", "pyarrow"} & set(sys.modules)
sys.modules["ray"] = sys.modules["pyarrow"] = None
from reroute_cli.app import main
main()
""")
    process = forks.start(
        "batch", str(pictures), "-Q", "x", "--max-new-tokens", "1", "--quiet", script=str(script)
    )
    stdout, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")
    assert stdout.startswith('{"schema": "reroute.answer/2"')
