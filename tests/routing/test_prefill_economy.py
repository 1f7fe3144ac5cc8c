"""What a routed prefill may hold and ask of the host: no L x L matrix, one buffer, few waits."""

import weakref
from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import routing
from routing.checks.configs import build
from routing.checks.reference import Cut, decoder
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, close, generate, plan
from routing.checks.subjects import ONE, RAGGED, Sample, Tiny, tiny
from routing.families import locate
from routing.proof import Proof
from tests.routing.rankings import RANKINGS

MANY: Sample = (100, *[(1, 1)] * 20, 60)  # 160 text and 500 visual tokens in pictures of 25
FOUR = (Cut(1, 0.5), Cut(2, 0.4), Cut(3, 0.3, 2), Cut(4, 0.1))
WAITING = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "_unique2"}
READING = {"random": 6}  # waits that a routed prompt adds, all of them for reading it; 5 with other scorers


class _Alive(TorchDispatchMode):
    """Storages made under this mode: bytes alive, their peak, the largest one, and who is alive."""

    def __init__(self):
        super().__init__()
        self.sizes, self.now, self.peak, self.largest = {}, 0, 0, 0
        self.copied = []  # bytes of what index_copy made: sequences put together in new memory

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and _key(leaf) not in given | self.sizes.keys():
                self._note(leaf)
        if func._schema.name == "aten::index_copy":
            self.copied.append(result.untyped_storage().nbytes())
        return result

    def _note(self, tensor):
        storage, key = tensor.untyped_storage(), _key(tensor)
        self.sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        self.largest = max(self.largest, storage.nbytes())
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key):
        self.now -= self.sizes.pop(key)

    def at_least(self, size):
        """Number of storages alive of so many bytes or more."""
        return sum(held >= size for held in self.sizes.values())


def _key(tensor):
    return tensor.untyped_storage()._cdata


def _watched(subject, schedule, sample=MANY):
    """The mode after one prefill; inside each layer, how many buffers of full length and bytes were alive."""
    watch, alive, inputs = _Alive(), [], subject.inputs(sample)
    full = len(subject.ids(sample)) * 64 * 4

    def look(_module, _args):
        alive.append((watch.at_least(full), watch.now))

    handles = [layer.mlp.register_forward_pre_hook(look) for layer in decoder(subject.model).layers]
    try:
        with routing.route(subject.model, schedule), torch.no_grad(), watch:
            subject.model(**inputs, use_cache=False, logits_to_keep=1)
    finally:
        for handle in handles:
            handle.remove()
    return watch, alive


@pytest.mark.parametrize("action", ACTIONS)
def test_a_prefill_makes_no_length_by_length_matrix(action):
    """Unpadded, nothing as large as a boolean L x L matrix is made anywhere: the largest is of the MLP."""
    length = len(tiny("llava").ids(MANY))
    watch, _ = _watched(tiny("llava"), plan(HALF_THEN_QUARTER, action))
    assert watch.largest == length * 96 * 4 < length * length


@pytest.mark.parametrize("cuts", [HALF_THEN_QUARTER, FOUR], ids=["two", "four"])
def test_deferred_tokens_are_kept_in_one_buffer(cuts):
    """Behind the first decision every layer runs beside one full-length buffer more than under pruning."""
    _, pruned = _watched(tiny("llava"), plan(cuts, "prune"))
    _, rerouted = _watched(tiny("llava"), plan(cuts, "reroute"))
    buffer, first = len(tiny("llava").ids(MANY)) * 64 * 4, cuts[0].layer
    more = [(b[0] - a[0], (b[1] - a[1]) / buffer) for a, b in zip(pruned, rerouted, strict=True)]
    assert [count for count, _ in more] == [0] * (first + 1) + [1] * (5 - first)
    assert more[-1][1] == pytest.approx(1, abs=0.02)  # and nothing else, behind the last decision


def test_the_sequence_is_put_together_in_new_memory_once():
    """Four decisions and the end of the decoder write into the one buffer of the first time."""
    watch, _ = _watched(tiny("llava"), plan(FOUR, "reroute"))
    full = [size for size in watch.copied if size >= len(tiny("llava").ids(MANY)) * 64 * 4]
    assert len(full) == 1


@pytest.mark.parametrize("action", ACTIONS)
def test_a_routed_prefill_peaks_one_buffer_above_the_dense_one(action):
    """Bytes alive at the worst moment: the unrouted model's, one (L, d), and cos and sin of compact rows."""
    subject, length = tiny("llava"), len(tiny("llava").ids(MANY))
    dense, _ = _watched(subject, plan(()))
    routed, _ = _watched(subject, plan((Cut(1, 0.9), Cut(2, 0.8), Cut(4, 0.7)), action))
    assert dense.peak < routed.peak <= dense.peak + length * (64 + 2 * 16) * 4
    assert routed.now == dense.now == 0


