"""Kinds of decoder layers: what a layer that runs on a compact sequence is told, and what it stores.

One file beside this one a kind: its rule, and what it refuses. Adding a kind is a file and a line in `KINDS`.
What a layer does with the tokens that it gets (fused or latent projections, experts, norms) is its own
business and no kind of its own: it only ever sees the tokens that are active in a stage.
"""

from __future__ import annotations

from typing import Any

from routing.errors import UnsupportedModelError
from routing.kinds import full, recurrent, shared, tokenwise, window
from routing.kinds.kind import LayerKind

__all__ = ["KINDS", "LayerKind", "kinds_of"]

KINDS: dict[str, LayerKind] = {
    name: module.KIND for module in (full, window, recurrent, tokenwise, shared) for name in module.KIND.names
}
MOST_LAYERS = 1000
REFUSED = {  # kinds that the library has and the engine does not route, and why
    "indexed_attention": "a sparse index over the whole sequence chooses their keys",
    "compressed_sparse_attention": "their cache holds summaries of several tokens",
    "heavily_compressed_attention": "their cache holds summaries of several tokens",
    "hybrid": "they keep a recurrent state beside their keys",
    "hybrid_sliding": "they keep a recurrent state beside their keys",
    "reference_sliding_attention": "their window moves over the answer alone",
}


def kinds_of(text: Any, owner: str) -> tuple[LayerKind, ...]:
    """The kind of each decoder layer, as the library's KV caches tell them apart.

    text: the loaded config of a language model. owner: the model type to name in errors.
    Raises UnsupportedModelError for a layer of an unknown kind.
    """
    layers = int(text.num_hidden_layers)
    if not 0 < layers <= MOST_LAYERS:
        raise UnsupportedModelError(
            f"{owner} cannot be routed: its config says it has {layers} decoder layers"
        )
    names = getattr(text, "layer_types", None)
    if names is None:
        windowed = getattr(text, "sliding_window", None) or getattr(text, "attention_chunk_size", None)
        names = ["sliding_attention" if windowed else "full_attention"] * layers
    borrowing = getattr(text, "num_kv_shared_layers", None) or 0
    names = [*names[: layers - borrowing], *["reuse"] * borrowing]
    unknown = next((name for name in names if name not in KINDS), None)
    if unknown is not None:
        why = REFUSED.get(unknown, f"kinds that can be routed are {', '.join(KINDS)}")
        raise UnsupportedModelError(f"{owner} cannot be routed: it has layers of {unknown}, and {why}")
    return tuple(KINDS[name] for name in names)
