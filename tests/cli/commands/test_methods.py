"""`methods NAME`: where a method decides, what it needs there, its options, and what its profiles average."""

import json

import pytest

from reroute_cli.records.lists import ShownMethod
from reroute_cli.views.emit import document, html_fragment, shown
from reroute_cli.views.method import NEEDS
from routing.methods import METHODS
from routing.methods.selection import Need


@pytest.fixture
def told(run):
    """Run `methods NAME --json` and give the record back."""

    def ask(*arguments):
        result = run("methods", *arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return ask


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_told_with_its_published_layers(told, name):
    """At the depth of 32, which they are published for; with its options and what the list says of it."""
    found, method = told(name), METHODS[name]
    assert (found["name"], found["layers"], found["options"]) == (name, 32, dict(method.options))
    assert list(found["stages"]) == [str(action) for action in method.actions]
    for action, layers in method.published.items():
        decoder = [one["layer"] for one in found["stages"][action] if one["where"] == "decoder"]
        assert decoder == list(layers)


def test_layers_are_named_at_the_depth_of_another_model(told):
    """Qwen2.5-VL-7B has 28: PyramidDrop's 2, 7, 15, 23 of 32 are its 2, 6, 13, 20."""
    found = told("pdrop", "-m", "qwen2.5-vl-7b")
    assert found["layers"] == 28
    assert [one["layer"] for one in found["stages"]["prune"]] == [2, 6, 13, 20]


def test_what_a_choice_at_the_tower_needs_depends_on_the_tower(told):
    """Attention of the CLS token where there is one, else of all tokens; the rest is the same."""
    clip, qwen = told("nuwa"), told("nuwa", "-m", "qwen2.5-vl-7b")
    first = clip["stages"]["prune"][0]
    assert (first["where"], first["layer"], first["needs"]) == ("vision", 0, ["attention", "states"])
    assert qwen["stages"]["prune"][0]["needs"] == ["received", "states"]
    assert [found["stages"]["prune"][1]["queries"] for found in (clip, qwen)] == [1, 3]


def test_a_choice_at_the_entrance_needs_no_tower(told):
    """DivPrune sees the features; rerouted, later layers rank by the last prompt token."""
    pruned, rerouted = told("divprune")["stages"].values()
    assert pruned == [{"where": "entrance", "layer": 0, "needs": [], "queries": None}]
    assert rerouted[0] == pruned[0]
    assert {one["queries"] for one in rerouted[1:]} == {1}


def test_a_draw_needs_nothing(run, told):
    """The random control asks no token, and the page says so."""
    assert all((one["needs"], one["queries"]) == ([], None) for one in told("random")["stages"]["reroute"])
    assert "nothing: it draws" in run("methods", "random").stdout


def test_what_decides_at_no_layer_says_what_it_does_instead(run, told):
    """Downsampling acts before the processor; the dense model does nothing."""
    small, dense = told("downsample"), told("none")
    assert (small["resizes"], dense["resizes"]) == (True, False)
    assert not any(stages for found in (small, dense) for stages in found["stages"].values())
    assert "before the processor" in run("methods", "downsample").stdout.splitlines()[-1]
    assert "all visual tokens" in run("methods", "none").stdout


def test_a_ranking_says_what_it_needs_where_not_the_last_tokens_rank(run, told):
    """SparseVLM reads the question and its attention, DART keys and states; both say so in words."""
    found = {name: told(name)["stages"]["prune"][0] for name in ("sparsevlm", "dart")}
    assert {name: one["needs"] for name, one in found.items()} == {
        "sparsevlm": ["text", "attention"],
        "dart": ["keys", "states"],
    }
    assert all(one["queries"] is None for one in found.values())
    assert "the text behind the image, the attention that it" in run("methods", "sparsevlm").stdout
    assert "the layer's keys, the hidden states" in run("methods", "dart").stdout


def test_a_budget_stands_beside_its_true_average(run, told):
    """Named for 64, the released pyramid keeps 576, 80, 80, 40 and 20 tokens in 2, 5, 8, 8 and 9 layers."""
    average = (2 * 576 + 5 * 80 + 8 * 80 + 8 * 40 + 9 * 20) / 32
    budgets = {one["profile"]: one for one in told("pdrop")["budgets"]}
    assert budgets["llava15-avg64-pdrop-reroute"] == {
        "profile": "llava15-avg64-pdrop-reroute",
        "origin": "release",
        "action": "reroute",
        "budget": 64,
        "visual_tokens_per_layer": average,
        "visual_tokens": 576,
    }
    (line,) = (
        line for line in run("methods", "pdrop").stdout.splitlines() if "llava15-avg64-pdrop-re" in line
    )
    assert line.split()[1:] == ["release", "64", "84.1", "64.0"]


def test_a_family_without_the_hooks_is_named(told):
    """A choice at the tower is refused there with its reason; one that needs no tower is not."""
    assert "gemma3 is not among them" in told("nuwa", "-m", "gemma-3-4b")["refused"]
    assert told("divprune", "-m", "gemma-3-4b")["refused"] is None


def test_the_page_says_everything_in_words(run):
    """Paper, place, needs, options, within the terminal."""
    shown = run("methods", "nuwa").stdout
    for words in (METHODS["nuwa"].paper, "vision tower", "layers 16, 20, 24, 28", "its CLS token", "rho"):
        assert words in shown
    assert all(len(line) <= 100 for line in shown.splitlines())


def test_every_need_has_words():
    """What a selection may ask for can be told."""
    assert set(NEEDS) == set(Need)


def test_an_unknown_method_is_a_usage_error_with_the_nearest_names(run, fails):
    """A slip is answered with what is close to it, nonsense with all there are."""
    fails(run("methods", "divprun"), 2, "'divprun'", "did you mean divprune")
    fails(run("methods", "zzz"), 2, "'zzz'", "pdrop")


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "html"])
def test_every_writer_has_the_decisions(told, form):
    """The record is laid out as a document like any other."""
    record = ShownMethod.model_validate(told("nuwa"))
    written = html_fragment(record) if form == "html" else shown(document(record), form)
    for words in ("vision tower", "layers 16, 20, 24, 28"):
        assert words in written
