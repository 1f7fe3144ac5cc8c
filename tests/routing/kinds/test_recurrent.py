"""Recurrent states run over the active tokens and nothing else, and rank nothing themselves."""

import pytest
import torch
from transformers import DynamicCache

import routing
from routing.checks.reference import Cut, decoder
from routing.checks.runs import ACTIONS, close, generate, generate_routed, holding, plan
from routing.checks.subjects import ONE, RAGGED
from routing.engine import routed
from routing.families import describe_config, locate
from routing.host import cache_of
from tests.routing.kinds.truth import Hand, followed, layer_types, subject

NAMES = ("qwen3_5", "lfm2", "nemotron")
RECURRENT = ("linear_attention", "conv")
CUTS = (Cut(1, 0.5), Cut(3, 0.25))
EARLY = (Cut(0, 0.5), Cut(3, 0.25))


def _states(layer):
    """Convolution and recurrent state of one cache layer, (B, ...) each; those that it has."""
    found = [*layer.conv_states.values(), *layer.recurrent_states.values()]
    return [state for state in found if state is not None]


def _prefill(model, schedule, *samples):
    with routed(locate(model.model), schedule) as trace, torch.no_grad():
        return cache_of(model.model(**model.inputs(*samples), use_cache=True)), trace


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_the_state_is_that_of_the_layer_run_on_the_gathered_tokens(name, action):
    """After a prompt reduced from layer 0 on: the layer's own state after exactly the active tokens."""
    model = subject(name)
    cache, _ = _prefill(model, plan(EARLY, action), ONE)
    hand = Hand(model.model, model.inputs(ONE))
    followed(hand, EARLY, action == "reroute")
    config, checked = model.model.config.get_text_config(), 0
    for index, kind in enumerate(layer_types(model.model)):
        if kind in RECURRENT:
            hidden, rows = hand.ran[index]
            alone = DynamicCache(config=config)
            with torch.no_grad():
                hand.layers[index](hand.alone(hidden[rows]), **{**hand.given(index, rows), **holding(alone)})
            pairs = zip(_states(cache.layers[index]), _states(alone.layers[index]), strict=True)
            for found, expected in pairs:
                assert close(found, expected)
                checked += 1
    assert checked >= 2


@pytest.mark.parametrize("name", NAMES)
def test_neither_padding_nor_filler_enters_a_state(name):
    """Every sample of a ragged batch leaves the state that it leaves alone."""
    model, schedule = subject(name), plan(CUTS, "reroute")
    batch, _ = _prefill(model, schedule, *RAGGED)
    for row, sample in enumerate(RAGGED):
        alone, _ = _prefill(model, schedule, sample)
        for index, kind in enumerate(layer_types(model.model)):
            if kind in RECURRENT:
                pairs = zip(_states(batch.layers[index]), _states(alone.layers[index]), strict=True)
                for found, expected in pairs:
                    torch.testing.assert_close(found[row], expected[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "scored_by"), [("qwen3_5", [2, 2, 5]), ("lfm2", [2, 4, 4]), ("nemotron", [2, 2, 5])]
)
def test_a_layer_without_attention_is_ranked_by_the_next_that_has_some(name, scored_by):
    """The trace says whose attention ranked each decision, the layer's own where it has any."""
    model = subject(name)
    layers = (0, 3, 4) if name == "lfm2" else (0, 2, 3)
    cuts = tuple(Cut(layer, ratio) for layer, ratio in zip(layers, (0.6, 0.4, 0.2), strict=True))
    _, trace = _prefill(model, plan(cuts), ONE)
    assert [stage.layer for stage in trace.stages] == list(layers)
    assert [stage.scored_by for stage in trace.stages] == scored_by


def test_a_decision_with_no_attention_after_it_is_refused():
    """The message names the layer; a random scorer, which ranks by nothing, may decide there."""
    model = subject("recurrent_end")
    with (
        pytest.raises(routing.ScheduleError, match="layer 4 cannot decide: neither it nor a layer after it"),
        routed(locate(model.model), plan((Cut(4, 0.5),))),
    ):
        pass
    ran = generate_routed(model, plan((Cut(4, 0.5),), scorer="random"), ONE, new=2)
    assert len(ran.kept()[0]) == 6
    assert ran.trace.stages[0].scored_by is None


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_no_layer_works_on_more_than_the_active_tokens(name, action):
    """Rows that each part of a recurrent layer is given: those of its stage, the ranking of others or not."""
    model, widths = subject(name), {}
    layers = decoder(model.model).layers

    def note(index):
        return lambda _part, args, kwargs: widths.setdefault(index, set()).add(
            next(iter((*args, *kwargs.values()))).shape[1]
        )

    parts = [
        (index, part)
        for index, kind in enumerate(layer_types(model.model))
        if kind in RECURRENT
        for part in layers[index].children()
        if any(isinstance(inner, torch.nn.Conv1d) for inner in part.modules())
    ]
    handles = [part.register_forward_pre_hook(note(index), with_kwargs=True) for index, part in parts]
    try:
        _prefill(model, plan(EARLY, action), ONE)
    finally:
        for handle in handles:
            handle.remove()
    text, visual = 11, 12
    expected = {index: {text + (visual // 2 if index < 3 else visual // 4)} for index, _ in parts}
    assert widths == expected


def test_assisted_decoding_is_the_librarys_to_refuse():
    """A gated delta net's state cannot be taken back: what the library says unrouted it says routed."""
    model, errors = subject("qwen3_5"), []
    for schedule in (routing.Schedule(), plan(CUTS)):
        with pytest.raises(Exception) as error, routed(locate(model.model), schedule):  # noqa: PT011
            generate(model.model, model.inputs((40, (3, 4), 50)), 8, prompt_lookup_num_tokens=3)
        errors.append((type(error.value), str(error.value)))
    assert errors[0] == errors[1]


def test_a_config_tells_its_recurrent_layers():
    """Kinds of the layers by their titles, in order, of a hybrid with layers of MLPs and experts alone."""
    kinds = [kind.title for kind in describe_config(subject("nemotron").model.config).kinds]
    state, alone, full = "recurrent state", "token-wise", "full attention"
    assert kinds == [state, alone, full, state, alone, full]
