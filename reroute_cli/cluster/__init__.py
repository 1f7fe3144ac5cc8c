"""The options of a run on a cluster."""
