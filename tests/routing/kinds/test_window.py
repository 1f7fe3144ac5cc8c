"""What a cache layer with a window holds: exactly what some later query can see, by original positions."""

from functools import cached_property

import pytest
import torch
from transformers.cache_utils import DynamicSlidingWindowLayer

import routing
from routing.cache import RoutedLayer
from routing.checks.reference import Cut
from routing.checks.runs import ACTIONS, generate_routed, plan
from routing.checks.subjects import ONE
from routing.select import Rows, pack
from tests.routing.kinds.truth import WINDOW, layer_types, subject

CUTS = (Cut(1, 0.5), Cut(3, 0.25))


@pytest.mark.parametrize("new", [1, 4, WINDOW + 3])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["gemma3", "llama4"])
def test_bytes_held_are_the_tokens_that_can_still_be_seen(name, action, new):
    """Text and kept tokens, in a window those of the last w - 1 columns; tensors own what they show."""
    model = subject(name)
    ran = generate_routed(model, plan(CUTS, action), ONE, new=new)
    ids = model.inputs(ONE)["input_ids"][0].tolist()
    visual, length = [place for place, token in enumerate(ids) if token == ids[4]], len(ids) + new - 1
    for index, (layer, kind) in enumerate(zip(ran.cache.layers, layer_types(model.model), strict=True)):
        kept = [k for cut, k in zip(CUTS, ran.kept(), strict=True) if cut.layer <= index]
        gone = set(visual) - {visual[place] for place in kept[-1]} if kept else set()
        first = 0 if kind == "full_attention" else length - WINDOW + 1
        rows = sum(place >= first for place in set(range(length)) - gone)
        wide = layer.keys[..., :1, :].numel() * layer.keys.element_size()
        assert layer.keys.shape[-2] == rows
        assert layer.keys.untyped_storage().nbytes() <= wide * (rows + (new > 1))  # decoding lags by one
        assert layer.get_seq_length() == length


@pytest.mark.parametrize("action", ACTIONS)
def test_windows_before_the_first_decision_share_one_look_at_the_device(action, monkeypatch):
    """What columns they hold is read off once a prefill: Gemma 3 has several windows before it."""
    looks = []

    def newest(rows):
        looks.append(rows)
        return tuple(rows.index.amax(dim=0).tolist())

    watched = cached_property(newest)
    watched.__set_name__(Rows, "newest")
    monkeypatch.setattr(Rows, "newest", watched)
    generate_routed(subject("gemma3"), plan((Cut(4, 0.5),), action), ONE, new=1)
    assert len(looks) <= 2  # the full sequence, and the stage behind the decision


def _routed_layer(seed):
    """A layer after a ragged prompt of 30 columns under a window of 8, its keys the columns themselves."""
    torch.manual_seed(seed)
    keep = torch.rand(3, 30) < 0.5
    keep[:, -4:] = True
    rows = pack(keep, tuple(keep.sum(1).tolist()))
    layer = RoutedLayer(rows, 2)
    layer.take_place_of(DynamicSlidingWindowLayer(sliding_window=8))
    return layer, rows, [set(row.nonzero().flatten().tolist()) for row in keep]


def _append(layer, columns):
    keys = columns[:, None, :, None].float()
    return layer.update(keys, keys)[0][:, 0, :, 0].long()


@pytest.mark.parametrize("seed", range(8))
def test_any_walk_shows_each_query_what_its_window_holds(seed):
    """Appending, guessing and taking back at random: each new query finds exactly its window's columns."""
    layer, rows, held = _routed_layer(seed)
    assert torch.equal(_append(layer, rows.index), rows.index)
    length = 30
    for _ in range(30):
        guesses = int(torch.randint(0, 4, ()))
        new = int(torch.randint(1, 4, ())) + guesses
        if guesses:
            layer.activate_past_recording()
        columns = layer.stored_columns(new)
        assert torch.equal(_append(layer, torch.arange(length, length + new).expand(3, -1)), columns)
        length += new
        for row, there in enumerate(held):
            there |= set(range(length - new, length))
            for query in range(length - new, length):
                window = set(range(query - 7, query + 1))
                assert window & there == window & set(columns[row].tolist())
        if guesses:
            layer.crop(-guesses)
            layer.record_past = False
            length -= guesses
            held = [{column for column in there if column < length} for there in held]
        assert layer.get_seq_length() == length
        newest = [max(held_at) for held_at in layer.stored_columns(0).T.tolist()]
        assert min(newest) > length - 8, "what no query can see is still stored"


def test_what_a_window_has_forgotten_is_not_taken_back():
    """Without recording, cropping would bring back forgotten keys: refused, saying what to call before."""
    layer, rows, _ = _routed_layer(0)
    _append(layer, rows.index)
    _append(layer, torch.arange(30, 33).expand(3, -1))
    with pytest.raises(routing.UnsupportedInputError, match=r"window of 8 .*activate_past_recording"):
        layer.crop(-1)


def test_a_window_without_a_mask_is_not_outgrown():
    """Flash attention has no mask and would measure the window in stored tokens: refused beyond it."""
    rows = pack(torch.ones(1, 9, dtype=torch.bool), (9,))
    layer = RoutedLayer(rows, 0, masked=False)
    layer.take_place_of(DynamicSlidingWindowLayer(sliding_window=8))
    with pytest.raises(routing.UnsupportedInputError, match=r"window of 8 tokens.*load the model with sdpa"):
        _append(layer, rows.index)


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        (lambda layer: layer.reorder_cache(torch.tensor([2, 0, 1])), [2, 0, 1]),
        (lambda layer: layer.batch_select_indices(torch.tensor([1])), [1]),
        (lambda layer: layer.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2]),
    ],
    ids=["reordered", "selected", "repeated"],
)
def test_samples_of_a_window_are_moved_with_their_columns(change, rows):
    """Reordered, selected or repeated samples take the columns of their own keys along."""
    layer, prompt, _ = _routed_layer(1)
    _append(layer, prompt.index)
    before = layer.stored_columns(2)
    change(layer)
    columns = layer.stored_columns(2)
    assert torch.equal(columns, before[rows])
    assert torch.equal(_append(layer, torch.tensor([[30, 31]]).expand(len(rows), -1)), columns)
