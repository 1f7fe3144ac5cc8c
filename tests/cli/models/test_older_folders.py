"""Model folders as older releases of transformers saved them: filled, compared with the config and asked."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
import transformers
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, PreTrainedTokenizerFast

from reroute_cli.console.errors import Failure
from reroute_cli.console.options import ModelOptions
from reroute_cli.data.images import Picture, open_image
from reroute_cli.data.prompts import build_prompt
from reroute_cli.models import load as models
from reroute_cli.models.chat_templates import choose_template
from reroute_cli.models.pocket import WEIGHTS
from reroute_cli.models.processors import agree, image_only
from reroute_cli.run.answer import model_part, settings_of
from reroute_cli.run.schedules import ScheduleChoice
from routing.checks.configs import IMAGE, TEMPLATES
from routing.families import FAMILIES
from tests.cli.older import age, edit

QUESTION = "where is the cup?"
CLIP = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}


@pytest.fixture
def complete(tmp_path):
    """A copy of the embedded LLaVA's folder as it is saved today."""
    folder = tmp_path / "complete"
    shutil.copytree(WEIGHTS, folder)
    return folder


@pytest.fixture
def older(complete):
    """The same LLaVA as transformers 4.37 saved it."""
    return age(complete)


def loading(folder, **options):
    """Load from a folder on the CPU."""
    return models.load(ModelOptions(model=str(folder), device="cpu", **options))


def ids(loaded, picture):
    """The prompt's tokens."""
    return build_prompt(loaded.processor, [open_image(picture)], QUESTION).inputs["input_ids"][0].tolist()


def test_a_folder_of_4_37_gets_the_answer_of_the_complete_one(older, picture, run):
    """Same answer, and one line each for what was filled and for the template."""
    expected = run("ask", picture, QUESTION, "-q").stdout
    result = run("ask", picture, QUESTION, "-m", str(older))
    assert result.exit_code == 0, result.output
    assert result.stdout == expected
    assert "patch_size = 14, vision_feature_select_strategy = default" in result.stderr
    assert "asked with the chat template of https://huggingface.co/llava-hf/llava-1.5-7b-hf" in result.stderr


def test_a_folder_of_4_37_gets_the_prompt_of_the_complete_one(older, pocket, picture):
    """The same token ids, 256 image tokens among them."""
    assert ids(loading(older), picture) == ids(pocket, picture)


def test_the_record_and_the_key_say_what_was_filled(older, picture, record, pocket):
    """What answers depend on is in them; a complete model's record says nothing and its key is as it was."""
    made = record(picture, QUESTION, "-m", str(older))["model"]
    assert made["processor_filled"] == CLIP
    assert made["chat_template"].startswith("family ")
    settings = settings_of(loading(older, load_format="dummy"), ScheduleChoice(), 4)["model"]
    assert settings["processor_filled"] == CLIP
    assert settings["chat_template"] == made["chat_template"]
    assert model_part(loading(older, load_format="dummy")).processor_filled == CLIP
    whole = settings_of(pocket, ScheduleChoice(), 4)["model"]
    assert {"processor_filled", "chat_template"} & set(whole) == set()


@pytest.mark.parametrize("files", ["p*_config.json", "tokenizer*"])
def test_a_folder_of_weights_alone_is_told_what_it_lacks(complete, picture, run, fails, files):
    """What a training script leaves that saved the model and not its processor."""
    for file in complete.glob(files):
        file.unlink()
    result = run("ask", picture, QUESTION, "-m", str(complete))
    fails(
        result, 4, "_config.json" if files[0] == "p" else "tokenizer.json", "copy the files of the processor"
    )


def test_quiet_says_nothing_of_it(older, picture, run):
    """-q leaves only the answer."""
    assert run("ask", picture, QUESTION, "-m", str(older), "-q").stderr == ""


@pytest.mark.parametrize("missing", [*[[name] for name in CLIP], [*CLIP]], ids=str)
def test_whatever_a_processor_config_lacks_is_filled(complete, pocket, picture, missing):
    """Each value alone, and all of them, as releases from 4.44 on left them out."""
    edit(complete / "processor_config.json", missing)
    loaded = loading(complete)
    assert loaded.processor_filled == {name: CLIP[name] for name in missing}
    assert ids(loaded, picture) == ids(pocket, picture)


def test_a_null_is_a_value_that_is_not_said(complete, pocket, picture):
    """Releases that wrote null for what they did not know."""
    edit(complete / "processor_config.json", patch_size=None)
    assert loading(complete).processor_filled == {"patch_size": 14}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("patch_size", 16), ("vision_feature_select_strategy", "full"), ("num_additional_image_tokens", 0)],
)
def test_a_processor_that_contradicts_the_config_is_refused(complete, picture, run, fails, name, wrong):
    """One sentence names the place and both values, before any weights are loaded."""
    edit(complete / "processor_config.json", **{name: wrong})
    (complete / "model.safetensors").unlink()
    result = run("ask", picture, QUESTION, "-m", str(complete))
    fails(result, 4, f"{name} = {wrong}", str(CLIP[name]), "config.json", "fetch the model anew")


