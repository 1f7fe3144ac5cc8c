"""KV bytes against the tensors themselves, against arithmetic, and against what is really freed."""

import gc

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from transformers import DynamicCache
from transformers.cache_utils import DynamicSlidingWindowLayer, LinearAttentionLayer

from reroute_cli.console.errors import Failure
from reroute_cli.measure.estimate import kv_layers, kv_share
from reroute_cli.measure.memory import measure_kv
from routing import Schedule, Stage, route
from routing.cache import RoutedLayer
from routing.checks.subjects import ONE, tiny
from routing.cost import cost
from routing.host import cache_of
from tests.routing.test_cost import BATCH, prompts_of, shape_of

STAGES = (Stage(2, 0.6), Stage(4, 0.25))
NEW = 4


def prefilled(subject, schedule, samples, **more):
    """The cache after the prompt."""
    with route(subject.model, schedule), torch.no_grad():
        return cache_of(subject.model(**subject.inputs(*samples), use_cache=True, **more))


def filled(lengths, heads=2, dim=8, dtype=torch.float32):
    """A cache whose layers hold these many tokens."""
    cache = DynamicCache()
    for index, length in enumerate(lengths):
        states = torch.randn(1, heads, length, dim, dtype=dtype)
        cache.update(states, states.clone(), index)
    return cache


def test_bytes_are_those_of_the_tensors():
    """Keys and values of every layer, in their own dtype."""
    use = measure_kv(filled([10, 6], dtype=torch.bfloat16))
    assert use.tokens == (10, 6)
    assert use.bytes == (2 * 2 * 10 * 8 * 2, 2 * 2 * 6 * 8 * 2)
    assert use.total_bytes == sum(use.bytes)


def test_a_view_that_keeps_the_whole_tensor_alive_counts_in_full():
    """Slicing frees nothing, and the measure says so."""
    cache = filled([10])
    layer = cache.layers[0]
    layer.keys, layer.values = layer.keys[:, :, :3], layer.values[:, :, :3]
    use = measure_kv(cache)
    assert use.tokens == (3,)
    assert use.bytes == (2 * 2 * 10 * 8 * 4,)


def test_shared_storage_counts_once():
    """Keys and values that are one tensor hold its bytes once."""
    cache = filled([10])
    cache.layers[0].values = cache.layers[0].keys
    assert measure_kv(cache).bytes == (2 * 10 * 8 * 4,)


def test_a_storage_that_layers_share_counts_once():
    """Two layers on one tensor hold its bytes once, in the first."""
    cache = filled([10, 10])
    cache.layers[1].keys, cache.layers[1].values = cache.layers[0].keys, cache.layers[0].values
    use = measure_kv(cache)
    assert use.bytes == (2 * 2 * 10 * 8 * 4, 0)
    assert use.tokens == (10, 10)


def test_a_quantised_cache_is_refused():
    """Its bytes are not those of `keys` and `values`: an error instead of a number that is too low."""
    cache = filled([10])
    cache.layers[0]._quantized_keys = torch.zeros(3)
    with pytest.raises(Failure, match="DynamicLayer"):
        measure_kv(cache)


@pytest.mark.parametrize("samples", [(ONE,), BATCH], ids=["single", "ragged"])
@pytest.mark.parametrize("action", [None, "prune", "reroute"])
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "smolvlm"])
def test_bytes_are_those_of_arithmetic_after_the_prefill_and_at_the_end(name, action, samples):
    """Every layer, routed and dense, alone and padded: what is held, and what dense would hold."""
    subject = tiny(name)
    schedule = Schedule(STAGES, action) if action else Schedule()
    shape, prompts = shape_of(subject), prompts_of(subject, *samples)
    ours, dense = (cost(shape, each, prompts, element_bytes=4) for each in (schedule, Schedule()))
    use = measure_kv(prefilled(subject, schedule, samples))
    assert (use.tokens, use.bytes) == (ours.widths, ours.kv_bytes)
    assert (use.dense_bytes, use.logical) == (sum(dense.kv_bytes), dense.widths[0])
    with route(subject.model, schedule):
        end = measure_kv(_answered(subject, samples))
    per_token = ours.kv_bytes[0] // ours.widths[0]
    assert end.tokens == tuple(width + NEW - 1 for width in ours.widths)
    assert end.bytes == tuple(per_token * tokens for tokens in end.tokens)
    assert end.dense_bytes == sum(dense.kv_bytes) + len(ours.widths) * per_token * (NEW - 1)


@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize(("name", "text"), [("llava", 9), ("smolvlm", 9), ("wide_window", 50)])
def test_dense_bytes_are_those_that_the_dense_run_holds(name, text, action):
    """Reduced from layer 0 on, no layer holds the whole prompt: dense bytes are still a dense cache's own.

    The last case is a prompt of exactly its sliding window of 64, of which a dense cache holds 63.
    """
    subject, sample = tiny(name), (4, (2, 4), text)
    dense = measure_kv(prefilled(subject, Schedule(), (sample,)))
    routed = measure_kv(prefilled(subject, Schedule((Stage(0, 0.5), Stage(3, 0.25)), action), (sample,)))
    assert routed.dense_bytes == dense.dense_bytes == sum(dense.tokens) * 2 * 2 * 16 * 4 > routed.total_bytes
    assert (min(dense.tokens) < dense.logical) == (name == "wide_window") == (dense.logical == 64)
    assert routed.logical == dense.logical == len(subject.ids(sample)) > max(routed.tokens)


