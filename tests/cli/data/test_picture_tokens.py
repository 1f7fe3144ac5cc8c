"""Visual tokens of a picture from its size: published counts, and the library's own processors."""

import random
from functools import cache

import pytest
from PIL import Image

import profiles
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.data.images import Picture
from reroute_cli.data.prompts import build_prompt
from reroute_cli.models.dummy import build_processor
from reroute_cli.models.image_tokens import count_image_tokens
from routing.model_shape import ModelShape

# (width, height) -> visual tokens, worked out by hand from the papers and the model cards:
# LLaVA-1.5 has 24 x 24 (arXiv 2310.03744); LLaVA-NeXT those, and per tile grid its patches and row ends
# (llava-vl.github.io/blog/2024-01-30-llava-next); Qwen2-VL and 2.5 one token for 28 x 28 pixels, 4 to 16384
# (arXiv 2409.12191); Qwen3-VL one for 32 x 32, 64 to 16384; InternVL 256 a tile of 448, at most 12 and the
# whole (arXiv 2412.05271); SmolVLM 64 a tile of 512 or 81 a tile of 384, four tiles along the longer side and
# the whole (arXiv 2504.05299).
PUBLISHED = {
    ("llava-1.5-7b", (672, 672)): 576,
    ("llava-1.5-7b", (31, 900)): 576,
    ("llava-next-7b", (672, 672)): 576 + 48 * 48 + 48,
    ("llava-next-7b", (336, 672)): 576 + 48 * 24 + 48,
    ("llava-next-7b", (1008, 336)): 576 + 24 * 72 + 24,
    ("llava-next-7b", (672, 504)): 576 + 36 * 48 + 36,
    ("qwen2-vl-7b", (672, 672)): 576,
    ("qwen2-vl-7b", (10, 10)): 4,
    ("qwen2-vl-7b", (8000, 8000)): 16384,
    ("qwen2.5-vl-7b", (1092, 840)): 39 * 30,
    ("qwen2.5-vl-7b", (10, 10)): 4,
    ("qwen2.5-vl-7b", (8000, 8000)): 16384,
    ("qwen3-vl-8b", (768, 768)): 576,
    ("qwen3-vl-8b", (40, 40)): 64,
    ("qwen3-vl-8b", (8000, 8000)): 16384,
    ("internvl3-8b", (448, 448)): 256,
    ("internvl3-8b", (896, 896)): 5 * 256,
    ("internvl3-8b", (1344, 448)): 4 * 256,
    ("internvl3-8b", (4000, 3000)): 13 * 256,
    ("smolvlm-256m", (900, 900)): 17 * 64,
    ("smolvlm-256m", (1000, 500)): 9 * 64,
    ("smolvlm-2.2b", (900, 900)): 17 * 81,
    ("smolvlm-2.2b", (100, 400)): 5 * 81,
}
KINDS = ("llava-1.5-7b", "llava-next-7b", "qwen2.5-vl-7b", "qwen3-vl-8b", "internvl3-8b", "smolvlm-256m")


@cache
def processor_of(name):
    """The processor made without a file."""
    entry = profiles.model(name)
    return build_processor(entry.processor, entry.config["text_config"]["vocab_size"])


def counted(name, *sizes):
    """What arithmetic says."""
    entry = profiles.model(name)
    tower = ModelShape.from_config(entry.config).tower
    return count_image_tokens(entry.config["model_type"], entry.config, entry.processor.image, tower, sizes)


def image_id(name):
    """The id that stands for a piece of a picture in this model's prompts."""
    config = profiles.model(name).config
    return config.get("image_token_id", config.get("image_token_index"))


def prompted(name, size):
    """The visual tokens of a real picture of this size in a real prompt."""
    picture = Picture("x", Image.new("RGB", size, (90, 120, 150)), "digest")
    return build_prompt(processor_of(name), [picture], "where is the cup?").count([image_id(name)])


@pytest.mark.parametrize(("name", "size"), PUBLISHED, ids=str)
def test_arithmetic_gives_the_published_count(name, size):
    """Each family's formula, at its ordinary sizes and at its smallest and largest."""
    assert counted(name, size).visual == PUBLISHED[name, size]


@pytest.mark.parametrize(("name", "size"), [pair for pair in PUBLISHED if max(pair[1]) < 2000], ids=str)
def test_the_processor_gives_the_published_count(name, size):
    """A picture that goes through the processor made without a file becomes as many tokens."""
    assert prompted(name, size) == PUBLISHED[name, size]


def library_count(name, width, height):
    """What the library's processor says of a size, its markers taken off."""
    entry, processor = profiles.model(name), processor_of(name)
    made = processor._get_num_multimodal_tokens([(height, width)])
    if name.startswith("smolvlm"):
        return made["num_image_patches"][0] * entry.processor.arguments["image_seq_len"]
    return made["num_image_tokens"][0] - 2 * name.startswith("internvl")


