"""Models without a file: weights, processors and tokens of well-known models, with no network."""

import json
import socket
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

import profiles
from reroute_cli.data.prompts import render_template, run_processor
from reroute_cli.models import dummy
from routing.checks.configs import SUPPORTED, VARIANTS
from routing.families import describe_config
from tests.cli.shrunk import shrunk

SETTINGS = {"dtype": torch.float32, "attn_implementation": "sdpa"}
TINY = {**{name: (name, make) for name, make in SUPPORTED.items()}}
TINY |= {name: (kind, make) for name, (kind, _, make) in VARIANTS.items()}
ONE_EACH = {  # one model of each processor: its visual tokens for a picture of 640 x 480
    "llava-1.5-7b": 576,
    "llava-next-7b": 576 + 48 * 36 + 36,
    "llava-next-mistral-7b": 576 + 48 * 36 + 36,
    "qwen2-vl-2b": 23 * 17,
    "qwen2.5-vl-3b": 23 * 17,
    "qwen3-vl-4b": 20 * 15,
    "qwen3.5-9b": 20 * 15,
    "internvl3-1b": (4 * 3 + 1) * 256,
    "internvl3.5-8b": (4 * 3 + 1) * 256,
    "gemma-3-4b": 256,
    "smolvlm-256m": (4 * 3 + 1) * 64,
    "smolvlm-2.2b": (4 * 3 + 1) * 81,
}


def built(name, seed=0, **settings):
    """A tiny model of that family with random weights, and the same one as the library constructs it."""
    kind, make = TINY[name]
    ours = dummy.build_model(name, CONFIG_MAPPING[kind](**make()), SETTINGS | settings, "cpu", seed)
    return ours, AutoModelForImageTextToText.from_config(
        CONFIG_MAPPING[kind](**make()), **SETTINGS | settings
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", TINY)
def test_buffers_are_those_of_a_constructed_model(name, dtype):
    """Rotary frequencies and position ids survive being allocated empty, in every family and dtype."""
    ours, theirs = built(name, dtype=dtype)
    buffers = dict(ours.named_buffers())
    assert buffers.keys() == dict(theirs.named_buffers()).keys()
    for key, buffer in theirs.named_buffers():
        assert buffers[key].dtype == buffer.dtype, key
        assert torch.equal(buffers[key], buffer), key


@pytest.mark.parametrize("name", TINY)
def test_weights_are_small_random_numbers_and_norms_are_one(name):
    """Nothing is left as it was allocated: matrices have the stated spread, norms their neutral value."""
    ours, theirs = built(name)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    constructed = dict(theirs.named_parameters())
    for key, weight in ours.named_parameters():
        if weight.dim() > 1 and weight.numel() > 500:
            assert weight.std().item() == pytest.approx(0.02, rel=0.2), key
        elif "norm" in key:
            assert torch.equal(weight, constructed[key]), key
        assert weight.isfinite().all(), key
    assert not ours.training


def test_no_two_rows_and_no_two_matrices_are_the_same():
    """The pool that fills all matrices never repeats itself within one, nor starts two of them alike."""
    ours, _ = built("llava")
    rows = torch.cat(
        [weight for weight in ours.parameters() if weight.shape[-1:] == (64,) and weight.dim() == 2]
    )
    assert len(rows.unique(dim=0)) == len(rows)


@pytest.mark.parametrize("tied", [True, False])
def test_tied_embeddings_stay_tied(tied):
    """One tensor where the config ties input and output embeddings, two where it does not."""
    config = SUPPORTED["qwen2_vl"]() | {"tie_word_embeddings": tied}
    config["text_config"] |= {"tie_word_embeddings": tied}
    made = dummy.build_model("x", CONFIG_MAPPING["qwen2_vl"](**config), SETTINGS, "cpu", 0)
    ends = made.get_input_embeddings().weight, made.get_output_embeddings().weight
    assert (ends[0].data_ptr() == ends[1].data_ptr()) is tied
    assert torch.equal(*ends) is tied


def test_the_seed_decides():
    """One seed gives one model, another seed another."""
    first, again, other = (built("llava", seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first if first[key].dim() > 1)


def test_a_buffer_that_nothing_fills_is_found(monkeypatch):
    """Were a family's buffers not initialised, the model would be refused, not run with garbage."""
    monkeypatch.setattr("transformers.PreTrainedModel.initialize_weights", lambda _model: None)
    with pytest.raises(AssertionError, match="inv_freq"):
        built("llava")


@pytest.fixture
def offline(monkeypatch):
    """Well-known models come small and unchecked, and any use of the network fails the test."""
    monkeypatch.setenv("REROUTE_CHECK", "off")
    monkeypatch.setattr("reroute_cli.models.load.known", shrunk)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))


@pytest.fixture
def photo(drawn, tmp_path):
    """A picture of 640 x 480."""
    path = tmp_path / "photo.png"
    drawn((640, 480)).save(path)
    return str(path)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ONE_EACH)
