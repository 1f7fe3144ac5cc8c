"""Models of types without a file: checked when they are first loaded, then run like any other."""

import json
import os
from pathlib import Path

import pytest

from reroute_cli.console.options import ModelOptions
from reroute_cli.models import load as models
from routing.checks import check as checking
from routing.checks import proven
from routing.checks.check import INVARIANTS
from tests.cli.fileless import save_ovis2

QUESTION = "where is the cup ?"
PRUNE = ("--method", "pdrop", "--ratio", "0.5", "--max-new-tokens", "2")
REROUTE = (*PRUNE, "--action", "reroute")


@pytest.fixture(scope="module")
def ovis2(tmp_path_factory):
    """A folder with a tiny Ovis2."""
    return str(save_ovis2(tmp_path_factory.mktemp("ovis2")))


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory, ovis2):
    """A cache folder with the verdict of that Ovis2, as its first load leaves it."""
    cache = tmp_path_factory.mktemp("cache")
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(cache)
    try:
        models.load(ModelOptions(model=ovis2, device="cpu", quiet=True))
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        os.environ |= {} if before is None else {"XDG_CACHE_HOME": before}
    return cache


@pytest.fixture
def checked(monkeypatch, verdicts):
    """The verdict is kept: no load and no route may check again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(verdicts))
    monkeypatch.setattr(checking, "check", lambda *_, **__: pytest.fail("it was checked again"))


@pytest.fixture
def unchecked(monkeypatch, tmp_path):
    """Nothing is known of any type, neither in the cache folder nor in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(proven, "_PROVEN", {})
    real, runs = checking.check, []
    monkeypatch.setattr(checking, "check", lambda *given, **more: runs.append(more) or real(*given, **more))
    return runs


def _ask(run, model, *arguments):
    return run("ask", "samples/desk.png", QUESTION, "-m", model, *arguments)


def test_it_is_checked_once_when_it_is_first_loaded(run, ovis2, unchecked):
    """One check for loading and routing together; the next load finds its verdict."""
    first, second = (_ask(run, ovis2, *PRUNE, "--json") for _ in range(2))
    assert first.exit_code == second.exit_code == 0, first.output + second.output
    held = f"{len(INVARIANTS)} of {len(INVARIANTS)}"
    assert "ovis2 has no file of its own: checking ovis2 on tiny models" in first.stderr
    assert f"checked just now: {held} hold" in first.stderr
    assert "check" not in second.stderr
    assert json.loads(first.stdout)["environment"]["proven"] == "checked"
    assert len(unchecked) == 1


def test_a_failing_check_refuses_to_route_and_answers_dense(run, ovis2, unchecked, monkeypatch):
    """Exit 4 with the failing line; dense runs, and the record says that nothing is proven."""

    def fail(subject, action):
        raise RuntimeError("the moon is full")

    monkeypatch.setattr(checking, "INVARIANTS", {"batch": fail})
    refused = _ask(run, ovis2, *PRUNE)
    assert refused.exit_code == 4
    assert "ovis2 is not routed under transformers" in refused.stderr
    assert "batch: prune, sdpa: RuntimeError: the moon is full); run it dense" in refused.stderr
    dense = _ask(run, ovis2, "--method", "none", "--max-new-tokens", "1", "--json")
    assert dense.exit_code == 0, dense.output
    assert json.loads(dense.stdout)["environment"]["proven"] is False
    assert len(unchecked) == 1


def test_off_routes_it_unchecked(run, ovis2, unchecked, monkeypatch):
    """REROUTE_CHECK=off is obeyed by the engine, too; the record says that nothing is proven."""
    monkeypatch.setenv("REROUTE_CHECK", "off")
    asked = _ask(run, ovis2, *PRUNE, "--json")
    assert asked.exit_code == 0, asked.output
    assert json.loads(asked.stdout)["environment"]["proven"] is False
    assert unchecked == []


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("arguments", [PRUNE, REROUTE], ids=["prune", "reroute"])
def test_an_answer_is_routed(run, ovis2, arguments):
    """Fewer visual tokens run and are stored than the 16 of the image; what nobody knows has a reason."""
    asked = _ask(run, ovis2, *arguments, "--json")
    assert asked.exit_code == 0, asked.output
    found = json.loads(asked.stdout)
    assert found["model"]["family"] == "ovis2"
    assert found["tokens"]["visual_tokens"] == 16
    assert found["tokens"]["visual_tokens_per_layer"] < 10
    layers = found["kv_cache"]["per_layer_tokens"]
    text = found["tokens"]["prompt_tokens"] - 16 + 1  # the last new token is not stored
    assert layers == [text + count for count in _visual(found["schedule"]["stages"], len(layers))]
    assert "nobody wrote a file" in found["reasons"]["boxes"]