@pytest.mark.parametrize("name", KINDS)
def test_any_size_counts_as_the_library_counts_it(name):
    """Five hundred seeded sizes, small and large, wide and tall."""
    draw = random.Random(name)
    for _ in range(500):
        most = draw.choice([40, 200, 700, 2000, 6000])
        width, height = draw.randint(1, most), draw.randint(1, most)
        if max(width, height) < 190 * min(width, height):
            assert counted(name, (width, height)).visual == library_count(name, width, height), (
                width,
                height,
            )


@pytest.mark.parametrize("name", KINDS)
def test_the_grids_hold_the_patches_that_the_processor_makes(name):
    """Patches, or tiles, of a picture of 640 x 480 are as many as the vision tower gets."""
    picture = Picture("x", Image.new("RGB", (640, 480), (90, 120, 150)), "digest")
    inputs = build_prompt(processor_of(name), [picture], "?").inputs
    grids = counted(name, (640, 480)).grids
    if "image_grid_thw" in inputs:
        assert inputs["image_grid_thw"].tolist() == [list(grid) for grid in grids]
        return
    *_, tiles, _channels, high, wide = inputs["pixel_values"].shape
    patch = profiles.model(name).config["vision_config"]["patch_size"]
    patch = patch[0] if isinstance(patch, list) else patch
    assert grids == ((1, high // patch, wide // patch),) * tiles


def test_of_two_canvases_that_show_all_the_smaller_is_taken():
    """A picture of 100 x 100 fits 336 x 336 and 672 x 672: the whole and one tile, not four."""
    entry = profiles.model("llava-next-7b")
    image = {**entry.processor.image, "image_grid_pinpoints": [[672, 672], [336, 336]]}
    tower = ModelShape.from_config(entry.config).tower
    made = count_image_tokens("llava_next", entry.config, image, tower, [(100, 100)])
    assert made.visual == 576 + 24 * 24 + 24


def test_several_pictures_add_up():
    """Tokens and grids of a prompt are those of its pictures, in order."""
    both, first, second = (
        counted("qwen2.5-vl-7b", *sizes) for sizes in ([(280, 280), (56, 84)], [(280, 280)], [(56, 84)])
    )
    assert both.visual == first.visual + second.visual == 100 + 6
    assert both.grids == first.grids + second.grids


def test_a_family_without_a_formula_is_a_usage_error():
    """What can't be told is not guessed: the sentence names the option that says it."""
    with pytest.raises(UsageError, match="--visual-tokens"):
        count_image_tokens(
            "gemma3", {}, {}, ModelShape.from_config(profiles.model_config("qwen2-vl-7b")).tower, [(9, 9)]
        )


@pytest.mark.parametrize(
    "image", [{}, {"size": 3}, {"patch_size": 0, "merge_size": 2, "min_pixels": 1, "max_pixels": 9}]
)
def test_preprocessing_numbers_that_make_no_sense_are_one_sentence(image):
    """A local model's file may hold anything."""
    tower = ModelShape.from_config(profiles.model_config("qwen2-vl-7b")).tower
    with pytest.raises(Failure, match="make no sense"):
        count_image_tokens("qwen2_vl", {}, image, tower, [(640, 480)])


@pytest.mark.parametrize("name", [n for n in profiles.model_names() if profiles.model(n).processor])
def test_the_tokenizer_has_the_models_own_size_and_ids(name):
    """Every id of the config is a token of its own, and the special ones have their real ids."""
    entry = profiles.model(name)
    tokenizer = processor_of(name).tokenizer
    assert len(tokenizer) == entry.config["text_config"]["vocab_size"]
    assert all(
        tokenizer.convert_tokens_to_ids(token) == index for token, index in entry.processor.tokens.items()
    )
    assert image_id(name) in entry.processor.tokens.values()


@pytest.mark.parametrize("name", KINDS)
def test_text_survives_the_tokenizer(name):
    """What is written, in any script, is read back."""
    tokenizer = processor_of(name).tokenizer
    text = "Where is the cup? Ünïcode, 杯子在哪里 \n\n <row_1> extraordinary"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert len(tokenizer("where is the cup?", add_special_tokens=False)["input_ids"]) == 5


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("llava-1.5-7b", "<s>USER: <image>", "\nwhere? ASSISTANT:"),
        ("llava-next-mistral-7b", "<s>[INST] <image>", "\nwhere? [/INST]"),
        (
            "qwen2.5-vl-7b",
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\n<|vision_start|><|image_pad|>",
            "<|vision_end|>where?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "qwen3-vl-8b",
            "<|im_start|>user\n<|vision_start|><|image_pad|>",
            "where?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "internvl3-8b",
            "<|im_start|>user\n<img><IMG_CONTEXT>",
            "</img>\nwhere?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "smolvlm-256m",
            "<|im_start|>User:<fake_token_around_image><row_1_col_1><image>",
            "where?<end_of_utterance>\nAssistant:",
        ),
    ],
)
def test_a_prompt_has_the_structure_of_the_model_page(name, start, end):
    """Turns and markers stand where each family's documentation puts them."""
    picture = Picture("x", Image.new("RGB", (448, 448)), "digest")
    processor = processor_of(name)
    text = processor.tokenizer.decode(build_prompt(processor, [picture], "where?").inputs["input_ids"][0])
    assert text.startswith(start)
    assert text.endswith(end)
