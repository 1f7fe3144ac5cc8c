"""`routing.check`: every family holds on what is installed, and a host that is broken is found out."""

import gc
import sys
import weakref

import pytest
import torch
from transformers import CONFIG_MAPPING, DynamicCache

import routing
from routing.checks import check as checking
from routing.checks.check import INVARIANTS
from routing.checks.configs import SUPPORTED, TEMPLATES, VARIANTS, text_part
from routing.checks.shrunk import shrunk
from tests.routing.tiny_refused import refused

ALL_NAMES = tuple(INVARIANTS)


def _failed(result):
    return {finding.invariant: finding.detail for finding in result.findings if not finding.passed}


@pytest.mark.parametrize("family", list(routing.FAMILIES))
def test_every_family_holds_on_what_is_installed(family):
    """All invariants pass, each is told as it is found, and the caller's random state is left alone."""
    told, state = [], torch.get_rng_state()
    (result,) = routing.check([family], on_finding=lambda name, finding: told.append((name, finding)))
    assert _failed(result) == {}
    assert result.passed
    assert tuple(finding.invariant for finding in result.findings) == ALL_NAMES
    assert told == [(family, finding) for finding in result.findings]
    assert 0 < result.seconds < 60
    assert torch.equal(torch.get_rng_state(), state)


def test_every_family_has_a_template():
    """A family that is added is checked, too."""
    assert set(TEMPLATES) == set(routing.FAMILIES)


def _llava_around(kind, **more):
    settings = SUPPORTED["llava"]() | {"text_config": {"model_type": kind, **more}}
    return CONFIG_MAPPING["llava"](**settings)


SEVEN_B = {"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4, "num_hidden_layers": 28}

LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "factor": 32.0,
    "short_factor": [1.0] * 64,
    "long_factor": [2.0] * 64,
    "original_max_position_embeddings": 4096,
}
HALF_TURNED = {
    "rope_type": "default",
    "rope_theta": 1e4,
    "mrope_section": [8, 12, 12],
    "partial_rotary_factor": 0.5,
}


@pytest.mark.parametrize(
    "config",
    [
        _llava_around("qwen2", **SEVEN_B),
        _llava_around("mistral", num_hidden_layers=32, sliding_window=4096),
        _llava_around("qwen3", num_hidden_layers=36),
        _llava_around("llama", rope_parameters={"rope_type": "linear", "rope_theta": 5e5, "factor": 8.0}),
        CONFIG_MAPPING["mistral3"](**VARIANTS["ministral3"][2]()),
        CONFIG_MAPPING["qwen2_5_vl"](**VARIANTS["narrow_window"][2]()),
        _llava_around("llama", rope_parameters=LONG_ROPE),
        CONFIG_MAPPING["internvl"](text_config={"model_type": "qwen3_moe", "num_hidden_layers": 48}),
        CONFIG_MAPPING["qwen2_vl"](),
        CONFIG_MAPPING["glm4v"](),
        CONFIG_MAPPING["glm46v"](text_config={"rope_parameters": HALF_TURNED}),
    ],
    ids=[
        *("qwen2", "mistral", "qwen3", "linear-rope", "ministral3", "windows", "long-rope", "experts"),
        *("unnamed-sections", "unnamed-sections-glm", "half-turned"),
    ],
)
def test_a_models_own_decoder_is_what_is_proven(config):
    """A config's decoder is shrunk, and its kind passes every invariant."""
    _, settings = shrunk(config)
    assert settings["text_config"]["model_type"] == config.get_text_config().model_type
    assert settings["text_config"]["hidden_size"] == 64
    (result,) = routing.check(config=config)
    assert result.family == config.model_type
    assert _failed(result) == {}


def test_what_a_config_says_of_its_decoder_survives_shrinking():
    """Grouped queries, rotary embedding, windows and experts keep their kind; sizes do not."""
    rope = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32768}
    windows = {"use_sliding_window": True, "sliding_window": 4096}
    config = _llava_around("qwen2", **SEVEN_B, rope_parameters=rope, **windows)
    text = shrunk(config)[1]["text_config"]
    assert (text["num_attention_heads"], text["num_key_value_heads"]) == (4, 1)
    assert text["rope_parameters"] == rope | {"original_max_position_embeddings": 16}
    assert (text["use_sliding_window"], text["sliding_window"], text["num_hidden_layers"]) == (True, 64, 6)
    late = _llava_around("qwen2", num_hidden_layers=32, max_window_layers=21, **windows)
    kinds = ["full_attention"] * 3 + ["sliding_attention"] * 3
    assert shrunk(late)[1]["text_config"]["layer_types"] == kinds
    parts = CONFIG_MAPPING["glm4v"](text_config={"rope_parameters": HALF_TURNED})
    assert shrunk(parts)[1]["text_config"]["rope_parameters"] == HALF_TURNED | {"mrope_section": [1, 1, 2]}
    experts = CONFIG_MAPPING["qwen3_vl_moe"](text_config=text_part("qwen3_vl_moe_text", num_experts=128))
    text = shrunk(experts)[1]["text_config"]
    assert text.get("num_experts", text.get("num_local_experts")) == 4  # 5.24 writes it under the other name


