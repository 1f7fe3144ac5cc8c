"""Generation settings of a checkpoint: which change a greedy answer, and that every pass heeds them."""

import json

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from transformers import AutoModelForImageTextToText, GenerationConfig, LogitsProcessorList

from reroute_cli.console.errors import Failure
from reroute_cli.console.options import ModelOptions
from reroute_cli.data.images import open_image
from reroute_cli.data.prompts import build_prompt
from reroute_cli.measure import passes as running
from reroute_cli.models.generation import MODEL, NEUTRAL, Generation, read_generation
from reroute_cli.models.generation_fields import CHECKS, COSTS, METADATA, OVERRIDDEN, SPECIAL, UNABLE
from reroute_cli.models.load import load
from reroute_cli.models.sources import Source
from reroute_cli.run.answer import generation_part, settings_of
from reroute_cli.run.batch import collate
from reroute_cli.run.schedules import ScheduleChoice
from routing import Schedule
from tests.cli.checkpoints import TOKENS, checkpoint

QUESTIONS = {
    "samples/harbour.png": "Where is the boat?",
    "samples/desk.png": "What is in the picture, and where is it?",
    "samples/garden.png": "Where is the cup? Answer with a box, please, and say what is beside it.",
}
LONGEST = 10
ACTIVE = {
    "repetition_penalty": 1.3,
    "encoder_repetition_penalty": 1.4,
    "no_repeat_ngram_size": 2,
    "encoder_no_repeat_ngram_size": 1,
    "bad_words_ids": [[5], [7, 8]],
    "min_length": 278,
    "min_new_tokens": 9,
    "forced_bos_token_id": 3,
    "forced_eos_token_id": 2,
    "exponential_decay_length_penalty": [2, 1.5],
    "suppress_tokens": [10, 11, 12, 20, 30],
    "begin_suppress_tokens": list(range(3, 200)),
    "sequence_bias": [[[40], 5.0], [[41, 42], 3.0]],
    "watermarking_config": {"bias": 3.0, "greenlist_ratio": 0.3},
    "remove_invalid_values": True,
    "renormalize_logits": True,
}
HARMLESS = {
    "max_length": 3,
    "max_new_tokens": 1,
    "max_time": 1e-9,
    "do_sample": True,
    "temperature": 0.3,
    "top_k": 3,
    "top_p": 0.5,
    "min_p": 0.5,
    "top_h": 0.5,
    "typical_p": 0.5,
    "epsilon_cutoff": 0.1,
    "eta_cutoff": 0.1,
    "num_beams": 4,
    "num_beam_groups": 2,
    "diversity_penalty": 1.0,
    "length_penalty": 3.0,
    "early_stopping": True,
    "num_return_sequences": 3,
    "penalty_alpha": 0.6,
    "dola_layers": "low",
    "prompt_lookup_num_tokens": 4,
    "assistant_early_exit": 2,
    "use_mtp": True,
    "output_scores": True,
    "return_dict_in_generate": False,
    "disable_compile": True,
    "low_memory": True,
}


@pytest.fixture
def own(tmp_path):
    """A function that loads the embedded model with these generation settings."""

    def loaded(settings, **options):
        folder = checkpoint(tmp_path / "model", settings)
        return load(ModelOptions(folder, device="cpu", **options))

    return loaded


def prompts_of(loaded):
    """Three prompts of different lengths."""
    made = [build_prompt(loaded.processor, [open_image(path)], text) for path, text in QUESTIONS.items()]
    assert len({prompt.tokens for prompt in made}) == len(made)
    return made


def alone(loaded, prompts):
    """Each prompt's answer by itself."""
    return [running.timed_pass(running.Job(loaded, one.inputs, Schedule()), LONGEST).new for one in prompts]


def together(loaded, prompts):
    """The same in one padded batch."""
    inputs = collate([prompt.inputs for prompt in prompts], running.pad_token(loaded))
    return [row.new for row in running.timed_rows(running.Job(loaded, inputs, Schedule()), LONGEST).rows]


