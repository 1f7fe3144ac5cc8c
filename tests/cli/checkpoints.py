"""The embedded model as a checkpoint of one's own: the same files, and a generation_config.json to choose."""

import json
import os
import shutil
from pathlib import Path

from reroute_cli.models.generation import FILE
from reroute_cli.models.pocket import WEIGHTS

TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def checkpoint(folder, settings):
    """Its path. settings: what the file has beside special tokens, or its whole text; None for no file."""
    folder.mkdir(exist_ok=True)
    for path in Path(WEIGHTS).iterdir():
        place = os.link if path.suffix == ".safetensors" else shutil.copy
        if path.name != FILE and not (folder / path.name).exists():
            place(path, folder / path.name)
    (folder / FILE).unlink(missing_ok=True)
    if settings is not None:
        text = settings if isinstance(settings, str) else json.dumps(TOKENS | settings)
        (folder / FILE).write_text(text)
    return str(folder)
