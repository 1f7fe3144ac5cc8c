"""Layers that attend to the keys and values of an earlier layer and store none (Gemma 3n, Gemma 4).

Their keys are those of the tokens that were active in the earlier layer, so no decision may come between
the first layer whose keys are shared and the last layer that uses them: `ModelInfo.last_layer` is the last
layer that may decide. Since nobody looks at what they make of earlier tokens, some models run them in a
prefill on the last tokens alone; these pass untouched, and see the stored ones.
"""

from __future__ import annotations

from typing import Any

from routing.kinds.kind import LayerKind

KIND = LayerKind(names=("reuse",), title="shared keys", ranks=False, borrows=True)


def producers(text: Any) -> dict[int, int]:
    """Decoder layer without keys of its own -> the layer whose keys it uses: the last of its type that has.

    text: the loaded config of a language model.
    """
    layers, borrowing = int(text.num_hidden_layers), getattr(text, "num_kv_shared_layers", None) or 0
    own, types = layers - borrowing, getattr(text, "layer_types", None) or [None] * layers
    last = {kind: index for index, kind in enumerate(types[:own])}
    return {index: last[types[index]] for index in range(own, layers)}
