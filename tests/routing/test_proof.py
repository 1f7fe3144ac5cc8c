"""Hosts broken on purpose: where the model does not do what routing rests on, it raises and never answers."""

import gc
import re
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

import routing
from routing.checks.reference import Cut, decoder
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, generate, holding, plan
from routing.checks.subjects import ONE, RAGGED, fresh, tiny
from routing.host import cache_of, version
from routing.proof import Proof

SCHEDULE = plan(HALF_THEN_QUARTER, "reroute")  # decides at layers 2 and 4 of 6
FROM_ZERO = plan((Cut(0, 0.5), Cut(3, 0.25)), "reroute")


def _raises(subject, *expected, schedule=SCHEDULE, samples=(ONE,), **more):
    """One forward raises RoutingError that says the versions and each of `expected`; returns its message."""
    with routing.route(subject.model, schedule) as trace:
        with pytest.raises(routing.RoutingError) as told, torch.no_grad():
            subject.model(**subject.inputs(*samples), **more)
        assert trace.prefills == ()
    message = str(told.value)
    assert f"transformers {version('transformers')}" in message
    for words in expected:
        assert re.search(words, message), message
    return message


def _replace_forward(layer, make):
    layer.forward = make(layer.forward)


# ---- layers


@pytest.mark.parametrize("where", [1, 3])
def test_a_skipped_layer_raises(where):
    """A decoder that leaves a layer out is told at the next one."""
    subject = fresh("llava")
    layers = list(decoder(subject.model).layers)
    with routing.route(subject.model, SCHEDULE):
        decoder(subject.model).layers = torch.nn.ModuleList(layers[:where] + layers[where + 1 :])
        with pytest.raises(
            routing.RoutingError, match=f"expected layer {where} to run, found layer {where + 1}"
        ):
            generate(subject.model, subject.inputs(ONE))


def test_a_missing_last_layer_raises():
    """A decoder that stops early is told when the pass ends."""
    subject = fresh("llava")
    layers = list(decoder(subject.model).layers)
    with routing.route(subject.model, SCHEDULE):
        decoder(subject.model).layers = torch.nn.ModuleList(layers[:5])
        with pytest.raises(routing.RoutingError, match="expected 6 layers to run, found 5"):
            generate(subject.model, subject.inputs(ONE))


@pytest.mark.parametrize("where", [1, 4])
def test_a_layer_that_runs_twice_raises(where):
    """FastV's lmms-eval code ran one layer twice: here the second time raises."""
    subject = fresh("llava")
    layers = list(decoder(subject.model).layers)
    with routing.route(subject.model, SCHEDULE):
        decoder(subject.model).layers = torch.nn.ModuleList(layers[: where + 1] + layers[where:5])
        with pytest.raises(routing.RoutingError, match=f"found layer {where}"):
            generate(subject.model, subject.inputs(ONE))


def test_layers_in_another_order_raise():
    """Two layers swapped inside the block."""
    subject = fresh("llava")
    layers = list(decoder(subject.model).layers)
    with routing.route(subject.model, SCHEDULE):
        decoder(subject.model).layers = torch.nn.ModuleList([layers[1], layers[0], *layers[2:]])
        with pytest.raises(routing.RoutingError, match="expected layer 0 to run, found layer 1"):
            generate(subject.model, subject.inputs(ONE))


@pytest.mark.parametrize(("where", "error"), [(1, routing.RoutingError), (3, RuntimeError)])
def test_a_layer_replaced_inside_the_block_raises(where, error):
    """A new layer object has no hooks: it is missed, or cannot run on the compact sequence of its stage."""
    subject, other = fresh("llava"), fresh("llava")
    with routing.route(subject.model, SCHEDULE) as trace:
        decoder(subject.model).layers[where] = decoder(other.model).layers[where]
        with pytest.raises(error):
            generate(subject.model, subject.inputs(ONE))
    assert trace.prefills == ()


def test_layers_called_past_their_hooks_raise():
    """A decoder that calls `layer.forward` itself never routes: the end of the pass says so."""
    subject = fresh("llava")
    with routing.route(subject.model, SCHEDULE):
        for layer in decoder(subject.model).layers:
            layer._forward_pre_hooks.clear()
            layer._forward_hooks.clear()
        with pytest.raises(routing.RoutingError, match="expected 6 layers to run, found 0"):
            generate(subject.model, subject.inputs(ONE))