def published(folder, prompts, settings=None):
    """What the unmodified model answers to each prompt alone. settings: in place of the folder's own."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    if settings is not None:
        model.generation_config = settings
    made = [
        model.generate(**one.inputs, do_sample=False, num_beams=1, max_new_tokens=LONGEST) for one in prompts
    ]
    return [tuple(ids[0, one.tokens :].tolist()) for ids, one in zip(made, prompts, strict=True)]


def processors(model, settings):
    """The names of the logits processors that transformers makes for greedy search under these settings."""
    config = GenerationConfig(**TOKENS, watermarking_config=settings.get("watermarking_config"))
    for name, value in settings.items():
        if name != "watermarking_config":
            setattr(config, name, value)
    config.do_sample, config.num_beams = False, 1
    for name, value in config._get_default_generation_params().items():
        if getattr(config, name) is None:
            setattr(config, name, value)
    config._eos_token_tensor = torch.tensor([2])
    made = model._get_logits_processor(
        generation_config=config,
        input_ids_seq_length=4,
        encoder_input_ids=torch.tensor([[5, 6, 7, 8]]),
        device="cpu",
        model_kwargs={"attention_mask": torch.ones(1, 4)},
        logits_processor=LogitsProcessorList(),
    )
    return {type(one).__name__ for one in made}


def test_every_field_of_the_installed_release_is_classified():
    """A field that transformers adds is named here until somebody has looked at what it does to an answer."""
    classes = [set(CHECKS), set(UNABLE), set(OVERRIDDEN), set(COSTS), set(SPECIAL), set(METADATA)]
    assert set(vars(GenerationConfig())) - set.union(*classes) == set()
    assert sum(map(len, classes)) == len(set.union(*classes))


@pytest.mark.parametrize("name", [*CHECKS, "guidance_scale"])
def test_what_counts_as_changing_answers_makes_a_logits_processor(pocket, name):
    """transformers makes one more processor for greedy search where this field alone is set."""
    settings = {name: (ACTIVE | {"guidance_scale": 2.0})[name]}
    assert processors(pocket.model, settings) - processors(pocket.model, {})


@pytest.mark.parametrize("name", [*OVERRIDDEN, *COSTS])
def test_what_counts_as_harmless_makes_no_logits_processor(pocket, name):
    """transformers makes the processors of a blank config for greedy search where this field alone is set."""
    settings = {name: HARMLESS.get(name, 1)}
    assert processors(pocket.model, settings) == processors(pocket.model, {})


TOGETHER = {
    "as Qwen2.5-VL ships it": {"repetition_penalty": 1.05},
    "penalty and n-grams": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "min_new_tokens": 9},
    "single tokens": {"no_repeat_ngram_size": 1, "min_new_tokens": 9},
    "of the prompt": {
        "encoder_repetition_penalty": 1.4,
        "encoder_no_repeat_ngram_size": 1,
        "min_new_tokens": 9,
    },
    "a length with the prompt": {"min_length": 278},
    "lists": {name: ACTIVE[name] for name in ("bad_words_ids", "suppress_tokens", "sequence_bias")},
    "the beginning": {"begin_suppress_tokens": ACTIVE["begin_suppress_tokens"]},
    "the end": {"exponential_decay_length_penalty": [2, 1.5], "forced_eos_token_id": 2},
    "no end": {"eos_token_id": None, "forced_eos_token_id": 9},
    "several ends": {"eos_token_id": [2, 84, 90]},
    "a watermark": {name: ACTIVE[name] for name in ("watermarking_config", "renormalize_logits")},
}


@pytest.mark.parametrize("settings", TOGETHER.values(), ids=TOGETHER)
def test_answers_are_those_of_transformers_alone_and_in_a_padded_batch(own, settings):
    """Token ids equal the unmodified model's generate of one prompt with the same generation_config.json."""
    loaded = own(settings)
    prompts = prompts_of(loaded)
    expected = published(loaded.name, prompts)
    assert alone(loaded, prompts) == expected
    assert together(loaded, prompts) == expected


def test_the_settings_of_these_tests_do_change_answers(own, pocket):
    """The penalties of the test above give other answers than none: they would not pass by doing nothing."""
    loaded = own(TOGETHER["penalty and n-grams"])
    prompts = prompts_of(loaded)
    assert alone(loaded, prompts) != alone(pocket, prompts)


def test_a_padded_batch_leaves_the_model_as_it_was(own):
    """After a batch, and after one that failed, the model makes its processors as its class does."""
    loaded = own({"repetition_penalty": 1.3})
    prompts = prompts_of(loaded)
    together(loaded, prompts)
    inputs = collate([prompt.inputs for prompt in prompts], 0)
    with pytest.raises(ZeroDivisionError), running.row_by_row(loaded, inputs):
        _ = 1 / 0
    assert "_get_logits_processor" not in vars(loaded.model)


