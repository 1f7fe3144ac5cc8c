"""Rendered scenes, questions about them, and the training of the embedded model `pocket`."""
