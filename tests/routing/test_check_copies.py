"""Tiny copies of models: every type of the installed transformers, from nothing but its config."""

import pytest
import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as TYPES

from routing.checks.configs import LAYERS, VOCABULARY
from routing.checks.copies import RESERVED, inputs, placeholder_ids, tiny_config, tiny_copy
from routing.checks.defaults import default_config
from routing.errors import UnsupportedModelError
from routing.host import PROVEN, version

NEWEST = PROVEN["transformers"][-1]
pytestmark = pytest.mark.skipif(
    version("transformers") != NEWEST,
    reason=f"this transformers is not the newest that is proven, {NEWEST}: it has other types",
)

ENCODER_DECODER = {"florence2", "pix2struct", "pp_formulanet", "t5gemma2", "udop", "vision-encoder-decoder"}
NO_IMAGE_TOKEN = {
    "blip",
    "evolla",
    "git",
    "idefics",
    "instructblipvideo",
    "kosmos-2",
    "kosmos-2.5",
    "mistral4",
}
NO_IMAGE_TOKEN |= {"pi0"}  # its decoder is inside of another model's config
NOT_ALONE = {  # type: what its forward says
    "blip-2": "missing 1 required positional argument: 'pixel_values'",
    "instructblip": "missing 2 required positional arguments: 'pixel_values'",
    "diffusion_gemma": "must be tuple of ints",  # and it denoises blocks, where others append tokens
    "llama4": "no attribute 'image_outputs'",  # 5.24.0 cannot run any model of this type
}
WITH_COPY = sorted(set(TYPES) - ENCODER_DECODER - NO_IMAGE_TOKEN - set(NOT_ALONE))
INEXACT = {
    "nemotron_h_omni": 1e-3
}  # decoding with a cache is not exact in the library's own small models, too


def prompt(model, visual=12, start=11):
    """Ids of text around so many placeholders."""
    return [start, 23, 45, 67, *placeholder_ids(model.config)[:1] * visual, 31, 77, 52, 93, 14]


def generated(model, *rows, new=1):
    """Sequences and logits of every step of greedy decoding."""
    with torch.no_grad():
        return model.generate(
            **inputs(model, rows),
            max_new_tokens=new,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )


def logits(model, row, new=0):
    """Logits of one row at all places, without a cache."""
    with torch.no_grad():
        return model(**inputs(model, [row], new)).logits[0]


@pytest.mark.parametrize("kind", WITH_COPY)
def test_every_type_runs_on_its_own_and_is_exact(kind):
    """Decoded logits are the recomputed ones; a left-padded batch gives each sample what it gets alone."""
    model = tiny_copy(default_config(kind))
    one, two = prompt(model), prompt(model, visual=5, start=12)
    found = generated(model, one, new=4)
    row = found.sequences[0].tolist()
    expected = logits(model, row, new=4)[len(one) - 1 : -1]
    tolerance = INEXACT.get(kind, 2e-5)
    assert torch.allclose(torch.cat(found.logits), expected, rtol=0, atol=tolerance)
    batch = generated(model, one, two).logits[0]
    assert torch.allclose(batch[0], found.logits[0][0], rtol=0, atol=1e-4)
    assert torch.allclose(batch[1], generated(model, two).logits[0][0], rtol=0, atol=1e-4)
    assert max(row[len(one) :]) < RESERVED


@pytest.mark.parametrize("kind", sorted(NO_IMAGE_TOKEN & set(TYPES)))
def test_a_type_without_image_tokens_is_refused(kind):
    """One sentence says so, before anything is built."""
    with pytest.raises(UnsupportedModelError, match=r"names no image token|describes no decoder"):
        tiny_copy(default_config(kind))


@pytest.mark.parametrize("kind", [kind for kind in NOT_ALONE if kind in ("blip-2", "instructblip")])
def test_a_type_that_does_not_run_without_pixels_says_so(kind):
    """What its own forward raises is not hidden."""
    with pytest.raises(TypeError, match=NOT_ALONE[kind]):
        tiny_copy(default_config(kind))


