"""What a routed prefill really holds, really frees and really computes."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

import routing
from routing.checks.reference import Cut, decoder
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, generate_routed, plan, stored
from routing.checks.subjects import ALL, ONE, RAGGED, tiny
from routing.host import cache_of
from routing.methods import SCORERS
from tests.routing.rankings import RANKINGS


def _held_bytes(cache):
    return [
        layer.keys.untyped_storage().nbytes() + layer.values.untyped_storage().nbytes()
        for layer in cache.layers
    ]


def _needed_bytes(cache):
    return [2 * layer.keys.numel() * layer.keys.element_size() for layer in cache.layers]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ALL)
def test_entries_per_layer_are_text_plus_kept(name, action):
    """Stored columns: every token before the first stage, then text + floor(V × the stage's keep ratio)."""
    subject = tiny(name)
    cache = generate_routed(subject, plan(HALF_THEN_QUARTER, action), ONE, new=1).cache
    visual = subject.visual(ONE)
    text = len(subject.ids(ONE)) - visual
    assert stored(cache) == [text + visual] * 2 + [text + visual // 2] * 2 + [text + visual // 4] * 2
    for layer in cache.layers:
        assert layer.values.shape == layer.keys.shape


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "paligemma"])
def test_logical_length_is_the_prompt_in_every_layer(name, action):
    """get_seq_length() stays the number of tokens seen, whatever is stored: positions are counted from it."""
    subject = tiny(name)
    cache = generate_routed(subject, plan((Cut(0, 0.5), Cut(3, 0.25)), action), ONE, new=3).cache
    lengths = {cache.get_seq_length(layer) for layer in range(subject.layers)}
    assert lengths == {len(subject.ids(ONE)) + 2}


@pytest.mark.parametrize("samples", [(ONE,), RAGGED], ids=["single", "batch"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "paligemma"])
def test_cache_tensors_own_no_more_than_they_show(name, action, samples):
    """No stored tensor is a view that keeps the full-length keys or values alive: freed bytes are freed."""
    with routing.route(tiny(name).model, plan(HALF_THEN_QUARTER, action)), torch.no_grad():
        cache = cache_of(tiny(name).model(**tiny(name).inputs(*samples), use_cache=True))
    assert _held_bytes(cache) == _needed_bytes(cache)


def test_smallest_possible_budget_keeps_one_visual_token():
    """K = max(1, floor(V × keep ratio)): a tiny ratio still leaves one token per sample."""
    ran = generate_routed(tiny("llava"), plan((Cut(1, 0.001),), "prune"), *RAGGED, new=2)
    assert [len(ran.kept(row)[0]) for row in range(4)] == [1, 1, 0, 1]


@pytest.mark.parametrize("name", ["llava", "idefics3"])
def test_each_layer_runs_exactly_once_per_pass(name):
    """No layer runs twice for its scores, and the cache of the scoring layer is written once."""
    subject, calls = tiny(name), []
    handles = [
        layer.register_forward_hook(lambda *_, number=number: calls.append(number))
        for number, layer in enumerate(decoder(subject.model).layers)
    ]
    try:
        ran = generate_routed(subject, plan((Cut(3, 0.5, 2),), "prune"), ONE, new=2)
    finally:
        for handle in handles:
            handle.remove()
    assert calls == list(range(subject.layers)) * 2
    assert stored(ran.cache)[2] == len(subject.ids(ONE)) + 1


def _storage(value):
    return value.untyped_storage().data_ptr() if isinstance(value, torch.Tensor) else None


class _LargestInScoring(TorchDispatchMode):
    """Notes the largest tensor that an operator makes while a module named Scoring runs."""

    def __init__(self):
        super().__init__()
        self.tracker, self.largest, self.seen = ModuleTracker(), 0, False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if any("Scoring" in name for name in self.tracker.parents):
            self.seen = True
            given = {_storage(leaf) for leaf in tree_leaves((args, kwargs))}  # a view makes nothing
            tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
            made = [leaf.numel() for leaf in tensors if _storage(leaf) not in given]
            self.largest = max([self.largest, *made])
        return result


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("scorer", "action"), RANKINGS)
def test_scoring_makes_no_length_by_length_matrix(scorer, action, attention):
    """Nothing made while scoring grows with the square of the prompt: at 700 tokens the largest is L × d.

    Where more rows ask, it is their attention: of ROWS at a time, or their products with the embeddings.
    """
    subject, sample = tiny("llava", attention), (300, (1, 1), 300, (1, 1), 50)
    watch = _LargestInScoring()
    schedule = plan(HALF_THEN_QUARTER, action, scorer=scorer)
    with routing.route(subject.model, schedule), torch.no_grad(), watch.tracker, watch:
        subject.model(**subject.inputs(sample))
    assert watch.seen
    rated = SCORERS[scorer].rate is not None
    assert watch.largest <= len(subject.ids(sample)) * (4 * 50 if rated else 64)


class _WaitsInDecoder(TorchDispatchMode):
    """Notes operators in decoder layers that make the host wait: values read, shapes that depend on data."""

    def __init__(self):
        super().__init__()
        self.tracker, self.found, self.layers = ModuleTracker(), [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        inside = {name for name in self.tracker.parents if ".layers." in f".{name}" or "Scoring" in name}
        self.layers |= inside
        if inside and func.name() in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select"):
            self.found.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("scorer", "action"), RANKINGS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_host_never_waits_for_the_device_between_layers(name, scorer, action):
    """Unpadded: no value is read and no shape depends on data in the decoder, so that a GPU never idles."""
    subject = tiny(name)
    watch, schedule = _WaitsInDecoder(), plan(HALF_THEN_QUARTER, action, scorer=scorer)
    with routing.route(subject.model, schedule), torch.no_grad(), watch.tracker, watch:
        subject.model(**subject.inputs(ONE))
    assert any("layers" in name for name in watch.layers)
    assert watch.found == []


def _scoring_flops(subject, sample):
    counter = FlopCounterMode(display=False)
    with routing.route(subject.model, plan((Cut(3, 0.5),), "prune")), torch.no_grad(), counter:
        subject.model(**subject.inputs(sample))
    return sum(counter.get_flop_counts()["Scoring"].values())


def test_scoring_costs_the_keys_of_what_it_removes_and_one_query_row():
    """Counted FLOPs of a decision: keys of 13 removed tokens, a query, a row of scores; 2 a multiply-add."""
    subject, sample = tiny("llava"), (4, (1, 1), 7)
    length, width, key_width, heads_width = len(subject.ids(sample)), 64, 32, 64
    removed = 25 - 12
    expected = 2 * (removed * width * key_width + width * heads_width + length * heads_width)
    assert _scoring_flops(subject, sample) == expected


def test_scoring_cost_grows_linearly():
    """Twice the prompt, about twice the scoring."""
    subject = tiny("llava")
    short, long = (_scoring_flops(subject, (text, (1, 1), text)) for text in (200, 400))
    assert long < 2.1 * short


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_of_full_length_outlives_the_prefill(action):
    """After the prefill the cache holds no tensor as long as the prompt in any routed layer."""
    subject = tiny("llava")
    prompt = len(subject.ids(ONE))
    cache = generate_routed(subject, plan((Cut(1, 0.2),), action), ONE, new=1).cache
    for layer in cache.layers[1:]:
        tensors = [value for value in vars(layer).values() if isinstance(value, torch.Tensor)]
        assert all(prompt not in tensor.shape for tensor in tensors)
