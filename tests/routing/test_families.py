"""Every family has every fact that a family has, or says why it has not."""

from __future__ import annotations

import pytest
from transformers import CONFIG_MAPPING

import routing
from routing.checks import proven
from routing.checks.configs import TEMPLATES, from_configuration, text_part
from routing.cost import ModelShape
from routing.families import FAMILIES, REFUSED, describe_config
from routing.families.decoders import DECODERS
from routing.families.encoders import MergedStage, PatchStage
from routing.families.family import ChatTemplate, Grounding, Missing, setting
from routing.grids import ImageGrids
from routing.towers import Tower

# The numbers of an image processor, as preprocessor_config.json has them, for the tiny configs.
PROCESSOR = {
    "size": {"height": 32, "width": 32, "shortest_edge": 384, "longest_edge": 3840},
    "crop_size": {"height": 20, "width": 20},
    "max_image_size": {"longest_edge": 960},
    "image_grid_pinpoints": [[24, 24]],
    "patch_size": 4,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "min_patches": 1,
    "max_patches": 6,
}


def facts(family: str) -> tuple[object, ModelShape]:
    """A tiny config of the family, and its shape; of the decoder without experts where it has some."""
    kind, make = TEMPLATES[family]
    numbers = make()
    plain = {key: value for key, value in numbers["text_config"].items() if "expert" not in key}
    plain["model_type"] = str(plain["model_type"]).replace("_moe", "")
    shape = ModelShape.from_config({**numbers, "model_type": family, "text_config": plain})
    return CONFIG_MAPPING[kind](**numbers), shape


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_every_fact(family: str) -> None:
    """Tokens, decoder, tower, what becomes of an image, boxes, vision stage and chat templates."""
    known, (config, shape) = FAMILIES[family], facts(family)
    assert family in known.model_types
    assert known.title
    assert all(isinstance(token, int) for token in known.visual_tokens(config))
    assert 0 <= known.first_layer(config) < len(shape.layers)
    assert known.text is None or known.text in DECODERS
    assert isinstance(shape.tower, Tower), shape.tower_reason
    assert isinstance(known.grounding, Grounding | Missing)
    assert isinstance(known.vision_stage, PatchStage | MergedStage | Missing)
    templates = known.chat_templates
    if not isinstance(templates, Missing):
        assert all(isinstance(one, ChatTemplate) for one in templates(config))
    for fact in (known.grounding, known.vision_stage, templates):
        if isinstance(fact, Missing):
            assert len(fact.because.split()) >= 4, fact
    made = known.grids(config, PROCESSOR, (120, 90))
    assert isinstance(made, ImageGrids)
    assert made.visual == sum(grid.count for grid in made.cells) + made.unplaced > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_dict_of_a_config_says_what_the_loaded_one_says(family: str) -> None:
    """`plan` reads config.json, the engine a loaded config: the same tokens, layers and grids."""
    known, (config, _) = FAMILIES[family], facts(family)
    numbers = config.to_dict()  # type: ignore[attr-defined]
    assert known.first_layer(numbers) == known.first_layer(config)
    assert known.grids(numbers, PROCESSOR, (120, 90)) == known.grids(config, PROCESSOR, (120, 90))


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_tower_has_the_heads_that_the_library_gives_it(family: str, given: bool) -> None:
    """As the config says, and by the library's default where it does not."""
    kind, make = TEMPLATES[family]
    numbers = make()
    if not given:
        for name in ("num_heads", "num_attention_heads", "hidden_size"):
            numbers["vision_config"].pop(name, None)
    loaded = CONFIG_MAPPING[kind](**numbers).vision_config
    heads = loaded.num_attention_heads  # the library knows the Qwens' num_heads by this name, too
    assert FAMILIES[family].tower({**numbers, "model_type": family}, 64).heads == heads
    assert (heads == 2) == given


def test_no_family_is_taken_and_refused() -> None:
    """A model type is in one of the two tables."""
    assert not set(FAMILIES) & set(REFUSED)


def test_a_setting_that_is_null_is_not_given() -> None:
    """Dicts and objects, to any depth."""
    assert setting({"a": {"b": None}}, "a.b", 3) == 3
    assert setting({"a": None}, "a.b", 3) == 3
    assert setting({"a": {"b": 0}}, "a.b", 3) == 0


def test_a_family_around_another_decoder_is_checked_before_it_is_routed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """LLaVA's file proves nothing of Gemma 2's windows and caps: the decoder is checked, once a process."""
    kind, make = TEMPLATES["llava"]
    gemma = text_part("gemma2", head_dim=16, query_pre_attn_scalar=16, sliding_window=64)
    config = CONFIG_MAPPING[kind](**make() | {"text_config": gemma})
    assert describe_config(CONFIG_MAPPING[kind](**make())).filed
    assert not describe_config(config).filed
    checked, real = [], proven.check
    monkeypatch.setattr(proven, "_PROVEN", {})
    monkeypatch.setattr(proven, "check", lambda **given: checked.append(given["config"]) or real(**given))
    model = from_configuration(config, "eager")
    for _ in range(2):
        with routing.route(model, routing.Schedule(stages=(routing.Stage(2, 0.5),))):
            pass
    assert [each.model_type for each in checked] == ["llava"]
