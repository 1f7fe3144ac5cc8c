"""Public numbers of well-known models: they build, they have the known sizes, and their cost follows."""

from __future__ import annotations

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

import profiles
from profiles import ProfileError
from routing import FAMILIES
from routing.cost import ModelShape, kv_bytes

# Parameters of the published safetensors. Digit for digit where a public copy of the number was found: the
# `total` of the hub's own metadata, or total_size of model.safetensors.index.json over two bytes. InternVL3
# 1B and 38B have the layout of InternVL2.5 1B and 38B, whose metadata these are.
EXACT = {
    "qwen3.5-4b": 4_659_865_088 - 120_599_552,  # without the head for speculation
    "qwen3.5-9b": 9_653_108_208 - 243_290_624 - 3_840,  # without the head for speculation; two of a float32
    "minicpm-v-4.6": 1_300_428_016,
    "gemma-4-26b-a4b": 25_805_936_206 - 30 - 2 * 1_152,  # without buffers: a factor a layer, two of the tower
    "gemma-4-31b": 31_273_088_876 - 60 - 2 * 1_152,
    "glm-4.6v": 107_710_933_120 - 45 * 128,  # without buffers: a bias of each expert
    "glm-4.6v-flash": 10_292_777_472,
    "ovis2-4b": 9_232_212_972 // 2,
    "molmo2-4b": 4_850_869_200,
    "llava-1.5-7b": 7_063_427_072,
    "qwen2-vl-2b": 2_208_985_600,
    "qwen2-vl-7b": 8_291_375_616,
    "qwen2.5-vl-3b": 3_754_622_976,
    "qwen2.5-vl-7b": 8_292_166_656,
    "qwen3-vl-4b": 4_437_815_808,
    "qwen3-vl-8b": 8_767_123_696,
    "internvl3-1b": 938_193_024,
    "internvl3-38b": 38_388_164_992,
    "smolvlm-256m": 256_484_928,
}
ROUNDED = {  # in billions, to the last digit given: sizes as the hub and the model cards show them
    "qwen3.5-35b-a3b": "35",
    "gemma-3-4b": "4.30",
    "gemma-3-12b": "12",
    "gemma-4-e4b": "8",
    "internvl3.5-8b": "8.5",
    "lfm2-vl-1.6b": "1.6",
    "llama-4-scout": "109",
    "llava-1.5-13b": "13.4",
    "llava-next-7b": "7.06",
    "llava-next-mistral-7b": "7.57",
    "internvl3-2b": "2.1",
    "internvl3-8b": "7.94",
    "internvl3-14b": "15.1",
    "smolvlm-500m": "0.51",
    "smolvlm-2.2b": "2.25",
}
MODELLED = [
    name for name in profiles.model_names() if profiles.model_config(name)["model_type"] in FAMILIES
]  # their towers, too
KIB_PER_TOKEN = {  # 2 x layers x key heads x head dim x 2 bytes
    "llava-1.5-7b": 512,
    "llava-1.5-13b": 800,
    "llava-next-mistral-7b": 128,
    "qwen2-vl-2b": 28,
    "qwen2.5-vl-3b": 36,
    "qwen2.5-vl-7b": 56,
    "qwen3-vl-8b": 144,
    "internvl3-8b": 56,
    "gemma-4-31b": 880,  # 50 layers of 16 key heads of 256, 10 of 4 of 512
    "glm-4.6v": 184,
    "smolvlm-256m": 22.5,
    "smolvlm-2.2b": 192,
}


def library_config(name: str) -> object:
    """The config that transformers makes of our numbers."""
    config = profiles.model_config(name)
    return CONFIG_MAPPING[config.pop("model_type")](**config)


def parameters(name: str) -> int:
    """Of the model that our numbers build, on the meta device; tied embeddings count once."""
    with torch.device("meta"):
        built = AutoModelForImageTextToText.from_config(library_config(name), dtype=torch.float16)
    built.tie_weights()
    return int(built.num_parameters())


