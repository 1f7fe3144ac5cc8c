"""Sliding-window and chunked attention: who sees whom is decided by ORIGINAL positions.

A deferred token between two active ones still counts as distance: the framework's mask, which knows windows,
chunks and bidirectional image blocks, is gathered like any other. What is stored is evicted by position, too
(routing/cache.py), so a routed sequence may outgrow the window in the prompt, in decoding and in later turns.

Refused under flash attention once the sequence outgrows the window: it has no mask and would measure the
window in stored tokens.
"""

from routing.kinds.kind import LayerKind

KIND = LayerKind(names=("sliding_attention", "chunked_attention"), title="sliding window", forgets=True)
