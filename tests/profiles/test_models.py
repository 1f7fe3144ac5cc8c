"""Public numbers of well-known models: they build, they have the known sizes, and their cost follows."""

from __future__ import annotations

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

import profiles
from profiles import ProfileError
from routing.cost import ModelShape, kv_bytes

PARAMETERS = {  # in units of the last digit given: sizes as the hub shows them
    "llava-1.5-7b": "7.06",
    "llava-1.5-13b": "13.35",
    "llava-next-7b": "7.06",
    "llava-next-mistral-7b": "7.57",
    "qwen2-vl-2b": "2.21",
    "qwen2-vl-7b": "8.29",
    "qwen2.5-vl-3b": "3.75",
    "qwen2.5-vl-7b": "8.29",
    "qwen3-vl-4b": "4.44",
    "qwen3-vl-8b": "8.77",
    "internvl3-8b": "7.94",
    "smolvlm-256m": "0.26",
    "smolvlm-500m": "0.51",
}
KIB_PER_TOKEN = {"llava-1.5-7b": 512, "llava-1.5-13b": 800, "qwen2.5-vl-7b": 56, "qwen2.5-vl-3b": 36}


def library_config(name: str) -> object:
    """The config that transformers makes of our numbers."""
    config = profiles.model_config(name)
    return CONFIG_MAPPING[config.pop("model_type")](**config)


@pytest.mark.parametrize("name", profiles.model_names())
def test_the_numbers_build_a_model_of_the_known_size(name: str) -> None:
    """On the meta device, without memory: parameters counted once where embeddings are tied."""
    with torch.device("meta"):
        built = AutoModelForImageTextToText.from_config(library_config(name), dtype=torch.float16)
    built.tie_weights()
    digits = len(PARAMETERS[name].partition(".")[2])
    assert f"{built.num_parameters() / 1e9:.{digits}f}" == PARAMETERS[name]


@pytest.mark.parametrize("name", profiles.model_names())
def test_the_shape_is_the_one_the_library_fills_in(name: str) -> None:
    """Our numbers and the library's full config of them describe one shape, its tower included."""
    ours = ModelShape.from_config(profiles.model_config(name))
    assert ours == ModelShape.from_config(library_config(name).to_dict())  # type: ignore[attr-defined]
    assert ours.tower is not None


@pytest.mark.parametrize("name", KIB_PER_TOKEN)
def test_kv_bytes_of_a_token_are_the_known_ones(name: str) -> None:
    """Over all layers, in float16."""
    shape = ModelShape.from_config(profiles.model_config(name))
    assert shape.layers * kv_bytes(shape, 1) == KIB_PER_TOKEN[name] * 1024


@pytest.mark.parametrize("name", profiles.model_names())
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