@pytest.mark.parametrize("name", EXACT)
def test_the_numbers_build_a_model_of_exactly_the_published_size(name: str) -> None:
    """A wrong width, depth, head count or vocabulary anywhere in a config would show."""
    assert parameters(name) == EXACT[name]


@pytest.mark.parametrize("name", ROUNDED)
def test_the_numbers_build_a_model_of_the_size_on_its_page(name: str) -> None:
    """To as many digits as the page gives."""
    digits = len(ROUNDED[name].partition(".")[2])
    assert f"{parameters(name) / 1e9:.{digits}f}" == ROUNDED[name]


def test_every_model_has_a_published_size() -> None:
    """No model is kept here whose size was not compared."""
    assert sorted([*EXACT, *ROUNDED]) == profiles.model_names()


@pytest.mark.parametrize("name", profiles.model_names())
def test_the_shape_is_the_one_the_library_fills_in(name: str) -> None:
    """Our numbers and the library's full config of them describe one shape, its tower included."""
    ours = ModelShape.from_config(profiles.model_config(name))
    assert ours == ModelShape.from_config(library_config(name).to_dict())  # type: ignore[attr-defined]
    assert (ours.tower is None) is (ours.family not in FAMILIES)


@pytest.mark.parametrize("name", KIB_PER_TOKEN)
def test_kv_bytes_of_a_token_are_the_known_ones(name: str) -> None:
    """Over all layers, in float16."""
    shape = ModelShape.from_config(profiles.model_config(name))
    found = sum(kv_bytes(shape, 1, layer=layer) for layer in range(len(shape.layers)))
    assert found == KIB_PER_TOKEN[name] * 1024


@pytest.mark.parametrize("name", MODELLED)
def test_the_pictures_give_the_stated_visual_tokens(name: str) -> None:
    """Grids and merging give them; LLaVA-NeXT adds a token for each of the 48 rows of its tiles."""
    entry = profiles.model(name)
    tower = ModelShape.from_config(entry.config).tower
    assert tower is not None
    rows = 48 if entry.config["model_type"] == "llava_next" else 0
    assert tower.visual_tokens(entry.grids) + rows == entry.visual_tokens
    assert tower.native in (None, entry.grids[0])


def test_a_model_answers_to_its_name_and_its_hub_id() -> None:
    """Either spelling, in any case, with the source of the numbers."""
    by_name, by_hub = profiles.model("llava-1.5-7b"), profiles.model("Llava-HF/llava-1.5-7b-hf")
    assert by_name == by_hub
    assert by_name.source.startswith("https://")


@pytest.mark.parametrize("name", [name for name in profiles.model_names() if profiles.model(name).processor])
def test_the_processor_fits_the_config(name: str) -> None:
    """Its image token is the config's, every special id is within the vocabulary, no two share one."""
    entry = profiles.model(name)
    assert entry.processor is not None
    config, tokens = entry.config, entry.processor.tokens
    assert config.get("image_token_id", config.get("image_token_index")) in tokens.values()
    assert max(tokens.values()) < config["text_config"]["vocab_size"]
    assert len(set(tokens.values())) == len(tokens)
    assert entry.processor.source.startswith("https://huggingface.co/")


def test_an_unknown_processor_is_named() -> None:
    """A model entry that asks for numbers nobody keeps says which there are."""
    from profiles.processors import processor

    with pytest.raises(ProfileError, match=r"llava-1\.5"):
        processor("llava-1.4")


def test_a_config_is_a_copy() -> None:
    """Changing what was returned changes nothing kept here."""
    profiles.model_config("llava-1.5-7b")["text_config"]["vocab_size"] = 1
    assert profiles.model_config("llava-1.5-7b")["text_config"]["vocab_size"] == 32064


def test_an_unknown_model_suggests_the_nearest() -> None:
    """A slip is answered with what is close to it, nonsense with the list."""
    with pytest.raises(ProfileError, match=r"llava-1\.5-7b"):
        profiles.model("llava-1.5-7")
    with pytest.raises(ProfileError, match="smolvlm-256m"):
        profiles.model("zzzz")
