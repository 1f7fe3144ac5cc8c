"""What one decoder layer computes and stores, as integers: attention, recurrences, MLPs, experts.

2 FLOPs per multiply-add, counted as torch's FLOP counter does: attention is the full L x L, also where a mask
hides what is outside of a window or a chunk; norms, softmax, rotary embeddings, elementwise recurrences and
triangular solves are not counted. Everything is counted as the torch code of transformers 5.24 computes it.
Knows no torch, config or schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

STATE_BYTES = 4  # of a number of a recurrent state, which is kept in float32 whatever the cache is


@dataclass(frozen=True)
class Attention:
    """Softmax attention with a projection for queries, keys and values.

    hidden: width of the residual stream. heads, kv_heads: of the queries, of the keys and values; kv_heads
    is 0 where another layer's are used. key_width, value_width: numbers of one head. gate: numbers of a
    position that are projected beside the queries to scale the output. tied: the values are the keys before
    their norm. fused: one matrix makes queries, keys and values, so a ranking projects all of them.
    hands_over: the layer makes use of the keys that were projected for a ranking.
    """

    hidden: int
    heads: int
    kv_heads: int
    key_width: int
    value_width: int
    gate: int = 0
    tied: bool = False
    fused: bool = False
    hands_over: bool = True

    @property
    def stored(self) -> int:
        """Numbers that the cache holds of one position."""
        return self.kv_heads * (self.key_width + self.value_width)

    def projection_flops(self, rows: int) -> int:
        """Queries, keys, values and gate of `rows` positions."""
        values = 0 if self.tied else self.kv_heads * self.value_width
        return self.query_flops(rows) + self.key_flops(rows) + 2 * rows * self.hidden * (values + self.gate)

    def query_flops(self, rows: int) -> int:
        """Queries alone of `rows` positions."""
        return 2 * rows * self.hidden * self.heads * self.key_width

    def key_flops(self, rows: int) -> int:
        """Keys alone of `rows` positions."""
        return 2 * rows * self.hidden * self.kv_heads * self.key_width

    def ranking_flops(self, length: int, rows: int, own: int) -> int:
        """Ranking `length` positions by `rows` queries, where the layer itself runs on `own` of them."""
        products = 2 * rows * length * self.heads * self.key_width
        if self.fused:
            return self.projection_flops(length) + products
        asking = self.query_flops(rows) + 2 * rows * self.hidden * self.gate
        return self.key_flops(length - own * self.hands_over) + asking + products

    def flops(self, queries: int, keys: int) -> int:
        """`queries` new positions that attend to `keys` positions, their own among them."""
        wide = self.heads * self.value_width
        products = 2 * queries * keys * (self.heads * self.key_width + wide)
        return self.projection_flops(queries) + products + 2 * queries * wide * self.hidden

    def kv_bytes(self, positions: int, element_bytes: int) -> int:
        """Keys and values of `positions` positions."""
        return positions * self.stored * element_bytes


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434) whose cache holds the latents.

    Keys and values of all positions are made of the latents anew at every step. query_rank: None where
    queries are projected at once. rope_width: rotated numbers of a head; all heads share those of the keys.
    plain_width: numbers of a head that are not rotated. A ranking runs all of the layer's projections.
    """

    hidden: int
    heads: int
    query_rank: int | None
    kv_rank: int
    rope_width: int
    plain_width: int
    value_width: int

    @property
    def key_width(self) -> int:
        """Numbers of one head of the queries and keys."""
        return self.rope_width + self.plain_width

    @property
    def stored(self) -> int:
        """Numbers that the cache holds of one position."""
        return self.kv_rank + self.rope_width

    def projection_flops(self, rows: int, keys: int | None = None) -> int:
        """Queries and latents of `rows` positions, keys and values of `keys` (None: the same)."""
        wide = self.heads * self.key_width
        queries = self.hidden * wide
        if self.query_rank is not None:
            queries = self.query_rank * (self.hidden + wide)
        expanded = self.kv_rank * self.heads * (self.plain_width + self.value_width)
        latents = self.hidden * self.stored
        return 2 * rows * (queries + latents) + 2 * (rows if keys is None else keys) * expanded

    def ranking_flops(self, length: int, rows: int, _own: int) -> int:
        """Ranking `length` positions by `rows` queries, whatever keys the layer makes use of anyway."""
        return self.projection_flops(length) + 2 * rows * length * self.heads * self.key_width

    def flops(self, queries: int, keys: int) -> int:
        """`queries` new positions that attend to `keys` positions, their own among them."""
        wide = self.heads * self.value_width
        products = 2 * queries * keys * (self.heads * self.key_width + wide)
        return self.projection_flops(queries, keys) + products + 2 * queries * wide * self.hidden

    def kv_bytes(self, positions: int, element_bytes: int) -> int:
        """Latents and rotated keys of `positions` positions."""
        return positions * self.stored * element_bytes


