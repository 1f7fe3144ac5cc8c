"""Images made smaller before the processor: the answer of the smaller image, beside the original's costs."""

import json
import shutil

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from reroute_cli.console.errors import UsageError
from reroute_cli.console.options import ArmsOptions, ModelOptions, ScheduleOptions
from reroute_cli.data.prompts import Prompt
from reroute_cli.integrations.lmms_eval.arguments import read_arguments
from reroute_cli.models.load import load
from reroute_cli.records.answer import ResizedImage, ResizedPart
from reroute_cli.run.answer import boxes_in
from reroute_cli.run.prompts import Shrunk
from reroute_cli.run.schedules import arms_of
from tests.cli.conftest import draw_picture

QUESTION = "where is the cup ?"
AMOUNT = ("--method", "downsample", "--ratio", "0.667")
SHORT = ("--max-new-tokens", "4")


@pytest.fixture(scope="module")
def qwen(tiny_qwen, tmp_path_factory):
    """A folder with a tiny Qwen2.5-VL of random weights, and a picture of 224 x 168: 48 visual tokens."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, set_seed

    set_seed(3)
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_pretrained(tiny_qwen))
    folder = tmp_path_factory.mktemp("qwen")
    shutil.copytree(tiny_qwen, folder, dirs_exist_ok=True)
    model.save_pretrained(folder)
    draw_picture((224, 168)).save(folder / "wide.png")
    return folder


@pytest.fixture(scope="module")
def answers(qwen):
    """The same question about the picture dense, downsampled, and about the shrunken picture dense."""
    import reroute_cli as reroute

    model, picture = reroute.load(qwen), Image.open(qwen / "wide.png")
    small = reroute.ask(model, picture, QUESTION, method="downsample", ratio=0.667, max_new_tokens=4)
    (size,) = [image.size for image in small.schedule.resized.images]
    shrunk = picture.resize(size, Image.Resampling.LANCZOS)
    dense, alone = (reroute.ask(model, one, QUESTION, max_new_tokens=4) for one in (picture, shrunk))
    return dense, small, alone


def test_the_answer_is_that_of_the_smaller_image_alone(answers):
    """The same words, FLOPs, bytes and tokens of each layer as if somebody had shrunk the file before."""
    _, small, alone = answers
    assert small.answer == alone.answer
    for name in ("vision_flops", "prefill_flops", "decode_flops"):
        assert getattr(small.flops, name) == getattr(alone.flops, name) > 0
    assert small.kv_cache.per_layer_tokens == alone.kv_cache.per_layer_tokens
    assert small.kv_cache.kv_end_bytes == alone.kv_cache.kv_end_bytes
    assert small.tokens.visual_tokens_per_layer == alone.tokens.visual_tokens_per_layer


def test_dense_is_the_original(answers):
    """Tokens of the prompt, dense FLOPs and dense bytes are those of the image as it is."""
    dense, small, _ = answers
    assert small.tokens.visual_tokens == dense.tokens.visual_tokens == 48
    assert small.tokens.prompt_tokens == dense.tokens.prompt_tokens
    assert small.flops.dense_prefill_flops == dense.flops.prefill_flops
    assert small.flops.dense_vision_flops == dense.flops.vision_flops
    assert small.kv_cache.dense_kv_end_bytes == dense.kv_cache.kv_end_bytes
    assert small.kv_cache.logical_tokens == dense.kv_cache.logical_tokens


def test_the_record_tells_both_sizes_and_the_ratio_to_the_original(answers):
    """48 tokens became 5 x 3: two thirds less, of an image of the same shape."""
    part = answers[1].schedule
    (image,) = part.resized.images
    assert (image.original_size, image.original_visual_tokens) == ((224, 168), 48)
    assert image.visual_tokens == answers[1].tokens.visual_tokens_per_layer == 15
    assert abs(image.size[0] / image.size[1] - 4 / 3) < 0.02
    assert (part.method, part.action, part.stages, part.resized.saves) == ("downsample", "resize", [], True)
    assert part.achieved_ratio == pytest.approx(1 - 15 / 48)


def test_the_model_itself_agrees(qwen, answers):
    """transformers alone, given the picture at the recorded size, generates the same tokens."""
    (image,) = answers[1].schedule.resized.images
    pixels = Image.open(qwen / "wide.png").convert("RGB").resize(image.size, Image.Resampling.LANCZOS)
    processor, model = (
        load(ModelOptions(str(qwen))).processor,
        AutoModelForImageTextToText.from_pretrained(qwen),
    )
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=[pixels], text=[text], return_tensors="pt")
    new = model.generate(**inputs, do_sample=False, max_new_tokens=4)[0, inputs["input_ids"].shape[1] :]
    assert processor.tokenizer.decode(new, skip_special_tokens=True).strip() == answers[1].answer


def test_the_table_shows_both_sizes_and_dense_beside(qwen, run):
    """What was made of the image, and the share of the original's FLOPs and bytes that is left."""
    said = " ".join(
        run("ask", "-m", str(qwen), str(qwen / "wide.png"), QUESTION, *AMOUNT, *SHORT).stderr.split()
    )
    assert "visual tokens/layer 15 of 48 · prefill 0." in said
    assert "224 × 168 made " in said
    assert "15 of 48 visual tokens" in said
    assert "dense · " not in said


