"""The embedded model: where its files are.

Knows only the folder. It imports neither torch nor transformers and reads nothing, so the command line can
name the model without loading it. The folder is an ordinary Hugging Face model folder; its README.md is the
model card.
"""

from importlib import resources
from pathlib import Path

WEIGHTS = Path(str(resources.files(__name__))) / "weights"
"""Folder with config.json, model.safetensors, the tokenizer, the processor and the chat template."""
