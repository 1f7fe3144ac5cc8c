"""`reroute plan`: arithmetic against published numbers, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest

import profiles
from reroute_cli.models.pocket import WEIGHTS
from reroute_cli.models.types import survey_of_types

DESK = Path(__file__).resolve().parents[3] / "samples" / "desk.png"


@pytest.fixture
def plan(run):
    """Run `plan --json` and give the plan back."""

    def planned(*arguments):
        result = run("plan", *arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return planned


def test_llava_costs_what_is_published(plan):
    """LLaVA-1.5-7B with 640 tokens: a decoder of 8.5040 TFLOPs, 0.5 MiB of float16 KV a token."""
    found = plan("-m", "llava-1.5-7b", "--dtype", "float16")
    head = 2 * 4096 * 32064
    assert (found["dense"]["prefill_flops"] - head) / 1e12 == pytest.approx(8.5040, abs=5e-5)
    assert found["dense"]["kv_prefill_bytes"] == 640 * 2**19
    assert found["routed"] is None


def test_a_published_schedule_has_its_published_counts(plan):
    """The release's pyramid at 192 tokens keeps 259, 259, 129 and 64 of 576."""
    found = plan("-m", "llava-1.5-7b", "-p", "llava15-avg192-pdrop-reroute")
    assert [stage["kept"] for stage in found["schedule"]["stages"]] == [259, 259, 129, 64]
    assert found["schedule"]["visual_tokens_per_layer"] == pytest.approx(191.47, abs=0.01)
    assert len(found["schedule"]["per_layer_visual_tokens"]) == 32


def test_every_number_is_estimated_and_every_null_explained(plan):
    """A picture that only has a token count has no known vision cost, and says why."""
    found = plan("-m", "qwen2.5-vl-7b", "--visual-tokens", "100", "--method", "fastv", "--ratio", "0.5")
    assert found["source"] == "estimated"
    for arm in ("dense", "routed"):
        assert found[arm]["vision_flops"] is None
        assert "grid" in found[arm]["reasons"]["vision_flops"]


@pytest.mark.parametrize("method", ["fastv", "pdrop", "random", "nuwa"])
@pytest.mark.parametrize("action", ["prune", "reroute"])
def test_every_method_meets_its_ratio_on_the_embedded_model(plan, method, action):
    """The achieved ratio is the asked one up to rounding, and routed costs less than dense."""
    found = plan("--method", method, "--action", action, "--ratio", "0.667")
    assert found["schedule"]["achieved_ratio"] == pytest.approx(0.667, abs=0.01)
    assert found["ratios"]["prefill_flops"] < 0.6
    assert found["ratios"]["kv_prefill"] < 0.6


def test_more_text_costs_more(plan):
    """--text-tokens is part of the prompt."""
    short, long = (plan("--text-tokens", count)["dense"]["prefill_flops"] for count in ("10", "500"))
    assert long > 2 * short


def test_the_page_shows_stages_and_both_arms(run):
    """Layers, counts and keep ratios, then routed beside dense, within the terminal."""
    result = run("plan", "-m", "llava-1.5-7b", "-p", "llava15-avg192-pdrop-reroute")
    assert result.exit_code == 0
    for word in ("23–31", "0.1126", "8.50 TFLOPs", "scoring", "estimated", "576"):
        assert word in result.stdout
    assert result.stderr == ""
    assert all(len(line) <= 100 for line in result.stdout.splitlines())


def test_a_plan_of_another_models_profile_says_so(plan):
    """A profile for 32 layers on 28 is planned, with the difference named."""
    found = plan("-m", "qwen2.5-vl-7b", "-p", "llava15-avg192-fastv")
    assert "32 layers" in found["caveat"]