def test_a_batch_says_what_ask_says(qwen, answers, run):
    """Counted by arithmetic, to the FLOP and the byte; and no other record has smaller images."""
    given = ("-m", str(qwen), "-Q", QUESTION, *SHORT, "--batch-size", "2")
    small, dense = (
        json.loads(run("batch", str(qwen), *given, *amount).stdout.splitlines()[0]) for amount in (AMOUNT, ())
    )
    plain = answers[1].as_dict()
    assert small["answer"] == plain["answer"]
    assert small["schedule"] == plain["schedule"]
    assert small["tokens"] == plain["tokens"]
    flops = [name for name in plain["flops"] if name.endswith("flops")]
    assert {name: small["flops"][name] for name in flops} == {name: plain["flops"][name] for name in flops}
    sizes = ("kv_end_bytes", "dense_kv_end_bytes", "logical_tokens", "per_layer_tokens")
    assert [small["kv_cache"][name] for name in sizes] == [plain["kv_cache"][name] for name in sizes]
    assert dense["schedule"]["resized"] is None


def test_profile_measures_the_smaller_image_beside_the_original(qwen, answers, run, tmp_path):
    """Tokens, FLOPs of tower and decoder, and bytes of both arms are those of ask."""
    file = tmp_path / "report.json"
    given = (
        str(qwen / "wide.png"),
        "-Q",
        QUESTION,
        *SHORT,
        "--repeat",
        "1",
        "--warmup",
        "0",
        "-o",
        str(file),
    )
    result = run("profile", "-m", str(qwen), *given, *AMOUNT)
    assert result.exit_code == 0, result.output
    dense, small = json.loads(file.read_text())["arms"]
    assert (small["name"], small["action"]) == ("downsample", None)
    for arm, record in ((dense, answers[0]), (small, answers[1])):
        assert arm["metrics"]["vision_flops"]["mean"] == record.flops.vision_flops
        assert arm["metrics"]["prefill_flops"]["mean"] == record.flops.prefill_flops
        assert arm["metrics"]["visual_tokens_per_layer"]["mean"] == record.tokens.visual_tokens_per_layer
    (item,), (original,) = small["items"], dense["items"]
    assert item["achieved_ratio"] == answers[1].schedule.achieved_ratio
    assert item["resized"] == answers[1].schedule.as_dict()["resized"]
    assert item["kv_cache_prefill"]["dense_bytes"] == sum(original["kv_cache_prefill"]["per_layer_bytes"])


def test_a_plan_is_what_ask_measures(qwen, answers, run):
    """The tokens and the cost of the smaller image, from the size of the image alone."""
    small = answers[1]
    text = small.tokens.prompt_tokens - small.tokens.visual_tokens
    given = ("--image", str(qwen / "wide.png"), "--text-tokens", str(text), "--dtype", "float32", "--json")
    planned = json.loads(run("plan", "-m", str(qwen), *given, *AMOUNT).stdout)
    assert planned["schedule"]["resized"] == small.schedule.as_dict()["resized"]
    assert planned["schedule"]["achieved_ratio"] == small.schedule.achieved_ratio
    assert planned["routed"]["prefill_flops"] == small.flops.prefill_flops
    assert planned["routed"]["vision_flops"] == small.flops.vision_flops
    assert planned["dense"]["vision_flops"] == small.flops.dense_vision_flops