@pytest.mark.parametrize("where", [0, 2, 4])
def test_other_hidden_states_between_layers_raise(where):
    """Something between two layers changes the states that one gives and the next takes."""
    subject = fresh("llava")
    layers = decoder(subject.model).layers
    with routing.route(subject.model, SCHEDULE):
        layers[where].register_forward_hook(lambda _layer, _args, output: output + 0.0)
        with pytest.raises(routing.RoutingError, match="other hidden states"):
            generate(subject.model, subject.inputs(ONE))


def test_a_ranking_layer_that_runs_on_other_states_than_were_ranked_raises():
    """The ranking saw the layer's input; the layer itself then norms something else."""
    subject = fresh("llava")
    _replace_forward(
        decoder(subject.model).layers[2],
        lambda forward: lambda hidden_states, attention_mask=None, position_ids=None, cache=None,
        position_embeddings=None, **more: forward(
            hidden_states * 1.0,
            attention_mask=attention_mask,
            position_ids=position_ids,
            position_embeddings=position_embeddings,
            **more,
        ),
    )  # fmt: skip
    _raises(subject, "layer 2", "input norm", use_cache=False)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_ranking_layer_that_computes_nothing_raises(action):
    """A deciding layer whose forward skips its norm and attention took no part in its own ranking."""
    subject = fresh("llava")

    def forward(
        hidden_states,
        attention_mask,
        position_ids,
        position_embeddings,
        cache=None,
        past_key_values=None,
        **_,
    ):
        return hidden_states

    decoder(subject.model).layers[2].forward = forward
    schedule = plan(HALF_THEN_QUARTER, action)
    _raises(subject, "layer 2", "input norm to run", schedule=schedule, use_cache=False)


def test_a_layer_that_does_not_ask_for_its_keys_raises():
    """The keys projected for the ranking are the layer's own: one that computes others did something else."""
    subject = fresh("llava")
    layer = decoder(subject.model).layers[2]

    def forward(
        hidden_states,
        attention_mask,
        position_ids,
        position_embeddings,
        cache=None,
        past_key_values=None,
        **_,
    ):
        return layer.input_layernorm(hidden_states)

    layer.forward = forward
    _raises(subject, "layer 2", "key projection to run", use_cache=False)


@pytest.mark.parametrize("where", [1, 3])
def test_a_layer_that_returns_other_rows_raises(where):
    """An output with fewer rows than the input."""
    subject = fresh("llava")
    _replace_forward(decoder(subject.model).layers[where], _cutting)
    _raises(subject, f"layer {where}", r"expected an output of shape \(1, \d+, 64\)", use_cache=False)


def _cutting(forward):
    def cut(
        hidden_states,
        attention_mask,
        position_ids,
        position_embeddings,
        cache=None,
        past_key_values=None,
        **more,
    ):
        kwargs = {"position_ids": position_ids, "position_embeddings": position_embeddings, **more}
        return forward(hidden_states, attention_mask=attention_mask, **kwargs)[:, 1:]

    return cut


# ---- masks and positions


def _dropping(name):
    """A decoder layer's pre-hook, placed before routing: the argument `name` never arrives."""

    def drop(_layer, args, kwargs):
        return args, {**kwargs, name: None}

    return drop


@pytest.mark.parametrize(("attention", "samples"), [("eager", (ONE,)), ("sdpa", RAGGED), ("eager", RAGGED)])
def test_a_dropped_mask_raises_where_it_matters(attention, samples):
    """Under eager attention a missing mask is non-causal, in a padded batch padding would be attended."""
    subject = fresh("llava", attention)
    decoder(subject.model).layers[1].register_forward_pre_hook(_dropping("attention_mask"), with_kwargs=True)
    _raises(subject, "layer 1", "expected an attention mask, found none", samples=samples)


def test_a_dropped_mask_of_a_bidirectional_prompt_raises():
    """PaliGemma's prompt attends both ways by its mask alone, also under sdpa and without padding."""
    subject = fresh("paligemma")
    decoder(subject.model).layers[1].register_forward_pre_hook(_dropping("attention_mask"), with_kwargs=True)
    _raises(subject, "layer 1", "expected an attention mask, found none")


def test_a_bidirectional_family_without_token_types_raises():
    """Its layers then get no mask and are not causal: every token sees later ones, also under sdpa."""
    subject = tiny("paligemma")
    inputs = {name: value for name, value in subject.inputs(ONE).items() if name != "token_type_ids"}
    told = pytest.raises(routing.RoutingError, match="expected an attention mask, found none")
    with routing.route(subject.model, SCHEDULE), torch.no_grad(), told:
        subject.model(**inputs)


