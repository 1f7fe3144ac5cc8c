"""Full attention, whatever its projections: every active token sees the active tokens before it.

The framework's mask is gathered, never dropped: image blocks and prefixes in it stay bidirectional.
"""

from routing.kinds.kind import LayerKind

KIND = LayerKind(names=("full_attention",), title="full attention")
