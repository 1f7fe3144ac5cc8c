"""What is measured while a model answers, one file a kind: clock, flops, memory."""