@pytest.mark.parametrize("where", [1, 3])
def test_a_mask_dropped_while_decoding_a_padded_batch_raises(where):
    """Also at a layer whose cache is dense, where padding lies among the keys."""
    subject = fresh("llava")
    with routing.route(subject.model, SCHEDULE), torch.no_grad():
        inputs = subject.inputs(*RAGGED)
        cache = cache_of(subject.model(**inputs))
        hook = _dropping("attention_mask")
        decoder(subject.model).layers[where].register_forward_pre_hook(hook, with_kwargs=True, prepend=True)
        more = torch.ones(len(RAGGED), 1, dtype=torch.long)
        mask = torch.cat([inputs["attention_mask"], more], dim=1)
        with pytest.raises(routing.RoutingError, match=f"layer {where}.*an attention mask, found none"):
            subject.model(input_ids=more, attention_mask=mask, **holding(cache))


def test_a_mask_of_another_width_raises():
    """A mask cut by one column reaches a layer of the prefill."""
    subject = fresh("llava", "eager")

    def cut(_layer, args, kwargs):
        return args, {**kwargs, "attention_mask": kwargs["attention_mask"][..., 1:]}

    decoder(subject.model).layers[0].register_forward_pre_hook(cut, with_kwargs=True)
    _raises(subject, "layer 0", r"expected an attention mask of width \d+, found one of \d+")


def test_a_mask_of_another_width_while_decoding_raises():
    """The stored columns are picked from the mask of the whole sequence, and it is one column short."""
    subject = fresh("llava", "eager")

    def cut(_layer, args, kwargs):
        return args, {**kwargs, "attention_mask": kwargs["attention_mask"][..., 1:]}

    with routing.route(subject.model, SCHEDULE), torch.no_grad():
        cache = cache_of(subject.model(**subject.inputs(ONE)))
        decoder(subject.model).layers[3].register_forward_pre_hook(cut, with_kwargs=True, prepend=True)
        with pytest.raises(routing.RoutingError, match=r"layer 3.*an attention mask of width"):
            subject.model(input_ids=torch.ones(1, 1, dtype=torch.long), **holding(cache))


def test_missing_position_embeddings_raise():
    """A layer that gets no cos and sin."""
    subject = fresh("llava")
    hook = _dropping("position_embeddings")
    decoder(subject.model).layers[2].register_forward_pre_hook(hook, with_kwargs=True)
    _raises(subject, "layer 2", r"position embeddings \(cos, sin\) for \d+ positions, found None")


def test_an_argument_of_an_unknown_role_with_a_row_for_each_token_raises():
    """What a layer is told of each token must be narrowed with the tokens: refused unless it is known."""
    subject = fresh("llava")
    length = len(subject.ids(ONE))

    def tell(_layer, args, kwargs):
        return args, {**kwargs, "of_tokens": (torch.zeros(1, length, 4), torch.zeros(1, length, 4))}

    decoder(subject.model).layers[3].register_forward_pre_hook(tell, with_kwargs=True)
    _raises(subject, "layer 3", "no argument of an unknown role.*'of_tokens'")


# ---- caches


class _Copying(DynamicCache):
    """A cache that hands out copies of its list of layers."""

    @property
    def layers(self):
        return list(self.__dict__.get("held", []))

    @layers.setter
    def layers(self, value):
        self.__dict__["held"] = value


def test_a_cache_that_hands_out_copies_of_its_layers_raises():
    """What is put into it is lost: an error at once, where earlier releases of ours looped without end."""
    subject = fresh("llava")
    _raises(subject, "_Copying.layers does not hold", **holding(_Copying()), schedule=FROM_ZERO)


class _Swapping(DynamicCache):
    """A cache that puts a fresh layer in the place of one when it is updated."""

    where = 3

    def update(self, keys, values, layer_idx, *args, **kwargs):
        if layer_idx == self.where:
            self.layers[layer_idx] = DynamicLayer()
        return super().update(keys, values, layer_idx, *args, **kwargs)


def test_a_cache_that_swaps_a_layer_while_it_is_filled_raises():
    """The layer that routing installed is not the one that holds the keys."""
    message = _raises(fresh("llava"), "layer 3", **holding(_Swapping()))
    assert "expected its RoutedLayer in the cache, found DynamicLayer in its place" in message