def test_neutral_is_a_blank_generation_config(own):
    """--generation neutral answers as the unmodified model does with nothing but its special tokens."""
    loaded = own(ACTIVE | {"forced_bos_token_id": None}, generation="neutral")
    prompts = prompts_of(loaded)
    blank = GenerationConfig(**TOKENS)
    assert alone(loaded, prompts) == together(loaded, prompts) == published(loaded.name, prompts, blank)


def test_sampling_beams_and_lengths_of_the_file_are_not_heeded(own, pocket):
    """A file that asks for samples of eight beams within 3 tokens and a nanosecond answers as without it."""
    loaded = own(HARMLESS | {"disable_compile": None, "assistant_early_exit": 4})
    prompts = prompts_of(loaded)
    assert alone(loaded, prompts) == alone(pocket, prompts)
    assert loaded.generation.active == {}


@pytest.mark.parametrize(
    "settings",
    [{"exponential_decay_length_penalty": [0, 9.0], "remove_invalid_values": True}, {"min_new_tokens": 20}],
    ids=["a pull to the end", "a longer minimum"],
)
def test_a_forced_length_is_held_under_any_settings(own, settings):
    """What is timed has exactly as many tokens as were asked for, however hard the settings pull."""
    loaded = own(settings)
    (prompt, *_) = prompts_of(loaded)
    job = running.Job(loaded, prompt.inputs, Schedule())
    assert running.forced_pass(job, 7).decode is not None
    assert running.cache_pass(job, 7).logical == prompt.tokens + 6


def test_settings_without_a_file_are_those_of_the_config(own, tmp_path):
    """Where there is no generation_config.json, what config.json has of it holds, as in transformers."""
    folder = tmp_path / "model"
    checkpoint(folder, None)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"repetition_penalty": 1.3, "top_k": 7}))
    loaded = own(None)
    prompts = prompts_of(loaded)
    assert loaded.generation.active == {"repetition_penalty": 1.3}
    assert alone(loaded, prompts) == together(loaded, prompts) == published(str(folder), prompts)


def test_without_a_file_and_without_settings_all_is_neutral(own, pocket):
    """A folder without generation_config.json answers as the embedded model, whose file is neutral."""
    loaded = own(None)
    prompts = prompts_of(loaded)
    assert loaded.generation.active == {}
    assert alone(loaded, prompts) == alone(pocket, prompts)