def _hidden_states(action):
    subject = tiny("llava")
    with routing.route(subject.model, plan(FOUR, action)):
        return subject.model(**subject.inputs(ONE), output_hidden_states=True).hidden_states


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("action", ACTIONS)
def test_hidden_states_handed_out_are_never_written_into(action, mode):
    """What each layer gave out is the same whether the engine may write in place or records gradients."""
    with mode():
        found = _hidden_states(action)
    expected = _hidden_states(action)
    assert len(found) == len(expected) == 7
    assert all(close(left, right) for left, right in zip(found, expected, strict=True))


class _Waits(TorchDispatchMode):
    """Counts operators that make the host wait for a device: values read, shapes that depend on values."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func._schema.name == "aten::index" and any(
            leaf.dtype == torch.bool for leaf in tree_leaves(args[1]) if isinstance(leaf, torch.Tensor)
        )
        self.count += by_mask or func._schema.name.removeprefix("aten::") in WAITING
        return func(*args, **(kwargs or {}))


def _waits(name, cuts, action, scorer):
    subject, watch = tiny(name), _Waits()
    inputs = subject.inputs(ONE)
    with routing.route(subject.model, plan(cuts, action, scorer=scorer)), torch.no_grad(), watch:
        subject.model(**inputs)
    return watch.count


@pytest.mark.parametrize(("scorer", "action"), [*RANKINGS, ("random", "prune"), ("random", "reroute")])
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_the_host_waits_equally_often_for_any_number_of_stages(name, scorer, action):
    """Unpadded: reading the prompt costs a fixed number of waits; stages and the layers between cost none."""
    dense = _waits(name, (), action, "last_query")
    reading = [_waits(name, FOUR[:stages], action, scorer) - dense for stages in (1, 2, 3, 4)]
    assert reading == [READING.get(scorer, 5)] * 4


@pytest.mark.parametrize("action", ACTIONS)
def test_the_mask_of_a_decoded_token_is_made_once_for_layers_that_store_the_same(action):
    """Ragged, with two decisions: three masks for six layers, the framework's own and one behind each."""
    subject, told = tiny("llava"), []

    def note(_layer, _args, kwargs):
        told.append(kwargs["attention_mask"])

    with routing.route(subject.model, plan(HALF_THEN_QUARTER, action)):
        handles = [
            layer.register_forward_pre_hook(note, with_kwargs=True) for layer in decoder(subject.model).layers
        ]
        try:
            generate(subject.model, subject.inputs(*RAGGED), 2)
        finally:
            for handle in handles:
                handle.remove()
    prefill, decoded = told[:6], told[6:]
    assert len(prefill) == len(decoded) == 6
    masks = [id(mask) for mask in decoded]
    assert masks == [masks[0]] * 2 + [masks[2]] * 2 + [masks[4]] * 2
    assert len(set(masks)) == 3


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="NO GPU: what waits for a device cannot be asked of it"
)
@pytest.mark.parametrize("action", ACTIONS)
def test_no_layer_waits_for_the_gpu(action):
    """From inside the first layer to inside the last, torch's own check finds no synchronising call."""
    subject = Tiny("llava", build("llava", "sdpa").cuda())
    layers = decoder(subject.model).layers
    inputs = {key: value.cuda() for key, value in subject.inputs(ONE).items()}
    before = torch.cuda.get_sync_debug_mode()
    layers[0].mlp.register_forward_pre_hook(lambda *_: torch.cuda.set_sync_debug_mode("error"))
    layers[-1].mlp.register_forward_hook(lambda *_: torch.cuda.set_sync_debug_mode(before))
    try:
        with routing.route(subject.model, plan(FOUR, action)), torch.no_grad():
            subject.model(**inputs)
    finally:
        torch.cuda.set_sync_debug_mode(before)


def test_padding_that_may_have_left_is_asked_for_once_a_pass(monkeypatch):
    """No layer is given a mask; whether a row is still padded is read from the device for the first alone."""
    kinds, reads = locate(tiny("llava").model).info.kinds, []
    read = torch.Tensor.__bool__
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda told: reads.append(1) or read(told))
    for real, padded in ((torch.ones(2, 5), False), (torch.tensor([[0, 1], [1, 1]]), True)):
        proof = Proof(kinds, fixed=len(kinds), needs_mask=False, padded=True, real=real)
        reads.clear()
        with pytest.raises(routing.RoutingError, match="an attention mask") if padded else nullcontext():
            for index in range(len(kinds)):
                proof.enters(index, torch.zeros(2, 1, 4), None, None, {})
        assert len(reads) == 1
