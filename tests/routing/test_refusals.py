"""Never silently un-routed: what cannot be routed is refused, naming what was given and what works."""

import pytest
import torch
from transformers import (
    FalconH1Config,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    StaticCache,
)

import routing
from routing.checks.reference import Cut
from routing.checks.runs import HALF_THEN_QUARTER, generate, holding, hooks, plan
from routing.checks.subjects import ONE, TEXT_ONLY, fresh, tiny
from routing.families import describe_config
from tests.routing.tiny_refused import refused

SCHEDULE = plan(HALF_THEN_QUARTER, "reroute")


def _generate_routed(subject, **more):
    with routing.route(subject.model, SCHEDULE):
        return generate(subject.model, subject.inputs(ONE), 2, **more)


def test_a_type_that_cannot_be_routed_is_refused():
    """The message names the type and says why; the model stays untouched."""
    model = refused()
    state = hooks(model)
    with (
        pytest.raises(routing.UnsupportedModelError, match=r"mllama cannot be routed: .*cross-attention"),
        routing.route(model, SCHEDULE),
    ):
        pass
    assert hooks(model) == state


def test_reason_for_every_refused_family_is_stated():
    """Each refused model type has a reason in words."""
    assert "mllama" in routing.REFUSED
    assert all(len(reason.split()) > 2 for reason in routing.REFUSED.values())


def test_a_layer_of_an_unknown_kind_is_refused():
    """The message names the kind that a config gives a layer, and the kinds that can be routed."""
    config = LlavaConfig(text_config=FalconH1Config(num_hidden_layers=2))
    with pytest.raises(routing.UnsupportedModelError, match=r"cannot be routed \(hybrid\).*linear_attention"):
        describe_config(config)


def test_language_model_without_pictures_is_refused():
    """A text model has no visual tokens: the error names its type and what is missing."""
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, **sizes))
    with (
        pytest.raises(routing.UnsupportedModelError, match=r"llama cannot be routed: .*part of an image"),
        routing.route(model, SCHEDULE),
    ):
        pass


def test_something_that_is_no_transformers_model_is_refused():
    """Any module without a configuration is named by its class."""
    with (
        pytest.raises(routing.UnsupportedModelError, match="Linear"),
        routing.route(torch.nn.Linear(2, 2), SCHEDULE),
    ):
        pass


def test_gradient_checkpointing_is_refused():
    """Layers that run again in the backward pass would not be routed; without gradients it is harmless."""
    subject = fresh("llava")
    subject.model.gradient_checkpointing_enable()
    subject.model.train()
    inputs = subject.inputs(ONE)
    with routing.route(subject.model, SCHEDULE):
        with pytest.raises(routing.UnsupportedInputError, match="gradient_checkpointing_disable"):
            subject.model(**inputs)
        with torch.no_grad():
            subject.model(**inputs)


def test_model_spread_over_devices_is_refused(monkeypatch):
    """Layers on several devices would each see tensors of another; the message names the devices."""
    subject = tiny("llava")
    spread = {"model.language_model": 0, "model.vision_tower": "cpu"}
    monkeypatch.setattr(subject.model, "hf_device_map", spread, raising=False)
    with pytest.raises(routing.UnsupportedModelError, match="0, cpu"), routing.route(subject.model, SCHEDULE):
        pass


@pytest.mark.parametrize("thing", [None, 5, torch.nn.Linear(2, 2)], ids=["none", "number", "module"])
def test_something_that_is_no_model_is_described_by_a_refusal(thing):
    """`describe` names the class it was given and what works."""
    with pytest.raises(routing.UnsupportedModelError, match=type(thing).__name__):
        routing.describe(thing)


@pytest.mark.parametrize("schedule", [None, "fastv", ()])
def test_something_that_is_no_schedule_is_refused(schedule):
    """The message shows what was given in a schedule's place."""
    with (
        pytest.raises(routing.ScheduleError, match=r"routing\.Schedule"),
        routing.route(tiny("llava").model, schedule),
    ):
        pass


@pytest.mark.parametrize("layer", [6, 7, 100])
def test_stage_beyond_the_last_layer_is_refused(layer):
    """The message names the layer given and the depth of the model."""
    with (
        pytest.raises(routing.ScheduleError) as error,
        routing.route(tiny("llava").model, plan((Cut(layer, 0.5),))),
    ):
        pass
    assert str(layer) in str(error.value)
    assert "6" in str(error.value) or "5" in str(error.value)


@pytest.mark.parametrize("layer", [0, 1])
def test_deepstack_layers_are_refused(layer):
    """Qwen3-VL adds visual features after its first layers: the message names the first layer that works."""
    with (
        pytest.raises(routing.ScheduleError) as error,
        routing.route(tiny("qwen3_vl").model, plan((Cut(layer, 0.5),))),
    ):
        pass
    assert str(layer) in str(error.value)
    assert "2" in str(error.value)


def test_first_layer_after_deepstack_is_accepted():
    """The layer that the message names does work."""
    with routing.route(tiny("qwen3_vl").model, plan((Cut(2, 0.5),))) as trace:
        generate(tiny("qwen3_vl").model, tiny("qwen3_vl").inputs(ONE), 1)
    assert len(trace.stages[0].kept[0]) == 6


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_static_cache_is_refused(name):
    """A preallocated cache cannot have layers of different lengths; the message names it and what works."""
    subject = tiny(name)
    with pytest.raises(routing.UnsupportedInputError, match="StaticCache") as error:
        _generate_routed(subject, cache_implementation="static")
    assert "DynamicCache" in str(error.value)


