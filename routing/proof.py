"""The engine watching itself: does the model do with the routed tokens what routing rests on?

One `Proof` follows one pass of the base model, layer by layer, and raises RoutingError (versions, layer,
expected, found) where the framework departs from it: a layer that is skipped, runs twice or runs on
something else, a mask or rotary embedding that never arrives, a cache that is replaced, copied or left empty.
It compares identities and shapes only: no kernel is launched and nothing waits for the device. Registers no
hooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn
from weakref import ref

from torch import Tensor

from routing.cache import Cache, RoutedLayer, stored_rows
from routing.errors import RoutingError
from routing.host import LAYER_ROLES, NAMES, part, versions, what_is_proven
from routing.kinds import LayerKind
from routing.layout import VisualLayout

KNOWN = frozenset(name for role in LAYER_ROLES for name in NAMES[role])  # arguments of layers


@dataclass(frozen=True)
class RoutedCache:
    """What a routed prefill left in one cache: its layers by index, and whether its prompt was padded."""

    entries: dict[int, RoutedLayer] = field(default_factory=dict)
    padded: bool = False


@dataclass(frozen=True)
class _Noted:
    """The same, remembered without keeping a cache or a layer alive."""

    cache: ref[Any]
    entries: dict[int, ref[RoutedLayer]]
    padded: bool


class RoutedCaches:
    """The caches that one `route` has filled, as long as their owners keep them.

    Plain references without callbacks: Python code that runs while memory is collected swallows a Ctrl-C.
    """

    def __init__(self) -> None:
        self._noted: dict[int, _Noted] = {}

    def note(self, cache: Any, routed: RoutedCache) -> None:
        """Remember what a prefill left in `cache`, and forget caches that are gone."""
        for key, noted in list(self._noted.items()):
            if noted.cache() is None:
                self._noted.pop(key, None)
        entries = {index: ref(entry) for index, entry in routed.entries.items()}
        self._noted[id(cache)] = _Noted(ref(cache), entries, routed.padded)

    def forget(self, cache: Any) -> None:
        """`cache` begins anew."""
        self._noted.pop(id(cache), None)

    def find(self, cache: Any) -> RoutedCache | None:
        """What routing left in a cache, None for others. Raises RoutingError where some of it is gone."""
        if not isinstance(cache, Cache):
            return None
        noted = self._noted.get(id(cache))
        if noted is None or noted.cache() is not cache:  # filled under another `route`, or a copy
            layers = enumerate(part(cache, "layers"))
            entries = {index: layer for index, layer in layers if isinstance(layer, RoutedLayer)}
            return RoutedCache(entries) if entries else None
        return RoutedCache(
            {index: in_place(cache, index, entry()) for index, entry in noted.entries.items()}, noted.padded
        )


@dataclass
class Proof:
    """Follows one pass through `layers` decoder layers.

    fixed: from this layer on, a layer's input must be the very output of the layer before (models that inject
    vision features into earlier layers make new tensors there). needs_mask: the attention implementation is
    not causal without a mask. cache: the one given to the base model, None if the model makes its own.
    layout: of the prompt; None while decoding. padded: the prompt of the cache was. real: (B, T), the
    attention mask that the base model was given, where rows that were padded may have left the batch since.
    some_without_rotary: layers that are told no positions may stand between others.
    """

    kinds: Sequence[LayerKind]
    fixed: int
    needs_mask: bool
    cache: Any = None
    layout: VisualLayout | None = None
    padded: bool = False
    real: Any = None
    some_without_rotary: bool = False
    _next: int = 0
    _rotary: bool = False  # some layer was told of positions
    _output: Any = None  # of the layer before
    _given: Any = None  # what the layer under way was given
    _stored: int | None = 0  # with so many rows in its cache
    _stores: int = 0  # and so many to be added
    _normed: bool = False  # and has normed

    def enters(self, index: int, hidden: Tensor, mask: Any, cache: Any, kwargs: dict[str, Any]) -> None:
        """Layer `index` is about to run: in turn, on the states and the cache of the layer before."""
        if index != self._next:
            _fail(index, f"layer {self._next} to run", f"layer {index}")
        if index > self.fixed and hidden is not self._output and not self._is_tail(index, hidden):
            _fail(index, "the output of the layer before as its input", "other hidden states")
        self._next, self._output = index + 1, None
        stray = [n for n, value in kwargs.items() if isinstance(value, Cache) and value is not cache]
        if stray:
            _fail(index, "one cache", f"another in {stray[0]!r}")
        if index == 0 and self.cache is None:
            self.cache = cache
        if cache is not self.cache:
            _fail(index, f"the cache of the pass, {_shape(self.cache)}", f"{_shape(cache)}")
        self._check_mask(index, hidden, mask)
        if self.layout is not None:
            self._check_unknown(index, kwargs)

    def _check_unknown(self, index: int, kwargs: dict[str, Any]) -> None:
        """What a layer is told of each token must be narrowed with them: nothing of which nobody knows."""
        assert self.layout is not None
        for name in kwargs.keys() - KNOWN:
            value = kwargs[name]
            for told in value if isinstance(value, tuple) else (value,):
                rows = isinstance(told, Tensor) and self.layout.length in told.shape[1:-1]
                if rows and (told.is_floating_point() or told.is_complex()):
                    _fail(index, "no argument of an unknown role with a row for each token", repr(name))

    def _is_tail(self, index: int, hidden: Tensor) -> bool:
        """A view of the last tokens, or of all, for the first layer whose keys are an earlier one's."""
        whole, first = self._output, self.kinds[index].borrows and not self.kinds[index - 1].borrows
        if not first or hidden.stride() != whole.stride() or hidden.shape[-2] > whole.shape[-2]:
            return False
        skipped = (whole.shape[-2] - hidden.shape[-2]) * whole.stride(-2)
        same = hidden.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
        return bool(same and hidden.storage_offset() == whole.storage_offset() + skipped)

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return len(self.kinds)

    def _check_mask(self, index: int, hidden: Tensor, mask: Any) -> None:
        several, told = hidden.shape[-2] > 1, self.kinds[index].told
        causal = self.needs_mask and several and told == "mask"
        padding = told == "mask" or (told == "padding" and several)
        if mask is None and (causal or (padding and self._some_padding)):
            _fail(index, "an attention mask", "none")
        if mask is not None and self.layout is not None and mask.shape[-1] != self.layout.length:
            _fail(index, f"an attention mask of width {self.layout.length}", f"one of {mask.shape[-1]}")

    @cached_property
    def _some_padding(self) -> bool:
        """Whether a row of the pass is padded; waits for the device where padded rows may have left."""
        told = isinstance(self.real, Tensor) and self.real.ndim == 2
        return self.padded and not (told and bool(self.real.all()))

    def check_rotary(self, index: int, rotary: Any) -> None:
        """A prefill's layer needs cos and sin for every column of the prompt, unless it may go without."""
        assert self.layout is not None
        parts = rotary if isinstance(rotary, tuple) else (rotary,)
        widths = {part.shape[-2] for part in parts if isinstance(part, Tensor)}
        if rotary is None and self.some_without_rotary:
            return
        self._rotary |= rotary is not None
        if self._rotary and widths != {self.layout.length}:
            expected = f"position embeddings (cos, sin) for {self.layout.length} positions"
            _fail(index, expected, f"{sorted(widths) or None}")

    def runs_on(self, hidden: Tensor, stored: int | None, stores: int | None = None) -> None:
        """The layer under way got `hidden` (..., B, W, d); its cache held `stored` rows (None: not told).

        stores: rows that it will add where these are not W, as of rows that were packed into one.
        """
        self._given, self._stored, self._normed = hidden, stored, False
        self._stores = hidden.shape[-2] if stores is None else stores

    def norms(self, index: int, hidden: Any) -> None:
        """The input norm of a ranking layer runs: the ranking used what the layer itself uses."""
        if self._given is None:  # for the ranking
            return
        if self._normed or hidden is not self._given:
            _fail(index, "its input norm to run once, on its own input", "another input")
        self._normed = True

    def leaves(self, index: int, output: Any, entry: RoutedLayer | None, watched: bool) -> None:
        """Layer `index` has run: on the rows that it was given, each of them stored once.

        entry: what routing put into the cache for it. watched: `norms` is told of its input norm.
        """
        given, self._given = self._given, None
        self._output = output[0] if isinstance(output, tuple) else output
        if given is None or getattr(self._output, "shape", None) != given.shape:
            _fail(index, f"an output of shape {_shape(given)}", f"{_shape(self._output)}")
        if watched and not self._normed:
            _fail(index, "its input norm to run on its own input", "none that ran")
        if self.cache is None or self.kinds[index].borrows:
            return
        if entry is not None:
            in_place(self.cache, index, entry)
        stored = stored_rows(layer_of(self.cache, index))
        if stored is not None and self._stored is not None and stored != self._stored + self._stores:
            _fail(index, f"{self._stored + self._stores} rows in the cache", f"{stored}")

    def ends(self, output_cache: Any) -> None:
        """The pass is over: every layer has run, and the model hands out the cache that they filled."""
        if self._next != self.layers:
            _fail(self._next, f"{self.layers} layers to run", f"{self._next}")
        if output_cache is not None and output_cache is not self.cache:
            _fail(self.layers - 1, "the cache that the layers filled in the output", "another one")