@dataclass(frozen=True)
class CausalConvolution:
    """A depthwise convolution over the sequence, whose state is as many columns as its kernel is wide."""

    channels: int
    kernel: int

    def flops(self, queries: int, keys: int) -> int:
        """A prefill (queries = keys), padded at both ends, or one step behind the state of `keys` - 1."""
        outputs = 2 if queries < keys else max(queries, self.kernel) + self.kernel - 1
        return 2 * outputs * self.kernel * self.channels

    def kv_bytes(self, element_bytes: int) -> int:
        """The state, whatever the length."""
        return self.channels * self.kernel * element_bytes


@dataclass(frozen=True)
class ShortConvolution:
    """A gated short convolution between two linear maps (LFM2)."""

    hidden: int
    kernel: int

    @property
    def convolution(self) -> CausalConvolution:
        """Over the gated input."""
        return CausalConvolution(self.hidden, self.kernel)

    def flops(self, queries: int, keys: int) -> int:
        """A prefill (queries = keys) or one step."""
        return 8 * queries * self.hidden**2 + self.convolution.flops(queries, keys)

    def kv_bytes(self, _positions: int, element_bytes: int) -> int:
        """The convolution's state, whatever the length."""
        return self.convolution.kv_bytes(element_bytes)


@dataclass(frozen=True)
class GatedDeltaNet:
    """Linear attention by the gated delta rule (arXiv 2412.06464), in chunks of 64 positions.

    key_heads, value_heads: of queries and keys, of values; every value head has a state of key_width x
    value_width.
    """

    hidden: int
    key_heads: int
    value_heads: int
    key_width: int
    value_width: int
    kernel: int
    chunk: int = 64

    @property
    def convolution(self) -> CausalConvolution:
        """Over queries, keys and values."""
        keys, values = self.key_heads * self.key_width, self.value_heads * self.value_width
        return CausalConvolution(2 * keys + values, self.kernel)

    def flops(self, queries: int, keys: int) -> int:
        """A prefill (queries = keys), its last chunk padded, or one step, whose recurrence is elementwise."""
        wide = self.value_heads * self.value_width
        projected = self.convolution.channels + wide + 2 * self.value_heads
        linear = 2 * queries * self.hidden * (projected + wide)
        if queries < keys:
            return linear + self.convolution.flops(queries, keys)
        inside = self.chunk * (2 * self.key_width + self.value_width)  # k x k, q x k, and that x values
        across = 3 * self.key_width * self.value_width  # the state read twice and written once
        padded = -(-queries // self.chunk) * self.chunk
        scan = 2 * padded * self.value_heads * (inside + across)
        return linear + self.convolution.flops(queries, keys) + scan

    def kv_bytes(self, _positions: int, element_bytes: int) -> int:
        """State and convolution, whatever the length."""
        state = self.value_heads * self.key_width * self.value_width
        return self.convolution.kv_bytes(element_bytes) + state * STATE_BYTES


@dataclass(frozen=True)
class StateSpace:
    """A Mamba-2 layer (arXiv 2405.21060), in chunks. state: numbers that each of a head's `width` remembers.

    groups: of heads that share what is written to and read from the state.
    """

    hidden: int
    heads: int
    width: int
    groups: int
    state: int
    kernel: int
    chunk: int

    @property
    def convolution(self) -> CausalConvolution:
        """Over input, writing and reading vectors."""
        return CausalConvolution(self.heads * self.width + 2 * self.groups * self.state, self.kernel)

    def flops(self, queries: int, keys: int) -> int:
        """A prefill (queries = keys), its last chunk padded, or one step."""
        wide, memory = self.heads * self.width, self.heads * self.width * self.state
        linear = 2 * queries * self.hidden * (2 * wide + self.convolution.channels + self.heads)
        outside = linear + self.convolution.flops(queries, keys)
        if queries < keys:
            return outside + 2 * memory
        chunks = -(-queries // self.chunk)
        inside = self.heads * self.chunk**2 * (self.state + self.width)
        return outside + 2 * (chunks * (inside + 2 * self.chunk * memory) + (chunks + 1) ** 2 * memory)

    def kv_bytes(self, _positions: int, element_bytes: int) -> int:
        """State and convolution, whatever the length."""
        state = self.heads * self.width * self.state
        return self.convolution.kv_bytes(element_bytes) + state * STATE_BYTES


@dataclass(frozen=True)
class Mlp:
    """Two linear maps with an activation between them, three where it is gated."""

    hidden: int
    width: int
    gated: bool = True

    def flops(self, rows: int, _visual: int = 0) -> int:
        """Of `rows` positions."""
        return 2 * rows * self.hidden * self.width * (3 if self.gated else 2)


@dataclass(frozen=True)
class Experts:
    """A mixture of experts: a router, the experts that a position reaches, and what all positions pass.

    active: experts that compute each position; transformers runs no others for it, be it by a loop, a batched
    or (the default) a grouped product. width: of one expert. shared: of all shared experts together.
    shared_gate: they are scaled by a number that is projected. latent: width that positions are projected to
    before the experts and back from behind them. visual_width: of the experts of visual tokens, where these
    have their own.
    """

    hidden: int
    experts: int
    active: int
    width: int
    gated: bool = True
    shared: int = 0
    shared_gate: bool = False
    latent: int | None = None
    visual_width: int | None = None

    def flops(self, rows: int, visual: int = 0) -> int:
        """Of `rows` positions, `visual` of them visual tokens."""
        maps = 3 if self.gated else 2
        inner = self.hidden if self.latent is None else self.latent
        every = self.hidden * (self.experts + maps * self.shared + self.shared_gate + 2 * (self.latent or 0))
        images = self.width if self.visual_width is None else self.visual_width
        reached = (rows - visual) * self.width + visual * images
        return 2 * (rows * every + self.active * maps * inner * reached)


Mixer = Attention | LatentAttention | GatedDeltaNet | StateSpace | ShortConvolution


@dataclass(frozen=True)
class LayerShape:
    """One decoder layer.

    mixer: what mixes positions; None in a layer that is an MLP alone. mlps: what follows it. window: most
    positions that a query sees, itself among them; the cache keeps one less. source: the layer whose keys and
    values it uses, None for its own; with a source a prefill runs the last position alone, as in `generate`.
    """

    mixer: Mixer | None
    mlps: tuple[Mlp | Experts, ...]
    window: int | None = None
    source: int | None = None

    @property
    def attention(self) -> Attention | LatentAttention | None:
        """The mixer where it is attention with keys of its own, by which tokens can be ranked."""
        if self.source is None and isinstance(self.mixer, Attention | LatentAttention):
            return self.mixer
        return None

    def flops(self, queries: int, keys: int, visual: int = 0) -> int:
        """`queries` new positions, `visual` of them visual tokens, that attend to `keys` positions.

        A recurrent layer or a convolution takes a whole prefill (queries = keys) or one position.
        """
        mixed = 0 if self.mixer is None else self.mixer.flops(queries, keys)
        return mixed + sum(mlp.flops(queries, visual) for mlp in self.mlps)

    def prefill_flops(self, width: int, visual: int = 0) -> int:
        """A prefill of `width` positions, `visual` of them visual tokens."""
        return self.flops(width, width, visual) if self.source is None else self.flops(1, width)

    def decode_flops(self, length: int) -> int:
        """One new position of a sequence that is `length` long with it."""
        return self.flops(1, length if self.window is None else min(length, self.window))

    def kv_bytes(self, positions: int, element_bytes: int) -> int:
        """What the cache holds of one sample after `positions` positions."""
        if self.mixer is None or self.source is not None:
            return 0
        held = positions if self.window is None else min(positions, self.window - 1)
        return self.mixer.kv_bytes(held, element_bytes)