def test_every_family_answers_without_a_file(record, photo, name):
    """`ask --load-format dummy` runs routed from the short name alone, with the family's visual tokens."""
    routed = ("--method", "fastv", "--action", "reroute", "--ratio", "0.5")
    found = record(photo, "where?", "-m", name, "--load-format", "dummy", "--max-new-tokens", "2", *routed)
    assert found["tokens"]["visual_tokens"] == ONE_EACH[name]
    assert found["model"]["weights"] == "random"
    assert found["model"]["id"] == profiles.model(name).hub
    assert found["schedule"]["achieved_ratio"] == pytest.approx(0.5, abs=0.02)
    assert found["tokens"]["new_tokens"] == 2


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("qwen3.5-9b", (16 * 16, 14 * 9, 19 * 12, 20 * 13)),  # squares of 32 pixels
        ("gemma-3-4b", (256, 256, 256, 256)),  # every image is 896 x 896
        ("internvl3.5-8b", (256, 7 * 256, 7 * 256, 7 * 256)),  # 3 x 2 tiles and the whole; a square is one
    ],
)
def test_the_photographs_have_these_visual_tokens(name, counts):
    """512 x 512, 451 x 300, 600 x 400 and 640 x 427 pixels, by the processors of today's checkpoints."""
    entry = profiles.model(name)
    config = dummy.build_config(entry.config)
    processor = dummy.build_processor(entry.processor, config.get_text_config().vocab_size)
    text, ids = render_template(processor, "where?", 1), describe_config(config).image_token_ids
    photos = [Image.open(path) for path in sorted(Path("samples/photos").glob("*.jpg"))]
    assert tuple(run_processor(processor, [photo], text).count(ids) for photo in photos) == counts


@pytest.mark.usefixtures("offline")
def test_the_hub_id_is_the_same_model(record, photo):
    """By name and by hub id: one record, its id and answer included."""
    options = ("--load-format", "dummy", "--max-new-tokens", "3")
    names = ("qwen3-vl-4b", "qwen/qwen3-vl-4b-instruct")
    first, second = (record(photo, "where?", "-m", name, *options) for name in names)
    assert (first["id"], first["answer"]) == (second["id"], second["answer"])


@pytest.mark.usefixtures("offline")
def test_several_pictures_have_their_own_tokens(record, photo, picture):
    """640 x 480 and 224 x 224 in one Qwen2.5-VL prompt: 23 x 17 and 8 x 8."""
    options = ("--load-format", "dummy", "--max-new-tokens", "1")
    found = record(photo, picture, "where?", "-m", "qwen2.5-vl-3b", *options)
    assert found["tokens"]["visual_tokens"] == 23 * 17 + 8 * 8


@pytest.mark.usefixtures("offline")
def test_profile_measures_a_model_without_a_file(run, picture):
    """`profile --load-format dummy`: dense and routed arms of a Qwen2.5-VL, with nothing downloaded."""
    schedule = ("--method", "fastv", "--action", "prune", "--ratio", "0.5")
    few = ("--max-new-tokens", "2", "--warmup", "0", "--repeat", "1", "--question", "where?")
    model = ("-m", "qwen2.5-vl-3b", "--load-format", "dummy")
    result = run("profile", picture, *model, *schedule, *few, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["model"]["id"] == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert [arm["name"] for arm in found["arms"]] == ["dense", "fastv-prune"]


def test_a_model_without_room_is_refused_before_it_is_allocated(run, fails, photo, monkeypatch):
    """LLaVA-1.5-7B in float32 takes 26.3 GiB: with 8 free it is one sentence that says both."""
    monkeypatch.setattr("reroute_cli.models.room.free_bytes", lambda _device: 8 * 2**30)
    monkeypatch.setattr(torch.nn.Module, "to_empty", lambda *_, **__: pytest.fail("allocated"))
    asked = run("ask", photo, "where?", "-m", "llava-1.5-7b", "--load-format", "dummy", "--device", "cpu")
    fails(asked, 4, "26.3 GiB", "8.00 GiB", "--dtype bfloat16")


def test_a_model_without_a_known_processor_has_no_dummy(run, fails, photo):
    """Its shapes are known to `plan` alone, and the sentence says so."""
    asked = run("ask", photo, "where?", "-m", "llama-4-scout", "--load-format", "dummy")
    fails(asked, 4, "the processor of 'llama-4-scout'", "reroute plan")


def test_without_dummy_a_known_name_is_looked_up_by_its_hub_id(run, fails, photo, monkeypatch):
    """No network and no cache: the sentence has the hub id and the way to do without."""
    asked = []

    def refuse(_api, name, **_):
        asked.append(name)
        raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    fails(
        run("ask", photo, "where?", "-m", "llava-1.5-7b"),
        4,
        "llava-hf/llava-1.5-7b-hf",
        "--load-format dummy",
    )
    assert asked == ["llava-hf/llava-1.5-7b-hf"]