def test_static_cache_passed_by_hand_is_refused():
    """The same when the caller makes the cache."""
    subject = tiny("llava")
    cache = StaticCache(config=subject.model.config.get_text_config(), max_cache_len=80)
    with (
        pytest.raises(routing.UnsupportedInputError, match="StaticCache"),
        routing.route(subject.model, SCHEDULE),
        torch.no_grad(),
    ):
        subject.model(**subject.inputs(ONE), **holding(cache))


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_chunked_prefill_is_refused(name):
    """A prompt that comes in pieces has no last prompt token to rank by."""
    subject = tiny(name)
    with pytest.raises(routing.UnsupportedInputError, match="chunk"):
        _generate_routed(subject, prefill_chunk_size=8)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_chunked_prefill_is_refused_also_when_the_first_piece_holds_all_pictures(name):
    """Then the first piece looks like a whole prompt, but its last token is not the prompt's."""
    subject = tiny(name)
    sample = (2, (2, 2), 30)
    size = len(subject.ids(sample)) - 20
    with pytest.raises(routing.UnsupportedInputError, match="chunk"), routing.route(subject.model, SCHEDULE):
        generate(subject.model, subject.inputs(sample), 2, prefill_chunk_size=size)


def test_prompt_that_ends_in_a_picture_is_refused():
    """The token that ranks the others would be a candidate itself, and could be deferred."""
    subject = tiny("llava")
    with (
        pytest.raises(routing.UnsupportedInputError, match="end in text"),
        routing.route(subject.model, SCHEDULE),
    ):
        generate(subject.model, subject.inputs((4, (2, 2))), 2)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_embeddings_without_token_ids_are_refused(name):
    """Visual tokens are found by their ids: embeddings alone do not say where they are."""
    subject = tiny(name)
    embeddings = subject.model.get_input_embeddings()(subject.inputs(ONE)["input_ids"])
    with (
        pytest.raises(routing.UnsupportedInputError, match="input_ids"),
        routing.route(subject.model, SCHEDULE),
        torch.no_grad(),
    ):
        subject.model(inputs_embeds=embeddings)


def test_cropping_into_the_routed_prompt_is_refused():
    """Columns of a routed prompt are not in positional order of equal length: they cannot be cut off."""
    subject = tiny("llava")
    with routing.route(subject.model, SCHEDULE):
        cache = generate(subject.model, subject.inputs(ONE), 4).cache
        cache.crop(-2)  # two of the three decoded tokens: fine
        assert cache.get_seq_length() == len(subject.ids(ONE)) + 1
        with pytest.raises(routing.UnsupportedInputError, match="crop"):
            cache.crop(-5)


def test_new_picture_on_a_filled_cache_is_refused():
    """A second turn with another picture would go un-routed: it is refused instead."""
    subject = tiny("llava")
    with routing.route(subject.model, SCHEDULE):
        first = generate(subject.model, subject.inputs(ONE), 2)
        again = subject.inputs((3, (1, 1), 4))
        with pytest.raises(routing.UnsupportedInputError), torch.no_grad():
            subject.model(**{**again, "attention_mask": None}, **holding(first.cache))


def test_nested_routes_are_refused_and_the_outer_one_lives_on():
    """One schedule at a time: the inner `with` raises, the outer still routes and still cleans up."""
    subject = tiny("llava")
    state = hooks(subject.model)
    with routing.route(subject.model, SCHEDULE) as trace:
        with pytest.raises(routing.RoutingError, match="already"), routing.route(subject.model, SCHEDULE):
            pass
        generate(subject.model, subject.inputs(ONE), 1)
    assert len(trace.stages) == 2
    assert hooks(subject.model) == state


def test_refusal_inside_the_block_leaves_the_model_usable():
    """After a refused call the same `with` routes the next prompt."""
    subject = tiny("llava")
    with routing.route(subject.model, SCHEDULE) as trace:
        with pytest.raises(routing.UnsupportedInputError):
            generate(subject.model, subject.inputs(ONE), 2, cache_implementation="static")
        generate(subject.model, subject.inputs(ONE), 1)
    assert len(trace.stages) == 2


def test_text_only_prompt_on_a_static_cache_is_not_refused():
    """Only what would have to be routed is refused: text alone runs on any cache."""
    subject = tiny("llava")
    expected = generate(subject.model, subject.inputs(TEXT_ONLY), 3, cache_implementation="static")
    with routing.route(subject.model, SCHEDULE):
        ran = generate(subject.model, subject.inputs(TEXT_ONLY), 3, cache_implementation="static")
    assert ran.tokens == expected.tokens


def test_all_errors_are_routing_errors():
    """One except clause catches every refusal; schedule errors are ValueErrors as well."""
    assert issubclass(routing.UnsupportedModelError, routing.RoutingError)
    assert issubclass(routing.UnsupportedInputError, routing.RoutingError)
    assert issubclass(routing.ScheduleError, routing.RoutingError)
    assert issubclass(routing.ScheduleError, ValueError)
