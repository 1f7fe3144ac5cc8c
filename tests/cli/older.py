"""Folders as older releases of transformers and PEFT saved them, made of those of today."""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file


def edit(path: Path, drop: tuple[str, ...] = (), **changes: object) -> None:
    """Overwrite and drop entries of a JSON file."""
    entries = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in entries.items() if key not in drop}))


def age(folder: Path) -> Path:
    """The embedded LLaVA as 4.37 saved it: no processor_config.json, no chat template, old names."""
    image = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    image |= {"processor_class": "LlavaProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(image))
    (folder / "processor_config.json").unlink()
    (folder / "chat_template.jinja").unlink()
    old = {"ignore_index": -100, "torch_dtype": "float16", "pad_token_id": 0, "vocab_size": 252}
    old |= {"transformers_version": "4.37.2"}
    edit(folder / "config.json", ("image_seq_length", "dtype", "tie_word_embeddings"), **old)
    config = json.loads((folder / "config.json").read_text())
    rope = config["text_config"].pop("rope_parameters")
    config["text_config"] |= {"rope_theta": rope["rope_theta"], "rope_scaling": None}
    (folder / "config.json").write_text(json.dumps(config))
    new = ("backend", "extra_special_tokens", "image_token", "processor_class")
    edit(folder / "tokenizer_config.json", new, tokenizer_class="PreTrainedTokenizerFast")
    return folder


def age_adapter(folder: Path, target_modules: object) -> None:
    """An adapter as PEFT saved it under 4.44, whose LLaVA kept its language model one level higher."""
    weights = folder / "adapter_model.safetensors"
    old = {
        "model.language_model.": "language_model.model.",
        "model.vision_tower.": "vision_tower.vision_model.",
    }
    tensors = load_file(weights)
    for new, name in old.items():
        tensors = {
            key.replace(f"base_model.model.{new}", f"base_model.model.{name}"): tensors[key]
            for key in tensors
        }
    assert tensors.keys().isdisjoint(load_file(weights))
    save_file(tensors, weights)
    edit(folder / "adapter_config.json", ("peft_version",), target_modules=target_modules)
