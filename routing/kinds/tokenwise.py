"""Layers that treat every token by itself, an MLP or experts alone: nothing to gather, nothing stored.

Like recurrent ones they have no attention, so a decision at one is ranked by a layer after it.
"""

from routing.kinds.kind import LayerKind

KIND = LayerKind(names=("mlp", "moe"), title="token-wise", ranks=False, told="nothing")