def _visual(stages, layers):
    """How many visual tokens each layer of an image of 16 processes."""
    kept = {0: 16} | {stage["layer"]: stage["kept"] for stage in stages}
    return [kept[max(at for at in kept if at <= index)] for index in range(layers)]


@pytest.mark.usefixtures("checked")
def test_a_batch_gives_what_single_questions_give(run, record, ovis2, tmp_path):
    """Two images in one pass, each with the answer that it has alone."""
    output = tmp_path / "answers.jsonl"
    images = ("samples/desk.png", "samples/sky.png")
    manifest = tmp_path / "manifest.jsonl"
    rows = [{"image": str(Path(image).resolve()), "question": QUESTION} for image in images]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    where = ("--manifest", str(manifest), "-o", str(output))
    made = run("batch", *where, "-m", ovis2, *REROUTE, "--batch-size", "2")
    assert made.exit_code == 0, made.output
    found = [json.loads(line) for line in output.read_text().splitlines()]
    alone = [record(image, QUESTION, "-m", ovis2, *REROUTE) for image in images]
    assert [one["answer"] for one in found] == [one["answer"] for one in alone]
    assert [one["schedule"]["stages"] for one in found] == [one["schedule"]["stages"] for one in alone]


@pytest.mark.usefixtures("checked")
def test_it_is_profiled(run, ovis2):
    """Dense and routed arms, side by side."""
    few = ("--warmup", "0", "--repeat", "1", "--question", QUESTION, "--json")
    result = run("profile", "samples/desk.png", "-m", ovis2, *PRUNE, *few)
    assert result.exit_code == 0, result.output
    assert [arm["name"] for arm in json.loads(result.stdout)["arms"]] == ["dense", "pdrop-prune"]


@pytest.mark.usefixtures("checked")
def test_its_answers_are_scored(run, ovis2):
    """The scenes' questions are asked and judged; that it writes no box is 0, not an error."""
    result = run("eval", "-m", ovis2, *PRUNE, "--limit", "2", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"]["family"] == "ovis2"


@pytest.mark.usefixtures("checked")
def test_what_needs_a_file_is_one_sentence(run, fails, ovis2, tmp_path):
    """Where its tokens stand nobody knows, so there is nothing to draw."""
    traced = run("trace", "samples/desk.png", QUESTION, "-m", ovis2, *PRUNE, "-o", str(tmp_path / "t.png"))
    fails(traced, 4, "visual tokens of ovis2 images stand", "nobody wrote a file about ovis2")


@pytest.mark.usefixtures("checked")
def test_the_vision_stage_is_refused(run, fails, ovis2):
    """Nuwa's first stage is hooked by what a file says."""
    asked = _ask(run, ovis2, "--method", "nuwa", "--ratio", "0.5")
    fails(asked, 4, "tokens are chosen at the vision towers of", "ovis2 is not among them")


@pytest.mark.usefixtures("checked")
def test_without_a_chat_template_one_is_asked_for(run, fails, tmp_path):
    """There is no published one to take; given by hand it is taken."""
    bare = str(save_ovis2(tmp_path, chat_template=None))
    fails(_ask(run, bare, *PRUNE), 4, "has no chat template", "--chat-template FILE")


def test_a_template_may_mark_an_image_in_words_of_its_own(tmp_path, monkeypatch, unchecked):
    """What the processor replaces need not be called its image token: the question and a mark are enough."""
    monkeypatch.setenv("REROUTE_CHECK", "off")
    other = '{% for c in messages[0].content %}{{ "[img]" if c.type == "image" else c.text }}{% endfor %}'
    saved = save_ovis2(tmp_path, chat_template=other)
    assert models.load(ModelOptions(model=str(saved), device="cpu")).chat_template == "model"


@pytest.mark.usefixtures("unchecked")
def test_a_processor_that_cannot_be_built_here_is_one_sentence(run, fails, ovis2, tmp_path):
    """The type's image processor needs a package that is not installed: it is named, without a traceback."""
    for path in Path(ovis2).iterdir():
        if path.name not in ("config.json", "processor_config.json"):
            os.link(path, tmp_path / path.name)
    config = {"model_type": "lfm2_vl", "text_config": {"model_type": "lfm2"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    image = {"image_processor_type": "Lfm2VlImageProcessor"}
    processor = {"processor_class": "Lfm2VlProcessor", "image_processor": image}
    (tmp_path / "processor_config.json").write_text(json.dumps(processor))
    fails(_ask(run, str(tmp_path), *PRUNE), 4, "can't be loaded: ", "torchvision")