@pytest.mark.parametrize(
    "kind", ["gemma3", "gemma3n", "gemma4", "lfm2_vl", "qwen3_5", "qwen3_5_moe", "aya_vision"]
)
def test_every_kind_of_layer_occurs_in_its_order(kind):
    """Each that the config has, the first and the last at their places."""
    own = default_config(kind).get_text_config().layer_types
    tiny = tiny_config(default_config(kind)).get_text_config().layer_types
    assert len(tiny) == LAYERS
    assert set(tiny) == set(own)
    assert (tiny[0], tiny[-1]) == (own[0], own[-1])
    rest = iter(own)
    assert all(layer in rest for layer in tiny), "a subsequence of the config's layers"


def test_some_layers_share_keys_and_at_least_four_have_their_own():
    """As the config of Gemma 3n says, where 15 of 35 share."""
    text = tiny_config(default_config("gemma3n")).get_text_config()
    assert 1 <= text.num_kv_shared_layers <= LAYERS - 4
    assert set(text.layer_types[-text.num_kv_shared_layers :]) <= set(text.layer_types[:4])


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "mistral3", "gemma3"])
def test_ids_are_in_the_vocabulary_and_the_config_is_as_before(kind):
    """Placeholders are no words of a prompt, each its own."""
    config = default_config(kind)
    before = config.to_json_string()
    tiny = tiny_config(config)
    assert config.to_json_string() == before
    assert all(RESERVED <= token < VOCABULARY for token in placeholder_ids(tiny))
    own = [value for name, value in vars(config).items() if name.endswith("_token_id") and value]
    new = [
        getattr(tiny, name) for name, value in vars(config).items() if name.endswith("_token_id") and value
    ]
    assert len(set(new)) == len(set(own))
    assert max(new, default=0) < VOCABULARY


def test_a_window_that_a_prompt_outgrows_changes_what_it_gives():
    """And one that it does not outgrow gives what no window gives."""
    config = default_config("gemma3")
    narrow, wide, wider = (tiny_copy(config, window=window) for window in (12, 64, 128))
    row = prompt(wide, visual=30)
    assert torch.equal(logits(wide, row), logits(wider, row))
    assert not torch.allclose(logits(narrow, row)[-1], logits(wide, row)[-1], atol=1e-2)


@pytest.mark.parametrize("kind", ["llava", "gemma4", "qwen3_5"])
def test_features_follow_sample_and_place(kind):
    """Two samples see other features at the same places; an earlier text moves none of one's own."""
    model = tiny_copy(default_config(kind))
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda _module, _args, output: seen.append(output))
    for row in (prompt(model), [*prompt(model), 15, 16], prompt(model, start=12)):
        logits(model, row)
    same, longer, other = (embedded[0, 4:16] for embedded in seen)
    assert torch.equal(same, longer)
    assert not torch.equal(same, other)
    assert len(same.unique(dim=0)) == 12


def test_attention_is_far_from_uniform():
    """Norms of heads and scales of attention do not flatten it: a ranking has something to rank."""
    for kind in ("llava", "gemma3", "qwen3_vl", "granite_docling"):
        model = tiny_copy(default_config(kind), "eager")
        with torch.no_grad():
            rows = model(**inputs(model, [prompt(model)]), output_attentions=True).attentions
        last = torch.cat([weights[0, :, -1] for weights in rows])
        assert last.amax(-1).mean() > 3 / last.shape[-1], kind


def test_the_same_config_gives_the_same_model():
    """Whatever the state of the random generators; sdpa and eager have the same weights."""
    config = default_config("qwen3_5_moe")
    state = torch.get_rng_state()
    first = tiny_copy(config)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    again = tiny_copy(config, "eager")
    for (name, weight), other in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, other), name
