"""`methods`, `models`, `profiles` and `env`: what is there, as text and as JSON."""

import json

import pytest
import torch
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

import profiles
from reroute_cli.models.proof import keep_verdict
from routing import FAMILIES, REFUSED
from routing.checks.check import FamilyCheck, Finding
from routing.methods import METHODS


def listed(run, *command):
    """The JSON of a list command."""
    result = run(*command, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_methods_are_those_of_the_registry(run):
    """Names and actions in order; a published method has its paper."""
    found = listed(run, "methods")["methods"]
    assert [row["name"] for row in found] == list(METHODS)
    assert all(row["paper"].startswith("https://") for row in found if row["year"])
    text = run("methods").stdout
    assert all(name in text for name in METHODS)


def test_models_are_all_types_of_the_library_and_known_names(run, monkeypatch, tmp_path):
    """Every type once: with a file, without one, or refused with its reason; then every known model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = listed(run, "models")
    kinds = {part: [row["model_type"] for row in found[part]] for part in ("families", "unfiled", "refused")}
    assert kinds["families"] == list(FAMILIES)
    listed_once = [*kinds["families"], *kinds["unfiled"], *kinds["refused"]]
    assert sorted(listed_once) == sorted({*MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, *FAMILIES, *REFUSED})
    assert {"ovis2", "gemma3", "qwen3_5"} <= set(kinds["unfiled"])
    reasons = {row["model_type"]: row["reason"] for row in found["refused"]}
    assert reasons.items() >= REFUSED.items()
    assert "encoder-decoder" in reasons["florence2"]
    assert [row["name"] for row in found["known"]] == profiles.model_names()


def test_models_tells_what_a_kept_check_has_found(run, monkeypatch, tmp_path):
    """Proven, failed with what failed, or not checked yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    good, bad = Finding("batch", True), Finding("decode", False, "prune, sdpa: the moon is full")
    keep_verdict(CONFIG_MAPPING["ovis2"](), FamilyCheck("ovis2", (good,), 1.0))
    keep_verdict(CONFIG_MAPPING["aria"](), FamilyCheck("aria", (good, bad), 1.0))
    rows = {row["model_type"]: row for row in listed(run, "models")["unfiled"]}
    assert (rows["ovis2"]["proven"], rows["ovis2"]["failed"]) == (True, {})
    assert (rows["aria"]["proven"], rows["aria"]["failed"]) == (False, {"decode": bad.detail})
    assert rows["deepseek_vl"]["proven"] is None
    shown = {line.split()[0]: line for line in run("models").stdout.splitlines() if line.strip()}
    assert shown["ovis2"].endswith("proven")
    assert shown["deepseek_vl"].endswith("not yet")
    assert "fails: decode" in shown["aria"]
    assert "llava-1.5-7b" in shown


def test_profiles_are_listed_with_their_true_average(run):
    """The published 64-token pyramid averages 84, and the list says so."""
    found = {row["name"]: row for row in listed(run, "profiles", "list")["profiles"]}
    assert list(found) == profiles.names()
    assert found["llava15-avg64-pdrop-reroute"]["visual_tokens_per_layer"] == pytest.approx(84.12, abs=0.01)
    shown = run("profiles", "list").stdout
    assert all(name in shown for name in found)


@pytest.mark.parametrize("name", ["llava15-avg192-nuwa", "llava15-avg128-pdrop-exact", "pocket-reroute"])
def test_a_shown_profile_is_a_file_that_is_the_same_schedule(run, tmp_path, name):
    """What `show` prints can be saved, edited and given to -p."""
    path = tmp_path / "copy.yaml"
    path.write_text(run("profiles", "show", name).stdout)
    made = profiles.load(name)
    again = profiles.load(str(path))
    assert again.schedule(made.layers, made.visual) == made.schedule(made.layers, made.visual)


def test_validate_says_what_a_good_profile_comes_to(run, fails, tmp_path):
    """One line for each file; a bad one among them is named and makes the exit code 4."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("title: x\nmethod: fastv\nratio: 0.5\nwat: 1\n")
    good = run("profiles", "validate", "pocket-prune")
    assert good.exit_code == 0
    assert "valid" in good.stdout
    mixed = run("profiles", "validate", "pocket-prune", str(bad), str(tmp_path / "none.yaml"))
    assert mixed.exit_code == 4
    assert mixed.stdout == good.stdout
    assert "wat" in mixed.stderr
    assert "2 of 3" in mixed.stderr


def test_an_unknown_profile_is_a_usage_error(run, fails):
    """`show` of a name that does not exist names it."""
    fails(run("profiles", "show", "llava15-avg191-pdrop"), 2, "llava15-avg191-pdrop", "llava15-avg192-pdrop")


def test_env_holds_what_a_measurement_depends_on(run):
    """Versions, processor, GPUs and settings; text and JSON agree."""
    found = listed(run, "env")
    assert found["packages"]["torch"] == torch.__version__
    assert found["cpu"]["cores"] >= 1
    assert len(found["gpus"]) == torch.cuda.device_count()
    text = run("env").stdout
    assert torch.__version__ in text
    assert "REROUTE_MODEL" in text
