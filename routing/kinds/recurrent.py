"""Linear attention, gated delta nets, Mamba and short convolutions: a state runs over the active tokens.

On a compact sequence the state never sees a deferred or removed token, as if the prompt had never held it:
neighbours in a convolution are neighbours among the active tokens, decay counts active tokens, and decoding
goes on from that state. Filler rows of ragged batches are padding to it and never enter.

Such a layer has no attention to rank by: a decision at one is ranked by the nearest layer after it with full
attention (a window may not reach back to the image), applied to the hidden states at the decision
(`ModelInfo.ranking`).
"""

from routing.kinds.kind import LayerKind

KIND = LayerKind(
    names=("linear_attention", "conv", "mamba"), title="recurrent state", ranks=False, told="padding"
)