def test_a_plan_without_an_image_asks_for_one(qwen, run, fails):
    """How many visual tokens a smaller image has depends on the image."""
    fails(run("plan", "-m", str(qwen), "--visual-tokens", "64", *AMOUNT), 2, "--image")


def test_a_box_comes_back_in_pixels_of_the_original(qwen):
    """Qwen2.5-VL answers in pixels of what its tower saw, 112 x 84 of an image of 448 x 252."""
    loaded = load(ModelOptions(str(qwen)))
    seen = {"original_size": (448, 252), "size": (120, 68), "original_visual_tokens": 1, "visual_tokens": 1}
    prompt = Prompt({"image_grid_thw": torch.tensor([[1, 6, 8]])}, 0.0)
    shrunk = Shrunk(prompt, 1, ResizedPart(images=[ResizedImage(**seen)], saves=True))
    boxes, _ = boxes_in("[28, 21, 56, 84]", loaded, [(448, 252)], prompt, shrunk)
    assert boxes == [(112.0, 63.0, 224.0, 252.0)]


def test_a_tower_of_one_size_says_that_nothing_is_saved(record, run, warm, picture):
    """In the record, in the table and on stderr; the same tokens, of half as many pixels."""
    found = record(picture, QUESTION, "--method", "downsample", "--ratio", "0.5", *SHORT)
    part = found["schedule"]["resized"]
    assert part["saves"] is False
    assert part["images"][0]["size"] == [158, 158]  # 224 / sqrt(2)
    assert found["schedule"]["achieved_ratio"] == 0.0
    assert found["tokens"]["visual_tokens_per_layer"] == found["tokens"]["visual_tokens"] == 256
    said = run("ask", picture, QUESTION, "--method", "downsample", "--ratio", "0.5", *SHORT).stderr
    assert "downsample saves nothing with llava" in said
    assert "nothing is saved" in " ".join(said.split())


@pytest.mark.parametrize(
    "typed",
    [{"action": "reroute"}, {"action": "prune"}, {"layers": (3,)}],
    ids=["reroute", "prune", "layers"],
)
def test_there_is_nothing_to_route(typed):
    """An action or layers with it are refused in one sentence."""
    with pytest.raises(UsageError, match="makes the image smaller and routes nothing: drop --"):
        ScheduleOptions(method="downsample", ratio=0.5, **typed)


def test_its_arm_has_no_action():
    """Alone and among others it is one arm, called after the method."""
    arms = arms_of(ArmsOptions(arms="fastv,downsample", ratio=0.5))
    assert [arm.name for arm in arms] == ["dense", "fastv-prune", "fastv-reroute", "downsample"]
    assert (arms[-1].method, arms[-1].action) == ("downsample", None)
    assert arms_of(ArmsOptions(method="downsample", budget=64))[1].name == "downsample"
    with pytest.raises(UsageError, match="drop --action"):
        arms_of(ArmsOptions(arms="downsample:reroute", ratio=0.5))


def test_what_needs_a_schedule_refuses_it(run, fails, picture):
    """trace says so in one sentence, before a model is loaded."""
    fails(run("trace", picture, QUESTION, *AMOUNT, "--json"), 2, "downsample routes nothing")


def test_each_of_several_images_gives_up_the_same_share(qwen):
    """A budget of all images together is a ratio to each of them."""
    import reroute_cli as reroute

    pictures = [Image.open(qwen / "wide.png"), draw_picture((112, 224))]
    record = reroute.ask(
        reroute.load(qwen), pictures, QUESTION, method="downsample", budget=40, max_new_tokens=2
    )
    first, second = record.schedule.resized.images
    assert (first.original_visual_tokens, second.original_visual_tokens) == (48, 32)
    assert record.schedule.ratio == pytest.approx(0.5)
    assert (first.visual_tokens, second.visual_tokens) == (24, 15)
    assert record.tokens.visual_tokens_per_layer == first.visual_tokens + second.visual_tokens


def test_lmms_eval_refuses_it():
    """Its requests bring their own images, which are not made smaller there."""
    with pytest.raises(UsageError, match="makes images smaller, which is not done here"):
        read_arguments({"method": "downsample", "ratio": 0.5})
