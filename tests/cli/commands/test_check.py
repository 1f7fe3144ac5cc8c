"""`reroute check`, and the check of a model's family under releases that were not proven."""

import copy
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import CONFIG_MAPPING

import routing
from reroute_cli.console.options import ModelOptions
from reroute_cli.measure.environment import describe_environment
from reroute_cli.models import load as models
from reroute_cli.models import proof
from reroute_cli.models.proof import cache_folder
from routing import UnsupportedModelError, host
from routing.checks import check as checking
from routing.checks import counting
from routing.checks.check import INVARIANTS, FamilyCheck, Finding
from tests.cli.fileless import save_ovis2
from tests.routing.future import future

DESK, QUESTION = "samples/desk.png", "where is the cup?"


@pytest.fixture
def unproven(monkeypatch, tmp_path):
    """What is installed is not among the proven releases; verdicts are kept in a folder of the test's own."""
    monkeypatch.setitem(host.PROVEN, "transformers", ("5.0.0",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "reroute" / "checks"


@pytest.fixture
def counted(monkeypatch):
    """How often the check has run; of its invariants it asks two, which is real enough to be counted."""
    real, runs = checking.check, []
    whole = dict(INVARIANTS)
    for name in set(whole) - {"batch", "untouched"}:
        del INVARIANTS[name]

    def check(*args, **kwargs):
        runs.append(kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(checking, "check", check)
    yield runs
    INVARIANTS.clear()
    INVARIANTS.update(whole)  # in their order


@pytest.fixture
def failing(monkeypatch):
    """A release on which one invariant fails."""

    def fail(subject, action):
        raise RuntimeError("the moon is full")

    monkeypatch.setitem(INVARIANTS, "batch", fail)


PDROP = ("--method", "pdrop", "--ratio", "0.6")


def _ask(run, *arguments):
    return run("ask", DESK, QUESTION, "--max-new-tokens", "2", *arguments)


def test_check_of_one_family_as_json(run):
    """Versions, standing, and every invariant of the family."""
    result = run("check", "--family", "llava", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["schema"] == "reroute.check/1"
    assert found["versions"]["transformers"].startswith(host.version("transformers"))
    assert found["proven"] is host.is_proven()
    assert found["proven_releases"] == {name: list(known) for name, known in host.PROVEN.items()}
    assert found["passed"] is True
    (family,) = found["families"]
    assert (family["family"], family["passed"]) == ("llava", True)
    assert [each["invariant"] for each in family["findings"]] == list(INVARIANTS)


def test_check_as_a_table(run, monkeypatch):
    """One line a family, with what holds, and what was not asked and why."""

    def shape_of(model):
        if model.name == "vipllava":
            raise UnsupportedModelError("the cost of its mixture is not modelled")
        return counting.shape_of(model)

    monkeypatch.setattr("routing.checks.check.shape_of", shape_of)
    result = run("check", "--family", "llava", "--family", "vipllava")
    lines = result.stdout.splitlines()
    count = f"{len(INVARIANTS)} of {len(INVARIANTS)}"
    assert any(line.startswith("llava ") and count in line for line in lines)
    assert any(line.startswith("vipllava ") and "mixture" in " ".join(lines) for line in lines)
    assert f"transformers {host.version('transformers')}" in result.stdout


@pytest.mark.parametrize(("model", "family"), [("pocket", "llava"), ("qwen2.5-vl-7b", "qwen2_5_vl")])
def test_check_of_a_model_reads_its_config_alone(run, model, family, monkeypatch):
    """No weights are loaded; the family is the model's."""
    monkeypatch.setattr(models, "load", lambda *_: pytest.fail("weights were loaded"))
    result = run("check", "-m", model, "--json")
    assert result.exit_code == 0, result.output
    assert [each["family"] for each in json.loads(result.stdout)["families"]] == [family]


def test_a_failing_check_ends_with_4(run, failing):
    """The table shows the first failure's sentence, and the error names the family."""
    result = run("check", "--family", "llava")
    assert result.exit_code == 4
    assert "batch: prune, sdpa: RuntimeError: the moon is full" in " ".join(result.stdout.split())
    assert "llava failed" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--family", "gpt2"), "--family 'gpt2' is none of llava, "),
        (("--family", "mllama"), "--family 'mllama' cannot be routed: it reads the image by cross-attention"),
        (("--family", "llava", "-m", "pocket"), "--model and --family both say what to check"),
        (("--family", "llava", "--all-types"), "--family and --all-types both say what to check"),
    ],
)
def test_what_cannot_be_checked_is_a_usage_error(run, arguments, words):
    """One sentence that says what works."""
    result = run("check", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


class Quick:
    """In the place of the check: it notes what it was asked, and only `failing` fails."""

    def __init__(self, failing=None):
        self.asked, self.failing = [], failing

    def __call__(self, families=None, *, config=None, on_finding=None):
        kind = config.model_type if config is not None else families[0]
        self.asked.append(kind)
        return (FamilyCheck(kind, (Finding("batch", kind != self.failing, "the moon is full"),), 1.0),)


@pytest.mark.parametrize(("kept", "wanted"), [("ovis2", True), ("aria", False), ("llava", None)])
def test_the_verdict_of_a_type_without_a_file_is_kept(run, monkeypatch, tmp_path, kept, wanted):
    """`reroute models` finds it; the tiny model of a family with a file is no checkpoint's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(checking, "check", Quick(failing="aria"))
    result = run("check", "--family", kept)
    assert result.exit_code == (4 if kept == "aria" else 0)
    found = proof.kept_verdict(proof.verdict_name(CONFIG_MAPPING[kept]()))
    assert found == (None if wanted is None else {} if wanted else {"batch": "the moon is full"})


def test_all_types_are_those_that_models_lists(run, monkeypatch, tmp_path):
    """With a file first, then all others that are not refused; one that fails is named at the end."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(checking, "check", quick := Quick(failing="aria"))
    result = run("check", "--all-types")
    assert result.exit_code == 4
    assert "aria can't be routed here" in result.stderr
    listed = json.loads(run("models", "--json").stdout)
    assert quick.asked == [row["model_type"] for part in ("families", "unfiled") for row in listed[part]]
    assert {row["proven"] for row in listed["unfiled"] if row["model_type"] != "aria"} == {True}


def test_the_check_of_a_model_serves_its_load(run, monkeypatch, tmp_path):
    """What `check -m` found of a folder is what loading it would find."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checking, "check", quick := Quick())
    folder = save_ovis2(tmp_path / "ovis2")
    assert run("check", "-m", str(folder)).exit_code == 0
    assert models.load(ModelOptions(model=str(folder), device="cpu")).proven == "checked"
    assert quick.asked == ["ovis2"]


@pytest.mark.parametrize("name", ["/no/such/folder", "README.md"])
def test_a_model_that_is_not_there_ends_with_4(run, name):
    """The same sentence as when it is loaded."""
    assert run("check", "-m", name).exit_code == 4


def test_a_proven_release_is_not_checked_on_loading(counted, pocket):
    """Nothing runs and nothing is said; the record says proven."""
    assert host.is_proven(), "this release must be in routing/host.py"
    assert models.load(ModelOptions(device="cpu")).proven is True
    assert counted == []


def test_an_unproven_release_is_checked_once(run, unproven, counted):
    """The first load checks the model's own decoder and says so; the second finds the verdict."""
    first = _ask(run, "--method", "pdrop", "--ratio", "0.6", "--json")
    assert first.exit_code == 0, first.output
    held = f"{len(INVARIANTS)} of {len(INVARIANTS)}"
    assert "was not proven with transformers" in first.stderr
    assert f"checked just now: {held} hold" in first.stderr
    assert json.loads(first.stdout)["environment"]["proven"] == "checked"
    second = _ask(run, "--method", "pdrop", "--ratio", "0.6", "--json")
    assert "checked" not in second.stderr
    assert json.loads(second.stdout)["environment"]["proven"] == "checked"
    assert len(counted) == 1
    assert [path.suffix for path in unproven.iterdir()] == [".json"]


def test_a_failing_release_refuses_to_route_and_answers_dense(run, unproven, failing):
    """Exit 4 and one sentence with versions, invariant and remedy; dense runs, and says it is not proven."""
    for _ in range(2):  # found, then kept
        refused = _ask(run, "--method", "pdrop", "--ratio", "0.6")
        assert refused.exit_code == 4
        assert f"llava is not routed under transformers {host.version('transformers')}" in refused.stderr
        assert (
            "its check fails in batch (batch: prune, sdpa: RuntimeError: the moon is full)" in refused.stderr
        )
        assert "REROUTE_CHECK=off" in refused.stderr
        assert refused.stdout == ""
    dense = _ask(run, "--method", "none", "--json")
    assert dense.exit_code == 0, dense.output
    assert json.loads(dense.stdout)["environment"]["proven"] is False


def test_a_batch_on_a_failing_release_ends_at_once(run, unproven, failing, picture, tmp_path):
    """One sentence and no record: not an error for each item."""
    output = tmp_path / "answers.jsonl"
    result = run("batch", str(Path(picture).parent), "-Q", QUESTION, *PDROP, "-o", str(output))
    assert result.exit_code == 4
    assert "llava is not routed under transformers" in result.stderr
    assert not output.exists() or not output.read_text()


def test_quiet_says_nothing_of_the_check(run, unproven, counted):
    """-q leaves the answer alone."""
    assert _ask(run, "-q").stderr == ""
    assert len(counted) == 1


def test_off_checks_nothing_and_says_so_in_the_record(run, unproven, failing, counted, monkeypatch):
    """REROUTE_CHECK=off routes on the user's own account."""
    monkeypatch.setenv("REROUTE_CHECK", "off")
    result = _ask(run, "--method", "pdrop", "--ratio", "0.6", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["environment"]["proven"] is False
    assert counted == []


def test_always_checks_even_what_is_proven(counted, monkeypatch, tmp_path, capsys):
    """REROUTE_CHECK=always: at every load, and it says why."""
    monkeypatch.setenv("REROUTE_CHECK", "always")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert [models.load(ModelOptions(device="cpu")).proven for _ in range(2)] == [True, True]
    assert len(counted) == 2
    assert capsys.readouterr().err.count("as REROUTE_CHECK=always asks: checking llava") == 2


def test_another_setting_is_a_usage_error(run, monkeypatch):
    """One sentence with what was given and what is allowed."""
    monkeypatch.setenv("REROUTE_CHECK", "perhaps")
    monkeypatch.setattr(models, "find", lambda _: pytest.fail("the model was looked for"))
    result = _ask(run)
    assert result.exit_code == 2
    assert "REROUTE_CHECK 'perhaps' is none of auto, off, always" in result.stderr


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"failed": 3}', '{"failed": {"batch": 1}}', "[" * 100_000]
)
def test_a_broken_verdict_is_made_anew(unproven, counted, pocket, content):
    """Whatever the file holds, the check runs again and the file is whole afterwards."""
    proof.standing(pocket.model.config)
    (path,) = unproven.iterdir()
    path.write_text(content)
    assert proof.standing(pocket.model.config).proven == "checked"
    assert len(counted) == 2
    assert json.loads(path.read_text()) == {"failed": {}}


def test_a_cache_folder_that_cannot_be_made_costs_only_the_check(monkeypatch, tmp_path, counted, pocket):
    """A file stands where the folder would be: the check runs each time."""
    monkeypatch.setitem(host.PROVEN, "transformers", ("5.0.0",))
    (tmp_path / "reroute").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert [proof.standing(pocket.model.config).proven for _ in range(2)] == ["checked", "checked"]
    assert len(counted) == 2


def test_verdicts_of_other_versions_and_decoders_are_not_taken(unproven, counted, pocket, monkeypatch):
    """Another release of anything, or another decoder, is checked for itself."""
    proof.standing(pocket.model.config)
    other = copy.deepcopy(pocket.model.config)
    other.get_text_config().attention_bias = not other.get_text_config().attention_bias
    proof.standing(other)
    monkeypatch.setattr(proof, "installed_version", lambda name: "another")
    proof.standing(pocket.model.config)
    assert len(counted) == len(list(unproven.iterdir())) == 3


def test_the_cache_folder_is_the_platforms_own():
    """XDG on Linux, absolute paths only; Library/Caches on a Mac; LOCALAPPDATA on Windows."""
    home = Path.home()
    assert cache_folder({"XDG_CACHE_HOME": "/x"}, "linux") == Path("/x/reroute")
    assert (
        cache_folder({"XDG_CACHE_HOME": "x"}, "linux") == cache_folder({}, "linux") == home / ".cache/reroute"
    )
    assert cache_folder({}, "darwin") == home / "Library/Caches/reroute"
    assert cache_folder({"LOCALAPPDATA": "/w"}, "win32") == Path("/w/reroute/Cache")


@pytest.mark.parametrize("role", [host.Role.CACHE, host.Role.POSITION_EMBEDDINGS, host.Role.ATTENTION_MASK])
def test_ask_refuses_a_release_that_renamed_an_argument(run, role, pocket, monkeypatch):
    """A future release whose layers take another word: one sentence, exit 4, and nothing on stdout."""
    model = copy.deepcopy(pocket.model)
    layers = model.model.language_model.layers
    for index, layer in enumerate(layers):
        layers[index] = future(role)(layer)
    monkeypatch.setattr(models, "load", lambda _options: replace(pocket, model=model))
    result = _ask(run, "--method", "pdrop", "--action", "reroute", "--ratio", "0.6")
    assert result.exit_code == 4
    assert f"Future.forward has no argument for the {role}" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


def test_the_environment_says_what_is_proven(run):
    """`env` lists the proven releases; reports carry the standing of their own run."""
    found = json.loads(run("env", "--json").stdout)
    assert found["proven"] is host.is_proven()
    assert found["proven_releases"]["torch"] == list(host.PROVEN["torch"])
    assert describe_environment("checked")["proven"] == "checked"
    assert "REROUTE_CHECK" in found["settings"]
    assert "5.24.0" in run("env").stdout


def test_a_routed_answer_really_is(run, pocket):
    """The number that was silently 1.00 on 5.24: the cache of a routed answer is smaller than a dense one."""
    result = _ask(run, "--method", "pdrop", "--action", "reroute", "--ratio", "0.6", "--json")
    kv = json.loads(result.stdout)["kv_cache"]
    assert 0.3 < kv["kv_end_bytes"] / kv["dense_kv_end_bytes"] < 0.6
    assert os.environ.get("REROUTE_CHECK") is None
    assert routing.check is checking.check