@pytest.mark.parametrize("tokens", [5, 8, 20])
def test_a_sliding_layer_is_as_dense_as_it_gets(tokens):
    """With a window of 8 a layer shows 7 tokens at most, reduced or not: dense bytes are those of 7."""
    layer = DynamicSlidingWindowLayer(sliding_window=8)
    states = torch.randn(1, 2, tokens, 8)
    layer.update(states, states.clone())
    cache = DynamicCache()
    cache.layers.append(layer)
    use = measure_kv(cache)
    assert use.dense_bytes == 2 * 2 * min(tokens, 7) * 8 * 4
    assert (use.tokens, use.logical) == ((min(tokens, 7),), tokens)


def _answered(subject, samples):
    """The cache at the end of an answer of NEW tokens."""
    inputs = subject.inputs(*samples)
    made = subject.model.generate(**inputs, do_sample=False, max_new_tokens=NEW, return_dict_in_generate=True)
    return cache_of(made)


def test_a_cache_that_keeps_the_full_keys_alive_shows_in_the_number(monkeypatch):
    """If the routed layer stored views of longer tensors, as many bytes more would be counted."""
    honest = measure_kv(prefilled(tiny("llava"), Schedule(STAGES), (ONE,)))
    update = RoutedLayer.update

    def hoarding(self, key_states, value_states, *args, **kwargs):
        update(self, key_states, value_states, *args, **kwargs)
        self.keys = torch.cat([self.keys, self.keys], dim=-2)[:, :, : self.keys.shape[2]]
        return self.keys, self.values

    monkeypatch.setattr(RoutedLayer, "update", hoarding)
    hoarded = measure_kv(prefilled(tiny("llava"), Schedule(STAGES), (ONE,)))
    assert hoarded.tokens == honest.tokens
    assert hoarded.bytes == honest.bytes[:2] + tuple(held * 3 // 2 for held in honest.bytes[2:])


@pytest.mark.parametrize("samples", [(ONE,), BATCH], ids=["single", "ragged"])
@pytest.mark.parametrize("action", ["prune", "reroute"])
def test_nothing_that_was_projected_at_full_length_is_still_alive(action, samples):
    """After the prefill no key or value that a routed layer projected lives on but what the cache shows."""
    subject, projected = tiny("llava"), []

    def note(_module, _args, output):
        projected.append(StorageWeakRef(output.untyped_storage()))

    layers = subject.model.get_decoder().layers
    hooks = [
        getattr(layer.self_attn, name).register_forward_hook(note)
        for layer in layers[2:]
        for name in ("k_proj", "v_proj")
    ]
    try:
        cache = prefilled(subject, Schedule(STAGES, action), samples)
    finally:
        for hook in hooks:
            hook.remove()
    gc.collect()
    held = {layer.keys.untyped_storage()._cdata for layer in cache.layers}
    held |= {layer.values.untyped_storage()._cdata for layer in cache.layers}
    alive = [reference for reference in projected if not reference.expired()]
    assert len(projected) >= 8
    assert all(reference.cdata in held for reference in alive)
    use = measure_kv(cache)
    per_token = use.bytes[0] // use.tokens[0]
    assert use.bytes == tuple(per_token * tokens for tokens in use.tokens)


def test_an_empty_cache_holds_nothing():
    """Before anything ran there are no layers to measure."""
    use = measure_kv(DynamicCache())
    assert (use.tokens, use.total_bytes, use.logical, use.dense_bytes) == ((), 0, 0, 0)


def test_a_routed_answer_holds_text_and_kept_tokens_only(pocket, picture):
    """Stored tokens are text + kept + decoded in every layer; dense bytes are those of all positions."""
    from reroute_cli.data.images import open_image
    from reroute_cli.data.prompts import build_prompt
    from reroute_cli.measure import passes as run
    from routing import Schedule, Stage

    schedule = Schedule((Stage(3, 0.25), Stage(6, 0.125)), action="reroute")
    prompt = build_prompt(pocket.processor, [open_image(picture)], "where is the cup?")
    timed = run.timed_pass(run.make_job(pocket, prompt, schedule, 3), 3)
    grown = prompt.tokens - 256 + len(timed.new) - 1
    assert timed.kv.tokens == (grown + 256,) * 3 + (grown + 64,) * 3 + (grown + 32,) * (pocket.layers - 6)
    assert timed.kv.logical == grown + 256
    text = pocket.model.config.text_config
    per_token = 2 * text.num_key_value_heads * text.head_dim * 4
    assert timed.kv.bytes == tuple(per_token * tokens for tokens in timed.kv.tokens)
    assert timed.kv.dense_bytes == per_token * (grown + 256) * pocket.layers


def test_recurrent_layers_store_states_and_no_tokens():
    """Their bytes are the states', routed and dense, measured and estimated; attention beside them saves."""
    states, conv = torch.randn(1, 2, 8, 8), torch.randn(1, 16, 4)
    recurrent = LinearAttentionLayer()
    recurrent.lazy_initialization(conv, states)
    cache = filled([5, 7])
    cache.layers.insert(1, recurrent)
    of_states = 4 * (states.numel() + conv.numel())
    of_token = 2 * 2 * 8 * 4
    found = measure_kv(cache)
    assert found.tokens == (5, 0, 7)
    assert found.bytes == (5 * of_token, of_states, 7 * of_token)
    share = kv_share(kv_layers(cache), [5, 3, 4], 9)
    assert share.per_layer_tokens == [5, 0, 4]
    assert share.kv_end_bytes == 9 * of_token + of_states
    assert share.dense_kv_end_bytes == 18 * of_token + of_states