def test_output_is_the_same_json(run, plan, tmp_path):
    """-o holds what --json prints."""
    target = tmp_path / "plan.json"
    assert run("plan", "--method", "fastv", "--ratio", "0.5", "-o", str(target)).exit_code == 0
    assert json.loads(target.read_text()) == plan("--method", "fastv", "--ratio", "0.5")


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("--method", "fastv", "--ratio", "2"), 2, "2"),
        (("--method", "nuwa", "--ratio", "0.9999"), 2, "0.9"),
        (("-p", "llava15-avg192-pdrop"), 2, "layer 23"),
        (("--visual-tokens", "0"), 2, "0"),
        (("--method", "fastv"), 2, "--ratio"),
        (("-m", "./nowhere"), 4, "nowhere"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(run, fails, arguments, code, word):
    """Impossible amounts, layers and models."""
    fails(run("plan", *arguments), code, word)


def test_a_model_without_a_fixed_picture_asks_for_its_tokens(run, fails, tiny_qwen):
    """How many visual tokens a Qwen picture has depends on its size."""
    fails(run("plan", "-m", tiny_qwen), 2, "--visual-tokens")
    assert run("plan", "-m", tiny_qwen, "--visual-tokens", "64").exit_code == 0


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A cache folder in which models were listed once: that asks transformers for its types."""
    with pytest.MonkeyPatch.context() as patched:
        cache = str(tmp_path_factory.mktemp("cache"))
        patched.setenv("XDG_CACHE_HOME", cache)
        survey_of_types()
    return cache


@pytest.mark.parametrize("command", [("plan", "-m", "llava-1.5-7b"), ("models",)])
def test_arithmetic_and_lists_load_no_torch(command, listed, monkeypatch):
    """What needs no model loads neither torch nor transformers; test_imports.py asks the other lists."""
    monkeypatch.setenv("XDG_CACHE_HOME", listed)
    code = (
        f"import sys; sys.argv = ['reroute', *{command!r}]\n"
        "from reroute_cli.app import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "print({'torch', 'transformers'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


@pytest.mark.parametrize(
    ("section", "numbers", "says"),
    [
        ("vision_config", {"patch_size": 0}, "makes no sense"),
        ("vision_config", {"hidden_size": "x"}, "makes no sense"),
        ("text_config", {"num_hidden_layers": 10**9}, "1000000000 layers"),
    ],
    ids=str,
)
def test_a_config_that_makes_no_sense_exits_4(run, fails, tmp_path, section, numbers, says):
    """Numbers that no model has are a known failure, not a bug and not a hang."""
    config = json.loads((WEIGHTS / "config.json").read_text())
    config[section] |= numbers
    (tmp_path / "config.json").write_text(json.dumps(config))
    fails(run("plan", "-m", str(tmp_path)), 4, says)


@pytest.mark.parametrize(
    "sizes",
    [
        {"image_size": -5},
        {"image_size": 0},
        {"image_size": 3},
        {"image_size": 336.5},
        {"image_size": True},
        {"image_size": "336"},
        {"image_size": [224, 112]},
        {"image_size": []},
        {"image_size": 10**9},
        {"image_size": 100_000, "patch_size": 1},
        {"patch_size": -16},
        {"hidden_size": -32},
        {"num_hidden_layers": -1},
    ],
    ids=str,
)
def test_a_picture_size_that_makes_no_sense_exits_4(run, fails, tmp_path, sizes):
    """Sides that are no positive whole number of pixels, hold no patch, or more than any prompt."""
    config = json.loads((WEIGHTS / "config.json").read_text())
    config["vision_config"] |= sizes
    (tmp_path / "config.json").write_text(json.dumps(config))
    fails(run("plan", "-m", str(tmp_path)), 4, "makes no sense")


LONG = "x" * 300


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("plan", "-m", LONG), 4),
        (("plan", "-m", f"~{LONG}"), 4),
        (("plan", "-m", f"./{LONG}"), 4),
        (("plan", "-o", LONG), 4),
        (("plan", "--image", LONG), 4),
        (("plan", "-p", LONG), 2),
        (("ask", LONG, "what?"), 4),
        (("ask", str(DESK), "what?", "-o", LONG), 4),
        (("ask", str(DESK), "what?", "-m", f"a/{LONG}"), 4),
    ],
    ids=lambda value: value if isinstance(value, int) else " ".join(value)[:12],
)
def test_a_name_longer_than_any_file_s_is_one_sentence(run, fails, arguments, code):
    """More than 255 characters: wherever a file, folder or model is named."""
    fails(run(*arguments), code, "xxx")


@pytest.mark.parametrize("method", ["fastv", "pdrop", "nuwa", "random"])
def test_a_budget_of_next_to_nothing_is_refused_by_its_number(run, fails, method):
    """The sentence has the budget that was typed, not a ratio that nobody typed."""
    fails(run("plan", "--method", method, "--budget", "1e-300"), 2, "--budget 1e-300", "256")


def test_pictures_are_planned_by_their_sizes(plan, drawn, tmp_path):
    """Two pictures of a Qwen2.5-VL prompt: 28 pixels a token, vision cost from both grids."""
    for name, size in (("a.png", (640, 480)), ("b.png", (280, 280))):
        drawn(size).save(tmp_path / name)
    paths = [str(tmp_path / name) for name in ("a.png", "b.png")]
    one, other, both = (
        plan("-m", "qwen2.5-vl-7b", *(f"--image={path}" for path in chosen))
        for chosen in (paths[:1], paths[1:], paths)
    )
    assert [found["tokens"]["visual_tokens"] for found in (one, other, both)] == [23 * 17, 100, 23 * 17 + 100]
    assert both["tokens"]["picture"] == "640 x 480, 280 x 280"
    assert both["dense"]["vision_flops"] == one["dense"]["vision_flops"] + other["dense"]["vision_flops"]


def test_a_local_model_s_pictures_are_counted_from_its_own_files(plan, drawn, tmp_path, tiny_qwen):
    """A folder with a preprocessor_config.json: 224 x 224 is 8 x 8 tokens."""
    drawn((224, 224)).save(tmp_path / "a.png")
    found = plan("-m", tiny_qwen, "--image", str(tmp_path / "a.png"))
    assert found["tokens"]["visual_tokens"] == 64
    assert found["dense"]["vision_flops"] > 0


def test_pictures_and_a_number_of_tokens_exclude_each_other(run, fails, picture):
    """Two ways to say one thing."""
    fails(run("plan", "--image", picture, "--visual-tokens", "9"), 2, "--image", "--visual-tokens")


def test_a_family_whose_pictures_can_t_be_counted_says_so(run, fails, picture, tmp_path):
    """No formula, no guess."""
    config = {"model_type": "mistral3", "vision_config": {"model_type": "pixtral"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    fails(run("plan", "-m", str(tmp_path), "--image", picture), 2, "mistral3", "--visual-tokens")


@pytest.mark.parametrize("name", profiles.model_names())
def test_every_known_model_is_planned_within_a_second(plan, name):
    """By its name, routed, with all its numbers; imports are done by then."""
    start = perf_counter()
    early = (
        ("--layers", "2,11,20") if name == "gemma-4-e4b" else ()
    )  # its last layers have no keys of their own
    found = plan("-m", name, "--method", "pdrop", "--action", "reroute", "--ratio", "0.667", *early)
    assert perf_counter() - start < 1
    kept = found["tokens"]["visual_tokens"]  # counts are whole tokens
    assert found["schedule"]["achieved_ratio"] == pytest.approx(0.667, abs=max(0.01, 1 / kept))
    assert found["tokens"]["visual_tokens"] == profiles.model(name).visual_tokens
    assert 0 < found["routed"]["prefill_flops"] < found["dense"]["prefill_flops"]
    assert found["routed"]["kv_prefill_bytes"] < found["dense"]["kv_prefill_bytes"]


@pytest.mark.parametrize("method", ["fastv", "nuwa"])
@pytest.mark.parametrize("action", ["prune", "reroute"])
def test_plan_says_what_ask_measures(plan, run, method, action):
    """On the embedded model arithmetic and counter agree on every FLOP, ranking at the tower included."""
    schedule = ("--method", method, "--action", action, "--ratio", "0.778")
    asked = json.loads(run("ask", str(DESK), "where is the cup?", *schedule, "--json").stdout)
    text = asked["tokens"]["prompt_tokens"] - asked["tokens"]["visual_tokens"]
    planned = plan(*schedule, "--text-tokens", str(text))["routed"]
    measured = asked["flops"]
    assert planned["scoring_flops"] == measured["scoring_flops"]
    assert planned["prefill_flops"] == measured["prefill_flops"]
    assert planned["vision_flops"] == measured["vision_flops"]


def test_a_decision_at_a_recurrent_layer_says_which_layer_ranks(run, plan):
    """In the record and in the table: the next one with full attention, every fourth of Qwen3.5's."""
    asked = ("-m", "qwen3.5-9b", "--method", "pdrop", "--action", "reroute", "--ratio", "0.8")
    asked += ("--visual-tokens", "1024")
    stages = plan(*asked)["schedule"]["stages"]
    ranks = {stage["layer"]: stage["scored_by"] for stage in stages}
    assert all(by >= layer and by % 4 == 3 for layer, by in ranks.items())
    elsewhere = {layer: by for layer, by in ranks.items() if by != layer}
    assert elsewhere
    shown = run("plan", *asked).stdout
    assert all(f"ranked by layer {by}" in shown for by in elsewhere.values())
