"""Finding and loading models: folders, the hub, damaged and dangerous weights, random ones."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.options import ModelOptions
from reroute_cli.models import load as models
from reroute_cli.models import sources
from reroute_cli.models.pocket import WEIGHTS


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded model's folder, without its weights."""
    target = tmp_path / "model"
    shutil.copytree(WEIGHTS, target, ignore=shutil.ignore_patterns("*.safetensors"))
    return target


@pytest.fixture
def weights(folder):
    """The same with weights, as a file of its own."""
    shutil.copy(WEIGHTS / "model.safetensors", folder / "model.safetensors")
    return folder / "model.safetensors"


def loading(folder, **options):
    """Load from a folder on the CPU."""
    return models.load(ModelOptions(model=str(folder), device="cpu", **options))


def test_pocket_is_the_embedded_llava(pocket):
    """The default model is a float32 LLaVA in eval mode on the CPU."""
    assert (pocket.name, pocket.family, pocket.device, pocket.dtype) == ("pocket", "llava", "cpu", "float32")
    assert pocket.attention == "sdpa"
    assert not pocket.model.training
    assert pocket.layers == pocket.model.config.text_config.num_hidden_layers


def edit_config(folder, **changes):
    """Overwrite entries of the folder's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_config_that_claims_more_than_its_weights_is_refused_before_it_is_built(
    folder, weights, monkeypatch
):
    """Without a text_config the library's 7B defaults would be allocated first; nothing is allocated here."""
    edit_config(folder, text_config=None)
    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", None)
    with pytest.raises(Failure, match=r"asks for \d+ parameters and its weights hold \d+"):
        loading(folder)


@pytest.mark.parametrize("layer", [99, -7, [-2, 6]])
def test_a_vision_layer_that_is_not_there_is_refused(folder, weights, layer):
    """The tower has 5 layers: reading another one is one sentence, not an error while answering."""
    edit_config(folder, vision_feature_layer=layer)
    with pytest.raises(Failure, match="of a tower of 5"):
        loading(folder)


def test_truncated_weights_are_called_damaged(folder, weights):
    """Half a safetensors file is one sentence."""
    weights.write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(Failure, match="damaged"):
        loading(folder)


def test_weights_that_lack_a_tensor_are_refused(folder, weights):
    """A missing tensor would be filled with random numbers in silence: it is an error that names it."""
    tensors = load_file(weights)
    lost = next(name for name in tensors if "layers.3" in name)
    del tensors[lost]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(Failure, match="lack 1 tensors") as caught:
        loading(folder)
    assert lost.rsplit(".", 3)[-2] in str(caught.value)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_pickled_weights_are_never_opened(folder, name):
    """A folder with only a pickle is refused by the pickle's name."""
    (folder / name).write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(Failure, match=f"{name}.*pickle"):
        loading(folder)


def test_a_folder_without_weights_says_what_to_add(folder):
    """No weights at all: add safetensors or ask for random ones."""
    with pytest.raises(Failure, match="--load-format dummy"):
        loading(folder)