@pytest.mark.parametrize("where", [0, 3])
@pytest.mark.parametrize("schedule", [SCHEDULE, FROM_ZERO], ids=["from-2", "from-0"])
def test_a_cache_layer_swapped_before_a_decode_step_raises(where, schedule):
    """A fresh layer in a routed one's place is found at the next step, wherever it is."""
    subject = fresh("llava")
    where = where if schedule is FROM_ZERO else max(where, 2)
    with routing.route(subject.model, schedule), torch.no_grad():
        cache = cache_of(subject.model(**subject.inputs(ONE)))
        cache.layers[where] = DynamicLayer()
        with pytest.raises(
            routing.RoutingError, match=f"layer {where}.*RoutedLayer in the cache, found Dynamic"
        ):
            subject.model(input_ids=torch.ones(1, 1, dtype=torch.long), **holding(cache))


def test_a_cache_that_stores_nothing_raises():
    """A cache whose update forgets leaves routed layers empty."""

    class Forgetful(DynamicCache):
        def update(self, keys, values, layer_idx, *args, **kwargs):
            return keys, values

    _raises(fresh("llava"), "layer 0", r"expected \d+ rows in the cache, found 0", **holding(Forgetful()))


def test_a_cache_that_stores_twice_raises():
    """FastV's lmms-eval code doubled its cache."""

    class Doubling(DynamicCache):
        def update(self, keys, values, layer_idx, *args, **kwargs):
            super().update(keys, values, layer_idx, *args, **kwargs)
            return super().update(keys, values, layer_idx, *args, **kwargs)

    _raises(fresh("llava"), "layer 0", r"rows in the cache", **holding(Doubling()))


def test_a_second_cache_under_an_unknown_keyword_raises():
    """A layer is handed a cache by a word that routing does not know."""
    subject = fresh("llava")

    def rename(_layer, args, kwargs):
        cache = kwargs.pop("cache", None) or kwargs.pop("past_key_values", None)
        return args, {**kwargs, "kv_store": cache}

    for layer in decoder(subject.model).layers:
        layer.register_forward_pre_hook(rename, with_kwargs=True)
    _raises(subject, "layer 0", "expected one cache, found another in 'kv_store'", use_cache=True)


@pytest.mark.parametrize("where", [0, 3])
def test_a_layer_that_gets_no_cache_raises(where):
    """One layer of a cached pass is not handed the cache that the others fill."""
    subject = fresh("llava")

    def drop(_layer, args, kwargs):
        return args, {
            name: None if isinstance(value, DynamicCache) else value for name, value in kwargs.items()
        }

    decoder(subject.model).layers[where].register_forward_pre_hook(drop, with_kwargs=True)
    _raises(subject, f"layer {max(where, 1)}", "expected the cache of the pass, ", use_cache=True)


def test_an_output_with_another_cache_raises():
    """The model hands out a cache that its layers did not fill."""
    subject = fresh("llava")
    name = "cache" if "cache" in subject.model.model.language_model.forward.__code__.co_varnames else None

    def swap(_module, _args, output):
        output[name or _cache_field(output)] = DynamicCache()
        return output

    subject.model.model.register_forward_hook(swap)
    _raises(subject, "the cache that the layers filled in the output, found another one")


def _cache_field(output):
    return "cache" if hasattr(output, "cache") else "past_key_values"


def test_a_cache_and_its_keys_are_freed_with_their_owner():
    """What `route` remembers of a cache keeps neither it nor its layers alive, inside the block."""
    subject = tiny("llava")
    with routing.route(subject.model, SCHEDULE), torch.no_grad():
        cache = cache_of(subject.model(**subject.inputs(ONE)))
        kept = weakref.ref(cache), weakref.ref(cache.layers[3])
        assert all(each() is not None for each in kept)
        del cache
        gc.collect()
        assert [each() for each in kept] == [None, None]


# ---- what the proof costs


class _Operators(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.ran = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ran.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
@pytest.mark.parametrize("samples", [(ONE,), RAGGED], ids=["single", "padded"])
def test_the_proof_launches_no_operator(name, samples, monkeypatch):
    """A routed prompt and a decoded token run the very operators that they run with every check taken out."""
    subject = tiny(name)

    def operators():
        with routing.route(subject.model, SCHEDULE), torch.no_grad(), _Operators() as watch:
            generate(subject.model, subject.inputs(*samples), 2)
        return watch.ran

    with_proof = operators()
    for check in ("enters", "check_rotary", "norms", "runs_on", "leaves", "ends"):
        monkeypatch.setattr(Proof, check, lambda *_args, **_kwargs: None)
    monkeypatch.setattr("routing.engine.check_mask_width", lambda *_: None)
    monkeypatch.setattr("routing.proof.in_place", lambda _cache, _index, entry: entry)
    assert with_proof == operators()
    assert len(with_proof) > 500
