"""A model and its processor made without a file, for --load-format dummy: right shapes, random weights."""