def layer_of(cache: Any, index: int) -> Any:
    """Layer `index` of a cache, None where it has none yet."""
    layers = () if cache is None else part(cache, "layers")
    return layers[index] if index < len(layers) else None


def in_place(cache: Any, index: int, entry: RoutedLayer | None) -> RoutedLayer:
    """`entry`; raises RoutingError unless it still is layer `index` of `cache`."""
    found = layer_of(cache, index)
    if entry is None or found is not entry:
        _fail(index, "its RoutedLayer in the cache", f"{type(found).__name__} in its place")
    return entry


def check_mask_width(index: int, mask: Any, width: int) -> None:
    """Raise RoutingError unless a mask over a routed cache has one column for each of `width` tokens."""
    if mask is not None and mask.shape[-1] != width:
        _fail(index, f"an attention mask of width {width}", f"one of {mask.shape[-1]}")


def check_keys_taken(index: int, waiting: bool) -> None:
    """Raise RoutingError where a ranking layer ran without asking for its keys."""
    if waiting:
        _fail(index, "its key projection to run", "none that ran")


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _fail(layer: int, expected: str, found: str) -> NoReturn:
    raise RoutingError(
        f"the model did not run as routing needs it ({versions()}): at decoder layer {layer}, expected "
        f"{expected}, found {found}; {what_is_proven()}"
    )
