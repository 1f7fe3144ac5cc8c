"""Layers that use the keys of an earlier layer: whose keys they see, and which layers may still decide."""

import pytest
import torch

import routing
from routing.checks.reference import Cut, decoder
from routing.checks.runs import ACTIONS, close, generate, generate_routed, plan, stored
from routing.checks.subjects import ONE, RAGGED
from routing.engine import routed
from routing.families import describe_config, locate
from tests.routing.kinds.truth import by_hand, subject

NAMES = ("gemma4", "gemma3n")
LAST = 2  # layer that may decide: layers 4 and 5 use the keys of 2 and 3
CUTS = (Cut(0, 0.5), Cut(2, 0.25))


@pytest.mark.parametrize("name", NAMES)
def test_a_decision_behind_the_first_shared_keys_is_refused(name):
    """The last layer that may decide is the first whose keys are used again; the message names it."""
    model = subject(name).model
    assert describe_config(model.config).last_layer == LAST
    for layer in range(LAST + 1, 6):
        with (
            pytest.raises(
                routing.ScheduleError, match=rf"layer {layer} cannot decide.* layer {LAST} or earlier"
            ),
            routed(locate(model), plan((Cut(layer, 0.5),))),
        ):
            pass


@pytest.mark.parametrize("name", NAMES)
def test_layers_without_keys_store_none(name):
    """Only the four layers with keys of their own hold any, of the tokens of their stage."""
    ran = generate_routed(subject(name), plan((Cut(2, 0.25),)), ONE, new=1)
    assert [rows > 0 for rows in stored(ran.cache)[:4]] == [True] * 4
    assert not any(stored(ran.cache)[4:])


def _widths(model, call):
    """Rows that each decoder layer is given in each call."""
    widths = []
    handles = [
        layer.register_forward_pre_hook(lambda _layer, args: widths.append(args[0].shape[1]))
        for layer in decoder(model.model).layers
    ]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return widths


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("samples", [(ONE,), RAGGED], ids=["single", "batch"])
def test_the_last_layers_run_on_the_asked_tokens_alone(samples, action):
    """Where the framework asks for the last logits only, layers without keys see one row, routed or not."""
    model = subject("gemma4")
    inputs = model.inputs(*samples)

    def run():
        with torch.no_grad():
            model.model(**inputs, logits_to_keep=1)

    dense = _widths(model, run)
    with routed(locate(model.model), plan(CUTS, action)):
        found = _widths(model, run)
    length = inputs["input_ids"].shape[1]
    cut = min(dense)  # releases before 5.23 run them on all
    assert dense == [length] * 4 + [cut] * 2
    assert found[4:] == [min(cut, found[2])] * 2
    assert found[2] <= found[1] <= found[0] < length


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("asked", [0, 1, 3])
def test_logits_of_the_last_tokens_are_those_of_all(name, asked):
    """Asked for all, one or three logits, the last ones are those of the layers by hand."""
    model = subject(name, "eager")  # which always has a mask to cut
    inputs = model.inputs(ONE)
    with routed(locate(model.model), plan(CUTS, "reroute")) as trace, torch.no_grad():
        logits = model.model(**inputs, logits_to_keep=asked).logits[0]
    kept = tuple(tuple(stage.kept[0].tolist()) for stage in trace.stages)
    expected = by_hand(model.model, inputs, CUTS, True, kept)
    assert len(logits) == (asked or len(inputs["input_ids"][0]))
    assert close(logits[-(asked or 7) :], expected.every[-(asked or 7) :])


def test_a_batch_padded_on_the_right_is_refused():
    """The last column of such a batch is no token's: the message says on which side to pad."""
    model = subject("gemma4")
    inputs = model.inputs(*RAGGED[:2])
    turned = {name: value.clone() for name, value in inputs.items()}
    short = int(inputs["attention_mask"][0].sum())
    for value in turned.values():
        value[0] = value[0].roll(short - value.shape[1])
    with (
        pytest.raises(routing.UnsupportedInputError, match="padded on the left"),
        routed(locate(model.model), plan(CUTS)),
        torch.no_grad(),
    ):
        model.model(**turned, logits_to_keep=1)


def test_logits_asked_of_a_part_of_the_model_are_refused():
    """Without its head nobody says which token ranks: what the last layers would run on is not known."""
    model = subject("gemma4", "eager")
    with (
        pytest.raises(routing.UnsupportedInputError, match=r"last 5 tokens.*ask the whole model"),
        routed(locate(model.model), plan(CUTS)),
        torch.no_grad(),
    ):
        model.model.model(**model.inputs(ONE), logits_to_keep=5)


def test_every_layer_gets_the_inputs_of_its_own_tokens():
    """Per-layer inputs are those of the active tokens: kept sets and logits under a schedule from layer 0."""
    model = subject("gemma4")
    assert decoder(model.model).config.hidden_size_per_layer_input
    expected = by_hand(model.model, model.inputs(ONE), CUTS, True)
    with routed(locate(model.model), plan(CUTS, "reroute")):
        found = generate(model.model, model.inputs(ONE), 1)
    assert close(found.logits[0], expected.logits)