HOSTILE = {
    "no object": "[]",
    "no JSON": "{",
    "deep": "[" * 100_000,
    "long": '{"a": "' + "x" * 2_000_000 + '"}',
    "a constant": '{"repetition_penalty": NaN}',
    "negative": '{"repetition_penalty": -1}',
    "infinite": '{"repetition_penalty": 1e999}',
    "text": '{"repetition_penalty": "high"}',
    "a fraction": '{"no_repeat_ngram_size": 1.5}',
    "huge": '{"no_repeat_ngram_size": 99999999999}',
    "beyond the vocabulary": '{"forced_eos_token_id": 252}',
    "beyond it in a list": '{"suppress_tokens": [5, 252]}',
    "a negative id": '{"bad_words_ids": [[-1]]}',
    "an empty word": '{"bad_words_ids": [[]]}',
    "no list": '{"bad_words_ids": 3}',
    "a truth": '{"forced_bos_token_id": true}',
    "a bias of words": '{"sequence_bias": {"cup": 1}}',
    "a watermark of words": '{"watermarking_config": {"bias": "x"}}',
    "an unknown watermark": '{"watermarking_config": {"nonsense": 1}}',
    "a method's name": '{"to_dict": 1}',
    "a dunder": '{"__class__": 1}',
    "a record's field": '{"settings": "neutral"}',
    "a long name": '{"' + "k" * 200 + '": 1}',
    "an infinite unknown": '{"of_a_later_release": 1e999}',
    "an end of words": '{"eos_token_id": "stop"}',
    "no end to favour": '{"exponential_decay_length_penalty": [1, 1.1]}',
    "an unknown cache": '{"cache_implementation": "none such"}',
    "stop strings": '{"stop_strings": ["."]}',
    "two passes": '{"guidance_scale": 2}',
    "healing": '{"token_healing": true}',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_file_that_makes_no_sense_is_one_sentence(own, text):
    """It names the model, fits on a few lines, and comes before anything is answered."""
    with pytest.raises(Failure, match="model'") as caught:
        own(text)
    assert len(str(caught.value)) < 500


def test_a_hostile_file_ends_a_command_in_one_sentence(run, fails, picture, tmp_path):
    """`ask` exits with 4 and names file, setting, value and remedy."""
    folder = checkpoint(tmp_path / "model", {"repetition_penalty": -1})
    result = run("ask", picture, "what?", "-m", folder)
    fails(result, 4, "generation_config.json", "repetition_penalty -1", "--generation neutral")


def test_neutral_passes_what_it_leaves_out(own):
    """--generation neutral is a remedy: values that make no sense are not looked at, as they do nothing."""
    assert own({"repetition_penalty": "high", "stop_strings": ["."]}, generation="neutral").generation == (
        Generation(NEUTRAL, set_aside=("repetition_penalty", "stop_strings"), kept=TOKENS)
    )


def test_a_field_of_a_later_release_is_told(own):
    """What this release does not know may change answers under another: the record has it."""
    recorded = own({"dream_depth": 3}).generation.recorded(8)
    assert recorded == {"settings": "model", "greedy": True, "max_new_tokens": 8, "dream_depth": 3}


def test_a_long_value_is_recorded_by_its_digest(own):
    """A list of 150 ids is not in every line of a file; another list has another digest."""
    first = own({"begin_suppress_tokens": list(range(3, 153))}).generation.recorded(8)
    second = own({"begin_suppress_tokens": list(range(4, 154))}).generation.recorded(8)
    assert first["begin_suppress_tokens"]["entries"] == 150
    assert len(json.dumps(first)) < 300
    assert first != second


@pytest.mark.parametrize("value", [10**1000, "x" * 1000, {str(key): key for key in range(200)}])
def test_any_long_value_of_an_unknown_field_is_recorded_by_its_digest(value):
    """A number of a thousand digits, a long text and a large object alike."""
    recorded = Generation(active={"of_a_later_release": value}).recorded(8)
    assert set(recorded["of_a_later_release"]) == {"sha256", "entries"}


def test_keys_tell_settings_apart_and_neutral_files_keep_theirs(own, pocket):
    """The key of a neutral file is the one of releases that did not look; no other is equal to it."""
    choice = ScheduleChoice()
    plain = {"greedy": True, "max_new_tokens": 8}
    assert settings_of(pocket, choice, 8)["generation"] == plain
    assert settings_of(own({}, generation="neutral"), choice, 8)["generation"] == plain
    penalised = settings_of(own({"repetition_penalty": 1.05}), choice, 8)["generation"]
    assert penalised == plain | {"settings": "model", "repetition_penalty": 1.05}
    aside = settings_of(own({"repetition_penalty": 1.05}, generation="neutral"), choice, 8)["generation"]
    assert aside == plain | {"settings": "neutral"}


@pytest.mark.parametrize("value", [1, 1.0, None])
def test_a_neutral_value_is_not_recorded(own, value):
    """A penalty of 1 does nothing, written as a whole number too."""
    loaded = own({"repetition_penalty": value, "no_repeat_ngram_size": 0, "suppress_tokens": []})
    assert generation_part(loaded, 8).active == {}


@pytest.mark.parametrize("offline", [True, False])
def test_a_model_of_the_hub_without_the_file_has_the_settings_of_its_config(monkeypatch, offline):
    """Neither a cache nor a repository that lacks the file is an error."""
    kind = errors.LocalEntryNotFoundError if offline else errors.EntryNotFoundError

    def refuse(*_, **__):
        raise kind("no such file")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    found = read_generation("a/b", Source("a/b", offline=offline), {"min_length": 9}, 99, MODEL)
    assert (found.active, found.kept) == ({"min_length": 9}, None)


def test_a_hub_that_breaks_off_is_no_model_without_the_file(monkeypatch):
    """Where it could not be asked, the settings are unknown, and nothing is answered."""

    def refuse(*_, **__):
        raise errors.LocalEntryNotFoundError("cannot reach the hub")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(Failure, match="cannot reach the hub"):
        read_generation("a/b", Source("a/b", offline=False), {}, 99, MODEL)
