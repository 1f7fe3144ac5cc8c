"""Every name of a framework that the command line relies on, taken away: one sentence names it, no traceback.

Each table says which name, of what, and which of our files asks for it. Names that the engine relies on are
in routing/host.py and tests/routing/test_host.py.
"""

import importlib.metadata
import sys
from dataclasses import replace

import huggingface_hub
import pynvml
import pytest
import torch
import transformers
import typer
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicSlidingWindowLayer
from transformers.models.auto import processing_auto

from reroute_cli import __main__
from reroute_cli.console.errors import Failure, sentence_of
from reroute_cli.console.missing import PACKAGES, lacks, missing_name
from reroute_cli.console.options import ModelOptions
from reroute_cli.measure import flops
from reroute_cli.measure.estimate import kv_layers
from reroute_cli.measure.judges import view_of
from reroute_cli.measure.memory import NvmlSampler, driver_version, measure_kv
from reroute_cli.models import dummy, processors, weights
from reroute_cli.models import load as models
from reroute_cli.models.generation import Generation
from reroute_cli.models.logits import row_by_row
from routing.checks.subjects import ONE, tiny
from tests.cli.measure.fake_nvml import Driver

ASKED = (  # name, of what an answer is made of, asked for by
    ("tokenizer", "processor", "data/prompts.py, measure/passes.py, run/answer.py"),
    ("chat_template", "processor", "data/prompts.py"),
    ("apply_chat_template", "processor", "data/prompts.py"),
    ("image_processor", "processor", "run/answer.py, studies/trace.py, measure/estimate.py"),
    ("do_pad", "processor.image_processor", "routing/families/llava.py"),
    ("do_center_crop", "processor.image_processor", "routing/families/llava.py"),
    ("added_tokens_decoder", "processor.tokenizer", "data/prompts.py"),
    ("all_special_tokens", "processor.tokenizer", "data/prompts.py"),
    ("decode", "processor.tokenizer", "run/answer.py"),
    ("eos_token_id", "model.generation_config", "measure/passes.py"),
    ("get_text_config", "model.config", "measure/passes.py"),
    ("get_output_embeddings", "model", "measure/flops.py"),
    ("generate", "model", "measure/passes.py"),
)
OF_A_CACHE = (  # name, of what, and what reads it, in measure/memory.py and measure/estimate.py
    ("layers", DynamicCache, measure_kv),
    ("layers", DynamicCache, kv_layers),
    ("keys", DynamicSlidingWindowLayer, measure_kv),
    ("keys", DynamicSlidingWindowLayer, kv_layers),
    ("values", DynamicSlidingWindowLayer, measure_kv),
    ("is_sliding", DynamicSlidingWindowLayer, measure_kv),
    ("sliding_window", DynamicSlidingWindowLayer, measure_kv),
    ("sliding_window", DynamicSlidingWindowLayer, kv_layers),
    ("get_seq_length", DynamicSlidingWindowLayer, measure_kv),
)
IMPORTED = (  # name, from where, into which of our modules
    ("TorchDispatchMode", "torch.utils._python_dispatch", "reroute_cli.measure.flops"),
    ("FlopCounterMode", "torch.utils.flop_counter", "reroute_cli.measure.flops"),
    ("TyperGroup", "typer.core", "reroute_cli.console.errors"),
)
OF_NVML = (  # name in pynvml, what becomes null; all in measure/memory.py
    ("nvmlInit", ("process", "device", "energy")),
    ("nvmlDeviceGetHandleByUUID", ("process", "device", "energy")),
    ("nvmlDeviceGetMemoryInfo", ("device",)),
    ("nvmlDeviceGetComputeRunningProcesses", ("process",)),
    ("nvmlDeviceGetTotalEnergyConsumption", ("energy",)),
)


@pytest.fixture
def take(monkeypatch):
    """A function that takes a name away from a thing, its class and the classes above."""

    def away(thing, name):
        kinds = thing.__mro__ if isinstance(thing, type) else (thing, *type(thing).__mro__)
        holders = [holder for holder in kinds if name in vars(holder)]
        assert holders, f"{thing} never had {name}"
        for holder in holders:
            monkeypatch.delattr(holder, name)

    return away


@pytest.mark.parametrize(("name", "of", "used_by"), ASKED, ids=lambda value: value)
def test_what_an_answer_needs_is_named(warm, run, fails, take, picture, name, of, used_by):
    """`ask` ends with exit code 4 and says which release has not what it asks for."""
    thing = warm
    for part in of.split("."):
        thing = getattr(thing, part)
    take(thing, name)
    fails(run("ask", picture, "where is the cup?"), 4, f"has no '{name}' in ", "proven with transformers")


def test_a_padded_batch_whose_logits_are_made_elsewhere_is_refused(pocket, take):
    """models/logits.py: penalties that would count padding are not answered with."""
    loaded = replace(pocket, generation=Generation(active={"repetition_penalty": 1.3}))
    inputs = {"attention_mask": torch.tensor([[0, 1], [1, 1]])}
    with (
        pytest.raises(Failure, match="has no '_get_logits_processor' in the course of generate"),
        row_by_row(loaded, inputs),
    ):
        pass
    take(pocket.model, "_get_logits_processor")
    with (
        pytest.raises(Failure, match="has no '_get_logits_processor' in LlavaForConditionalGeneration"),
        row_by_row(loaded, inputs),
    ):
        pass