def test_unknown_families_and_models_are_refused():
    """What cannot be routed cannot be checked either: an error that names what can."""
    with pytest.raises(routing.UnsupportedModelError, match="gpt2 cannot be routed"):
        routing.check(["llava", "gpt2"])
    with pytest.raises(routing.UnsupportedModelError, match="mllama cannot be routed"):
        routing.check(config=refused().config)


BREAKS = {
    "a rotary embedding with noise": (
        "transformers.models.llama.modeling_llama.apply_rotary_pos_emb",
        lambda q, k, cos, sin, **_: (q, k + 0.1 * torch.randn_like(k)),
        {"keep everything"},
    ),
    "a cache that forgets how long it is": (
        "routing.cache.RoutedLayer.get_seq_length",
        lambda self: 0 if self.keys is None else int(self.keys.shape[-2]),
        {"decode"},
    ),
    "a ranking upside down": (
        "routing.prefill.top_k",
        lambda scores, candidates, counts: checking_top_k(-scores, candidates, counts),
        {"reference", "first layer"},
    ),
    "a mask that hides nothing": (
        "routing.prefill.square_mask",
        lambda mask, rows: None,
        {"batch"},
    ),
    "arithmetic off by one": (
        "routing.cost.lm_head_flops",
        lambda shape, positions=1: 1,
        {"flops"},
    ),
}


def checking_top_k(scores, candidates, counts):
    """The engine's own choice."""
    from routing.select import top_k

    return top_k(scores.nan_to_num(), candidates, counts)


@pytest.fixture
def only(monkeypatch):
    """A function that leaves only these invariants in the registry: the others take their time."""

    def leave(*names):
        for name in ALL_NAMES:
            if name not in names:
                monkeypatch.delitem(INVARIANTS, name)

    return leave


@pytest.mark.parametrize("name", list(BREAKS))
def test_a_broken_part_is_found_by_its_invariant(name, monkeypatch, only):
    """The invariants that this part upholds fail, in one sentence, and nothing is raised."""
    target, broken, expected = BREAKS[name]
    only(*expected)
    monkeypatch.setattr(target, broken)
    (result,) = routing.check(["llava"])
    failed = _failed(result)
    assert not result.passed
    assert expected == set(failed)
    assert all(detail and "\n" not in detail and len(detail) < 450 for detail in failed.values())


def test_a_cache_that_loses_rows_is_found(monkeypatch, only):
    """A framework whose cache drops a token: the engine's own proof is the finding."""
    update = DynamicCache.update

    def losing(self, keys, values, *args, **kwargs):
        return update(self, keys[..., 1:, :], values[..., 1:, :], *args, **kwargs)

    monkeypatch.setattr(DynamicCache, "update", losing)
    only("kv lengths")
    (result,) = routing.check(["llava"])
    assert "kv lengths" in _failed(result)


def test_a_model_that_cannot_be_built_is_a_finding(monkeypatch):
    """A release without a family's configuration: every invariant fails with that sentence."""
    monkeypatch.setattr(checking, "CONFIG_MAPPING", {})
    (result,) = routing.check(["llava"])
    assert set(_failed(result)) == set(INVARIANTS)
    assert "KeyError: 'llava'" in _failed(result)["batch"]


def test_an_added_invariant_is_run(monkeypatch, only):
    """The registry is all there is to edit."""

    def never(subject, action):
        raise RuntimeError(f"{subject.name} under {action}\nin two lines")

    only("kv lengths")
    monkeypatch.setitem(INVARIANTS, "never", never)
    (result,) = routing.check(["llava"])
    assert _failed(result) == {"never": "prune, sdpa: RuntimeError: llava under prune in two lines"}


def test_families_and_a_config_together_are_refused():
    """Two answers to what is checked: an error, not a choice between them."""
    with pytest.raises(ValueError, match="families and config both say"):
        routing.check(["qwen2_vl"], config=_llava_around("llama"))


def test_the_accelerators_random_state_is_left_alone_too(monkeypatch):
    """No seed reaches CUDA, whose state is not that of the CPU and is not put back."""
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    assert routing.check(["llava"])[0].passed
    assert seeds == []


def test_no_model_stays_behind(monkeypatch):
    """When the check is over, its models are gone from memory."""
    models, build = [], checking.from_configuration

    def noted(config, attention):
        model = build(config, attention)
        models.append(weakref.ref(model))
        return model

    monkeypatch.setattr(checking, "from_configuration", noted)
    routing.check(["llava_next"])
    gc.collect()
    assert [model() for model in models] == [None, None]


def test_a_torch_without_the_flop_counter_fails_that_invariant_only(monkeypatch):
    """A name that a future release lacks is one finding; the others are still found."""
    monkeypatch.setitem(sys.modules, "torch.utils.flop_counter", None)
    (result,) = routing.check(["llava"])
    assert set(_failed(result)) == {"flops"}
    assert "torch.utils.flop_counter" in _failed(result)["flops"]