def test_images_of_another_size_than_the_tower_takes_are_refused(complete, picture, run, fails):
    """The crop of the processor is the side of the tower."""
    image = json.loads((complete / "processor_config.json").read_text())["image_processor"]
    image["crop_size"] = {"height": 336, "width": 336}
    edit(complete / "processor_config.json", image_processor=image)
    fails(run("ask", picture, QUESTION, "-m", str(complete)), 4, "crop_size.height = 336", "makes it 224")


def test_two_wrongs_that_make_up_for_each_other_are_no_contradiction(complete, pocket, picture):
    """No CLS token counted and none dropped gives the same number as one counted and dropped."""
    edit(
        complete / "processor_config.json",
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
    )
    loaded = loading(complete)
    assert loaded.processor_filled == {}
    assert ids(loaded, picture) == ids(pocket, picture)


def test_an_image_token_of_another_name_is_found_by_its_id(complete, pocket, picture):
    """Where no file names it, it is the token that the config numbers."""
    text = (complete / "tokenizer.json").read_text().replace("<image>", "<picture>")
    (complete / "tokenizer.json").write_text(text)
    edit(complete / "tokenizer_config.json", ("image_token",))
    edit(complete / "processor_config.json", ("image_token",))
    (complete / "chat_template.jinja").write_text(
        (complete / "chat_template.jinja").read_text().replace("<image>", "<picture>")
    )
    loaded = loading(complete)
    assert loaded.processor_filled == {"image_token": "<picture>"}
    assert ids(loaded, picture) == ids(pocket, picture)


def test_a_tokenizer_without_the_image_token_is_refused(complete, picture, run, fails):
    """Both ids are named."""
    edit(complete / "config.json", image_token_index=7)
    fails(run("ask", picture, QUESTION, "-m", str(complete)), 4, "('<image>') = 4", "makes it 7")


def test_a_processor_of_another_grid_is_refused(tiny_qwen, tmp_path, picture, run, fails):
    """Qwen's merge size, end to end."""
    shutil.copytree(tiny_qwen, tmp_path / "model")
    edit(tmp_path / "model" / "preprocessor_config.json", merge_size=4)
    result = run("ask", picture, QUESTION, "-m", str(tmp_path / "model"), "--load-format", "dummy")
    fails(result, 4, "image_processor.merge_size = 4", "makes it 2", "vision_config.spatial_merge_size")


