"""KV bytes against the tensors themselves."""

import torch
from transformers import DynamicCache

from reroute_cli.measure.kv import measure_kv


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


def test_an_empty_cache_holds_nothing():
    """Before anything ran there are no layers to measure."""
    use = measure_kv(DynamicCache())
    assert (use.tokens, use.total_bytes, use.logical, use.dense_bytes) == ((), 0, 0, 0)


def test_a_routed_answer_holds_text_and_kept_tokens_only(pocket, picture):
    """Stored tokens are text + kept + decoded in every layer; dense bytes are those of all positions."""
    from reroute_cli import run
    from reroute_cli.images import open_picture
    from reroute_cli.prompts import build_prompt
    from routing import Schedule, Stage

    schedule = Schedule((Stage(3, 0.25), Stage(6, 0.125)), action="reroute")
    prompt = build_prompt(pocket.processor, [open_picture(picture)], "where is the cup?")
    timed = run.timed_pass(run.make_job(pocket, prompt, schedule, 3), 3)
    grown = prompt.tokens - 256 + len(timed.new) - 1
    assert timed.kv.tokens == (grown + 256,) * 3 + (grown + 64,) * 3 + (grown + 32,) * (pocket.layers - 6)
    assert timed.kv.logical == grown + 256
    text = pocket.model.config.text_config
    per_token = 2 * text.num_key_value_heads * text.head_dim * 4
    assert timed.kv.bytes == tuple(per_token * tokens for tokens in timed.kv.tokens)
    assert timed.kv.dense_bytes == per_token * (grown + 256) * pocket.layers