def test_dummy_weights_have_the_right_shapes_and_follow_the_seed(folder, pocket):
    """Random weights need no weight file; one seed gives one model, another seed another."""
    made = [loading(folder, load_format="dummy", seed=seed) for seed in (1, 1, 2)]
    shapes = [{name: value.shape for name, value in m.model.state_dict().items()} for m in [*made, pocket]]
    assert shapes[0] == shapes[3]
    assert all(m.random for m in made)
    first, again, other = (m.model.get_input_embeddings().weight for m in made)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_code_in_a_model_folder_is_never_run(folder):
    """A config that asks for its own code is refused; the code does not run."""
    mark = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass C: ...\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.C"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Failure, match="can't be loaded"):
        loading(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        "null",
        "[" * 100_000,
        '{"model_type": ["llava"]}',
        '{"model_type": "llava", "text_config": "x"}',
        '{"model_type": "llava", "vision_config": [1]}',
    ],
    ids=lambda content: content[:60],
)
def test_a_broken_config_is_one_sentence(folder, content):
    """A config.json that is no JSON object is refused before anything else happens."""
    (folder / "config.json").write_text(content)
    with pytest.raises(Failure, match="config"):
        sources.read_config(str(folder))
    with pytest.raises(Failure):
        loading(folder, load_format="dummy")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", {"text_config": {"num_attention_heads": 0}}),
        ("config.json", {"text_config": {"vocab_size": -5}}),
        ("config.json", {"vision_config": {"num_attention_heads": 0}}),
        ("config.json", {"dtype": [1]}),
        ("tokenizer.json", None),
        ("processor_config.json", None),
    ],
    ids=str,
)
def test_files_that_make_no_sense_are_one_sentence(folder, file, content):
    """Whatever a library raises about a model's files is a known failure that names the model."""
    config = json.loads((folder / file).read_text())
    for key, value in (content or {}).items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (folder / file).write_text(json.dumps(config if content else None))
    with pytest.raises(Failure, match="can't be loaded"):
        loading(folder, load_format="dummy")


def test_a_family_that_cannot_be_routed_is_refused_before_its_weights(folder):
    """The engine's reason is given although there are no weights to load."""
    from routing import UnsupportedModelError

    (folder / "config.json").write_text(json.dumps({"model_type": "mllama"}))
    with pytest.raises(UnsupportedModelError, match="cross-attention"):
        loading(folder)


@pytest.mark.parametrize(
    "name", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all", "a/b/c", "what is this?", "", "-x"]
)
def test_a_name_that_is_no_folder_and_no_hub_id_is_refused(name):
    """Paths that don't exist and names the hub can't have never reach the network."""
    with pytest.raises(Failure, match="pocket"):
        sources.find(name)


def test_a_file_is_no_model(tmp_path):
    """A file in place of a folder is called a file."""
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(Failure, match="file, not a folder"):
        sources.find(str(tmp_path / "model.safetensors"))


def hub_answers(monkeypatch, error):
    """Make the hub's one answer this error."""

    def refuse(*_args, **_kwargs):
        raise error

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)


def test_an_unknown_model_without_a_network_is_one_sentence(monkeypatch):
    """No cache, no network: the model is not here and the hub can't be reached."""
    hub_answers(monkeypatch, no_network())
    with pytest.raises(Failure, match="not on this machine and the hub can't be reached"):
        sources.find("nobody/nothing-of-that-name")


def no_network():
    """What a machine without name resolution raises."""
    return OSError("[Errno -2] Name or service not known")


def test_a_cached_model_is_used_without_a_network(monkeypatch):
    """What the cache holds needs no hub."""
    hub_answers(monkeypatch, no_network())
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache",
        lambda _, file: "/cache/config.json" if file == "config.json" else None,
    )
    source = sources.find("some/model")
    assert source.offline
    assert source.arguments["local_files_only"]


@pytest.mark.parametrize(
    ("device", "error"),
    [
        ("gpu", UsageError),
        ("cuda:x", UsageError),
        ("cuda:²", UsageError),
        ("cuda:-1", UsageError),
        ("cpu:²", UsageError),
        ("cpu:1", UsageError),
        ("cuda:99", Failure),
    ],
)
def test_a_device_that_is_not_there_is_refused(device, error):
    """Unknown names are usage errors, absent devices are failures; both say what was given."""
    with pytest.raises(error, match=device):
        models.choose_device(device)


def test_auto_dtype_is_float32_on_a_cpu():
    """The CPU default is exact; a named dtype is taken as it is."""
    assert models.choose_dtype("auto", "cpu") is torch.float32
    assert models.choose_dtype("float16", "cpu") is torch.float16


def test_a_qwen_processor_is_built_without_its_video_part(tiny_qwen):
    """Without torchvision the image part alone makes the inputs that the whole processor would."""
    loaded = loading(tiny_qwen, load_format="dummy")
    assert type(loaded.processor).__name__ == "Qwen2_5_VLProcessor"
    assert loaded.family == "qwen2_5_vl"