_CLIP = {"patch_size": 4, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
_GRID = {
    "image_processor.patch_size": 4,
    "image_processor.temporal_patch_size": 2,
    "image_processor.merge_size": 2,
}
_TILES = {"image_processor.image_grid_pinpoints": [[12, 24], [24, 12], [24, 24]]}
_ONE = {"vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_9"}
# Worked out by hand for the tiny configurations: what a processor must have.
MUST = {
    "llava": _CLIP,
    "vipllava": _CLIP,
    "llava_next": _CLIP | _TILES,
    "llava_onevision": _ONE | _TILES | {"num_image_tokens": 9},
    **dict.fromkeys(
        ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v", "glm46v"),
        _GRID,
    ),
    "internvl": {"image_seq_length": 16},
    "idefics3": {"image_seq_len": 9},
    "smolvlm": {"image_seq_len": 9},
    "mistral3": {"patch_size": 4, "spatial_merge_size": 2},
    "paligemma": {"image_seq_length": 16},
}
SIDES = {"internvl": {"height": 32}, "paligemma": {"height": 16}, "llava_onevision": {"height": 12}}
TILES = {"idefics3": {"longest_edge": 24}, "smolvlm": {"longest_edge": 24}}
EACH = [(family, place) for family, values in MUST.items() for place in values]


def config_of(family):
    """The tiny configuration of a family."""
    model_type, make = TEMPLATES[family]
    return CONFIG_MAPPING[model_type](**make())


def processor_of(family, **changes):
    """What a processor of the family is, as far as it must agree with the config."""
    values = MUST[family] | changes
    tokenizer = SimpleNamespace(added_tokens_decoder={IMAGE: "<image>"})
    image = SimpleNamespace(size=SIDES.get(family, {}), max_image_size=TILES.get(family))
    processor = SimpleNamespace(
        tokenizer=tokenizer, image_processor=image, image_token="<image>", image_token_id=IMAGE
    )
    for place, value in values.items():
        *holder, name = place.split(".")
        setattr(image if holder else processor, name, value)
    return processor


def test_every_family_is_looked_at():
    """The table below has all fifteen."""
    assert set(MUST) == set(TEMPLATES)


@pytest.mark.parametrize("family", MUST)
def test_a_processor_that_agrees_is_left_alone(family):
    """Said or not, what is right is neither filled nor refused."""
    for saved in (MUST[family], ()):
        assert agree("x", processor_of(family), config_of(family), saved) == {}


@pytest.mark.parametrize(("family", "place"), [one for one in EACH if one[0] != "paligemma"])
def test_what_the_files_do_not_say_is_filled(family, place):
    """In every family, each value from the config alone."""
    processor = processor_of(family, **{place: None if place in _CLIP or "num" in place else 1})
    others = set(MUST[family]) - {place}
    assert agree("x", processor, config_of(family), others) == {place: MUST[family][place]}
    assert agree("x", processor, config_of(family), ()) == {}


@pytest.mark.parametrize(("family", "place"), EACH)
def test_what_the_files_say_against_the_config_is_refused(family, place):
    """In every family: the sentence names the place and both values."""
    wrong = {"default": "full", "full": "default", "anyres_max_9": "anyres_max_4"}
    right = MUST[family][place]
    given = wrong[right] if isinstance(right, str) else [[12, 24]] if isinstance(right, list) else 7
    with pytest.raises(Failure) as caught:
        agree("x", processor_of(family, **{place: given}), config_of(family), MUST[family])
    assert f"{place} = {given}" in str(caught.value)
    assert str(right) in str(caught.value)


@pytest.mark.parametrize("family", MUST)
def test_another_image_token_than_the_models_is_refused(family):
    """In every family: both ids are named."""
    processor = processor_of(family)
    processor.image_token_id = 3
    with pytest.raises(Failure, match=rf"image_token_id \('<image>'\) = 3.*{IMAGE}"):
        agree("x", processor, config_of(family), ())


CROP = {"size": {"shortest_edge": 12}, "crop_size": {"height": 12, "width": 12}}
PINPOINTS = {"image_grid_pinpoints": [[12, 24], [24, 12], [24, 24]]}
# family, processor, image processor, its image token, what its files said beside the image processor's class
REAL = [
    ("llava_next", "LlavaNextProcessor", "LlavaNextImageProcessorPil", "<image>", CROP | PINPOINTS),
    ("llava_onevision", "LlavaOnevisionProcessor", "LlavaOnevisionImageProcessorPil", "<image>", PINPOINTS),
    ("vipllava", "LlavaProcessor", "CLIPImageProcessorPil", "<image>", {"crop_size": 20, "size": 20}),
    ("idefics3", "Idefics3Processor", "Idefics3ImageProcessorPil", "<image>", {}),
    ("qwen2_vl", "Qwen2VLProcessor", "Qwen2VLImageProcessorPil", "<|image_pad|>", {}),
    ("qwen3_vl", "Qwen3VLProcessor", "Qwen2VLImageProcessorPil", "<|image_pad|>", {}),
    ("glm4v", "Glm4vProcessor", "Glm4vImageProcessorPil", "<|image|>", {}),
]
SIZED = {
    "llava_onevision": {"size": {"height": 12, "width": 12}},
    "idefics3": {"size": {"longest_edge": 48}, "max_image_size": {"longest_edge": 24}},
}


def tokenizer_for(config, image):
    """A tokenizer whose image token has the config's id, with every token that templates and classes need."""
    published = FAMILIES[config.model_type].chat_templates(config)
    needed = {token for one in published for token in (*one.tokens, *re.findall(r"<[^<> ]+>", one.text))}
    needed |= {"<video>", "<|video_pad|>", "<|video|>", "<|begin_of_video|>", "<|end_of_video|>"}
    words = [f"w{index}" for index in range(200)]
    words[1 : len(needed) + 1], words[0] = sorted(needed), "<unk>"
    words[IMAGE] = image
    inner = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    special = [word for word in words if not re.fullmatch(r"w[0-9]+", word)]
    inner.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<unk>")


@pytest.mark.parametrize(("family", "kind", "image_kind", "token", "said"), REAL)
def test_a_filled_processor_makes_what_the_unmodified_model_takes(
    family, kind, image_kind, token, said, drawn
):
    """As many image tokens as the model has features for: it refuses any other number itself."""
    config = config_of(family)
    image = getattr(transformers, image_kind)(**said, **SIZED.get(family, {}))
    processor = image_only(kind)(image_processor=image, tokenizer=tokenizer_for(config, token))
    assert agree("x", processor, config, ())
    choose_template("x", processor, config, None)
    inputs = build_prompt(processor, [Picture("", drawn((40, 30)), "")], "w20").inputs
    model = AutoModelForImageTextToText.from_config(config).eval()
    assert model(**inputs).logits.shape[1] == inputs["input_ids"].shape[1]