def _filled():
    """A cache with one sliding layer of three tokens."""
    layer = DynamicSlidingWindowLayer(sliding_window=8)
    layer.update(torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8))
    cache = DynamicCache()
    cache.layers = [layer]
    return cache


@pytest.mark.parametrize(("name", "of", "reads"), OF_A_CACHE)
def test_a_cache_under_other_names_is_never_an_empty_one(take, name, of, reads):
    """Tokens that can't be found raise; they are not counted as none, nor a window as unbounded."""
    cache = _filled()
    take(cache if of is DynamicCache else cache.layers[0], name)
    with pytest.raises((Failure, AttributeError)) as caught:
        reads(cache)
    assert f"has no '{name}' in {of.__name__}" in sentence_of(caught.value)


def test_tokens_that_are_kept_elsewhere_are_missed():
    """A layer whose keys show fewer tokens than it stands for is refused, whatever it calls the others."""
    cache = DynamicCache()
    cache.update(torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8), 0)
    cache.layers[0].get_seq_length = lambda: 9
    with pytest.raises(Failure, match="a DynamicLayer can't be measured, its keys show 5 of 9 tokens"):
        measure_kv(cache)


@pytest.mark.parametrize(("name", "source", "into"), IMPORTED)
def test_what_is_imported_is_named(monkeypatch, name, source, into):
    """A module that can't be imported because of it says which release lacks the name."""
    monkeypatch.delattr(f"{source}.{name}")
    monkeypatch.delitem(sys.modules, into)
    with pytest.raises(ImportError) as caught:
        importlib.import_module(into)
    assert f"has no '{name}' in {source}" in missing_name(caught.value)


def test_a_boundary_without_its_own_names_is_no_traceback(monkeypatch, capsys):
    """Where Typer has not what errors.py catches, the program ends in a sentence all the same."""
    monkeypatch.delattr(typer, "TyperException")
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # main() sets it for the whole process
    monkeypatch.setattr(sys, "argv", ["reroute", "nonsense"])
    with pytest.raises(SystemExit) as caught:
        __main__.main()
    assert caught.value.code == 4
    assert capsys.readouterr().err.startswith(f"error: {lacks('typer', 'TyperException', 'typer')}")


@pytest.mark.parametrize("name", ["GatedRepoError", "RepositoryNotFoundError", "HfHubHTTPError"])
def test_the_hubs_errors_are_named(monkeypatch, run, fails, name):
    """models/sources.py: a hub client without them is told, and not a hub that can't be reached."""
    monkeypatch.delattr(huggingface_hub.errors, name)
    fails(run("plan", "-m", "someone/something"), 4, f"has no '{name}' in huggingface_hub.errors")


def test_the_hubs_question_is_named(monkeypatch, run, fails):
    """The same for what it is asked with."""
    monkeypatch.delattr(huggingface_hub.HfApi, "model_info")
    fails(run("plan", "-m", "someone/something"), 4, "has no 'model_info' in HfApi")


def test_flops_are_not_counted_without_formulas(monkeypatch):
    """measure/flops.py: a counter that takes none of ours would count attention as nothing."""
    counter = flops.FlopCounterMode
    monkeypatch.setattr(flops, "FlopCounterMode", lambda display: counter(display=display))
    with pytest.raises(Failure, match="has no 'custom_mapping' in FlopCounterMode"), _metered():
        pytest.fail("entered")


def test_a_counter_that_does_not_say_its_sum_is_named(take):
    """The same for the number itself."""
    take(flops.FlopCounterMode, "get_total_flops")
    with pytest.raises(AttributeError) as caught, torch.no_grad(), _metered():
        tiny("llava").model(**tiny("llava").inputs(ONE))
    assert "has no 'get_total_flops' in FlopCounterMode" in sentence_of(caught.value)


def _metered():
    return flops.FlopMeter(tiny("llava").model)


@pytest.mark.parametrize("name", list(flops._KERNELS))
def test_a_kernel_that_torch_lost_is_counted_no_more(monkeypatch, name):
    """A formula without its kernel is left out; the others stay."""
    monkeypatch.setitem(flops._KERNELS, "_of_another_release", flops._KERNELS[name])
    assert len(flops._formulas()) == len(flops._KERNELS) - 1


@pytest.mark.parametrize(("name", "unknown"), OF_NVML)
def test_what_pynvml_lacks_is_null_with_its_name(monkeypatch, name, unknown):
    """A sampler without the function answers what is left, and says why the rest is null."""
    driver = Driver(monkeypatch, processes=[(4242, 55)])
    monkeypatch.delattr(pynvml, name)
    with NvmlSampler("abc", pid=4242) as found:
        pass
    said = {key: reason for key, reason in found.reasons.items() if f"has no '{name}' in pynvml" in reason}
    assert set(said) == set(unknown)
    assert all(getattr(found, key) is None for key in unknown)
    assert driver.inits == driver.shutdowns


@pytest.mark.parametrize("name", ["nvmlInit", "nvmlShutdown", "nvmlSystemGetDriverVersion"])
def test_a_driver_that_pynvml_can_not_be_asked_for_is_unknown(monkeypatch, name):
    """`reroute env` shows none."""
    Driver(monkeypatch)
    monkeypatch.delattr(pynvml, name)
    assert driver_version() is None


def test_a_gpu_without_a_uuid_is_not_looked_for(monkeypatch):
    """measure/memory.py: torch that gives none leaves the driver's numbers null with that reason."""
    Driver(monkeypatch)
    with NvmlSampler(None) as found:
        pass
    assert set(found.reasons) == {"process", "device", "energy"}
    assert set(found.reasons.values()) == {lacks("torch", "uuid", "a GPU's properties")}


def test_a_processor_that_is_not_asked_for_its_parts_is_named(take):
    """models/processors.py: without this method the video processor would come back, with torchvision."""
    take(transformers.Qwen2VLProcessor, "get_attributes")
    with pytest.raises(Failure, match="has no 'get_attributes' in Qwen2VLProcessor"):
        processors.image_only("Qwen2VLProcessor")


def test_a_family_without_a_processor_class_is_named(monkeypatch, pocket):
    """The same for the table of classes, where AutoProcessor itself needs what is not installed."""

    def refuse(*_, **__):
        raise ImportError("needs torchvision")

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", refuse)
    monkeypatch.delitem(processing_auto.PROCESSOR_MAPPING_NAMES, "llava")
    with pytest.raises(Failure, match="has no 'llava' in PROCESSOR_MAPPING_NAMES"):
        models.load(ModelOptions(device="cpu"))


@pytest.mark.parametrize("name", ["missing_keys", "mismatched_keys"])
def test_a_loading_report_without_what_is_missing_is_no_report(monkeypatch, name):
    """models/weights.py: weights that may lack tensors are not answered with."""
    whole = transformers.AutoModelForImageTextToText.from_pretrained

    def told_less(*args, **kwargs):
        model, report = whole(*args, **kwargs)
        return model, {key: value for key, value in dict(report).items() if key != name}

    monkeypatch.setattr(transformers.AutoModelForImageTextToText, "from_pretrained", told_less)
    with pytest.raises(Failure, match=f"has no '{name}' in the loading info"):
        models.load(ModelOptions(device="cpu"))


def test_an_attention_that_is_not_told_is_named(monkeypatch, take):
    """models/load.py: which kernels ran decides what can be counted."""
    whole = weights.load_weights

    def loaded_first(*args):
        model = whole(*args)  # making one sets the name
        take(transformers.PreTrainedConfig, "_attn_implementation")
        return model

    monkeypatch.setattr(weights, "load_weights", loaded_first)
    with pytest.raises((Failure, AttributeError)) as caught:
        models.load(ModelOptions(device="cpu"))
    assert "has no '_attn_implementation' in LlavaConfig" in sentence_of(caught.value)


def test_weights_that_the_library_fills_anew_are_refused(monkeypatch):
    """models/dummy.py: where its mark on a finished matrix is not heeded, no seed tells the weights."""
    whole = PreTrainedModel.initialize_weights

    def heedless(model):
        for parameter in model.parameters():
            vars(parameter).pop("_is_hf_initialized", None)
        whole(model)

    monkeypatch.setattr(PreTrainedModel, "initialize_weights", heedless)
    settings = {"dtype": torch.float32, "attn_implementation": "sdpa"}
    with pytest.raises(Failure, match="has no '_is_hf_initialized' in initialize_weights"):
        dummy.build_model("x", tiny("llava").model.config, settings, "cpu", 0)


@pytest.mark.parametrize(
    ("name", "family", "kind", "inputs"),
    [
        ("patch_size", "qwen2_5_vl", "Qwen2VLImageProcessorPil", {"image_grid_thw": torch.ones(1, 3)}),
        ("crop_size", "llava", "CLIPImageProcessorPil", {}),
        ("size", "llava", "CLIPImageProcessorPil", {}),
    ],
)
def test_a_size_that_is_not_told_is_named(take, name, family, kind, inputs):
    """measure/judges.py: what a model saw of a picture can't be guessed."""
    processor = getattr(transformers, kind)()
    take(processor, name)
    with pytest.raises(AttributeError) as caught:
        view_of(family, processor, inputs, (56, 56))
    assert f"has no '{name}' in {kind}" in sentence_of(caught.value)


def test_a_name_that_our_own_code_got_wrong_stays_our_bug():
    """What is no framework's is called a bug, and so is what a framework looks up in itself."""
    for wrong in (lambda: [].nothing, lambda: torch.nn.Module().forward()):
        with pytest.raises((AttributeError, NotImplementedError)) as caught:
            wrong()
        assert missing_name(caught.value) is None


def test_every_package_is_called_by_its_own_name():
    """The module's package is the one that pip knows."""
    found = importlib.metadata.packages_distributions()
    for module, package in PACKAGES.items():
        assert package in {name.lower().replace("_", "-") for name in found[module]}
