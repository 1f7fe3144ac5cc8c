"""A tiny random model of the same classes as a checkpoint's, from its config alone; its towers are empty.

The decoder is small and real; the towers have no weights and never run, and random features stand for theirs.
Knows configs and modules; nothing of the engine, and no model type.
"""

from __future__ import annotations

import copy
import inspect
import re
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForImageTextToText, PreTrainedModel

from routing.checks.text_sizes import HIDDEN, VOCABULARY, sections, tiny_text
from routing.errors import UnsupportedModelError

_IDS = re.compile(r"(_token_ids?|_token_index|_patch_id|_ids?|_token_offset)$")
_PLACEHOLDERS = re.compile(r"^image_(token_id|token_index|patch_id)$")
RESERVED = 170  # ids from here on are markers and placeholders; text has smaller ones
_BUILDING = threading.Lock()


def tiny_config(config: Any, window: int = 64) -> Any:
    """A copy of a vision-language model's config with a tiny text config and with ids in its vocabulary."""
    config = copy.deepcopy(config)
    own = config.get_text_config()
    places = _renamed([config, own])
    text = own if own is config else type(own)(**tiny_text(own, window))
    if own is config:
        for name, value in tiny_text(own, window).items():
            if not isinstance(value, dict):
                setattr(config, name, value)
    else:
        holder, name = next(
            (part, name)
            for part in (config, *_parts(config))
            for name, value in vars(part).items()
            if value is own
        )
        for known, value in (("hidden_size", HIDDEN), ("vocab_size", VOCABULARY)):
            if isinstance(vars(holder).get(known), int):
                setattr(holder, known, value)
        setattr(holder, name, text)
    for part in (config, text):
        for name, value in list(vars(part).items()):
            if _IDS.search(name):
                unset = value is None and part is config and _PLACEHOLDERS.search(name)
                setattr(part, name, RESERVED if unset else _rename(value, places))
        part.tie_word_embeddings = False
    for part in (config, *_parts(config)):
        part.dtype = None
    return config


def _parts(config: Any) -> list[Any]:
    found = [
        value for value in vars(config).values() if hasattr(value, "to_dict") and hasattr(value, "model_type")
    ]
    return [*found, *(deeper for part in found for deeper in _parts(part))]


def _renamed(configs: Sequence[Any]) -> dict[int, int]:
    """New ids, in the order of the old ones, for placeholders and for ids outside of the tiny vocabulary."""
    old = set()
    for config in configs:
        for name, value in vars(config).items():
            if _IDS.search(name):
                for entry in value if isinstance(value, list) else [value]:
                    marker = _PLACEHOLDERS.search(name) or name.startswith(("video", "audio"))
                    if type(entry) is int and (entry >= RESERVED or marker) and entry > 2:
                        old.add(entry)
    return {entry: VOCABULARY - len(old) + place for place, entry in enumerate(sorted(old))}


def _rename(value: Any, places: dict[int, int]) -> Any:
    if isinstance(value, list):
        return [_rename(entry, places) for entry in value]
    return places.get(value, value) if type(value) is int else value


def placeholder_ids(config: Any) -> tuple[int, ...]:
    """The ids of image tokens that a config names."""
    found = [value for name, value in vars(config).items() if _PLACEHOLDERS.search(name)]
    return tuple(value for value in dict.fromkeys(found) if isinstance(value, int))


def tiny_copy(config: Any, attention: str = "sdpa", window: int = 64) -> Any:
    """A seeded float32 model on the CPU in evaluation mode, of the classes that the config's checkpoint has.

    Args:
        config: a vision-language model's own Hugging Face config; not changed.
        attention: "sdpa" or "eager".
        window: tokens that a sliding window or a chunk of attention holds, where the config has one.

    It runs on input_ids with placeholders, without pixels. Raises UnsupportedModelError for a config without
    image tokens, and what the model's classes raise where they cannot be built or do not run.
    """
    tiny = tiny_config(config, window)
    marks = placeholder_ids(tiny)
    if not marks:
        raise UnsupportedModelError(
            f"{config.model_type} has no image token: visual features are no part of the decoder's sequence"
        )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(0)
        with torch.device("meta"), _towers_may_be_absent(tiny.get_text_config()):
            chosen = None if attention == "sdpa" else attention  # None: sdpa where a part has it
            model = AutoModelForImageTextToText.from_config(
                tiny, attn_implementation=chosen, dtype=torch.float32
            ).eval()
        _make_text(model, tiny.get_text_config())
        torch.default_generator.manual_seed(7)
        for name, weight in model.named_parameters():
            if not weight.is_meta:
                _fill(name, weight)
        with_features(model, marks)
        _make_rest(model, inputs(model, [[10, 11, marks[0], marks[0], 12]]))
        for module in model.modules():
            if isinstance(module, nn.Linear) and module.out_features == VOCABULARY:
                module.weight[RESERVED:] = 0.0  # no marker is ever generated: it would stand for an image
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def _make_text(model: nn.Module, text: Any) -> None:
    """Build the language model anew on the CPU, by its own class."""
    for name, child in list(model.named_children()):
        if isinstance(child, PreTrainedModel) and type(child.config) is type(text):
            _share_sections(child, text)
            setattr(model, name, type(child)(child.config).eval())
        else:
            _make_text(child, text)


def _share_sections(language_model: nn.Module, text: Any) -> None:
    """Write into the config how time, height and width share a rotary embedding where its class has that."""
    for module in language_model.modules():
        own = getattr(module, "mrope_section", None)
        by_kind = own if isinstance(own, dict) else {"": own}
        for kind, section in by_kind.items():
            inverse = getattr(module, f"{kind}_inv_freq" if kind else "inv_freq", None)
            if section and inverse is not None:
                rope = text.rope_parameters[kind] if kind else text.rope_parameters
                rope["mrope_section"] = sections(section, len(inverse))


def _make_rest(model: nn.Module, kwargs: dict[str, Tensor]) -> None:
    """Give weights to what else runs on text, found by running it; those of all others are empty."""
    names = {module: name for name, module in model.named_modules()}

    def make(shapes: dict[str, torch.Size], module: nn.Module, _args: Any) -> None:
        for name, shape in shapes.items():
            tensor = getattr(module, name)
            real = torch.zeros(shape, dtype=tensor.dtype)
            if isinstance(tensor, nn.Parameter):
                _fill(f"{names[module]}.{name}", real)
            tensor.data = real

    handles = []
    for module in names:
        own = chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        shapes = {name: tensor.shape for name, tensor in own if tensor.is_meta}
        for name in shapes:
            tensor = getattr(module, name)
            empty = torch.empty(0, dtype=tensor.dtype)
            setattr(module, name, nn.Parameter(empty, False) if isinstance(tensor, nn.Parameter) else empty)
        handles.append(module.register_forward_pre_hook(partial(make, shapes)))
    try:
        model(**kwargs)
    finally:
        for handle in handles:
            handle.remove()


class _Absent(nn.Module):
    """In the place of a tower that cannot be built: it never runs."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config


@contextmanager
def _towers_may_be_absent(text: Any) -> Iterator[None]:
    """Parts that their class cannot build, because a package is missing, are left out."""
    build = AutoModel.from_config

    def from_config(config: Any, **kwargs: Any) -> Any:
        try:
            return build(config, **kwargs)
        except (ImportError, ValueError):
            if type(config) is type(text):
                raise
            return _Absent(config)

    with _BUILDING:
        AutoModel.from_config = from_config
        try:
            yield
        finally:
            AutoModel.from_config = build


def _fill(name: str, weight: Tensor) -> None:
    """Weights whose attention is peaked and whose greedy tokens vary, unlike the default initialisation."""
    if weight.dim() < 2:
        weight.add_(torch.randn_like(weight) * 0.1)
        return
    experts = weight.dim() == 3 and weight.shape[1] > 1
    fan_in = weight.shape[-1] if experts else weight[0].numel()
    gain = 1.6 if re.search(r"\.[qk]_(b_)?proj|qkv|query|key", name) else 0.9
    weight.normal_(0.0, 1.0 if "embed" in name and weight.shape[0] >= VOCABULARY else gain / fan_in**0.5)


def with_features(model: Any, marks: Sequence[int]) -> None:
    """Put random features at the placeholders' places, as a tower's would be: a function of sample and place.

    A sample is what stands before its first placeholder; token 0 is padding.
    """
    noted: list[Tensor] = []

    def note(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if isinstance(ids, Tensor):
            noted[:] = [ids]

    def write(_module: Any, _args: Any, output: Tensor) -> Tensor:
        if not noted or noted[0].shape != output.shape[:2]:
            return output
        output = output.clone()
        for row, ids in enumerate(noted[0].tolist()):
            places = [place for place, token in enumerate(ids) if token in marks]
            if places:
                before = [token for token in ids[: places[0]] if token]
                output[row, places] = _features(before, len(places), output.shape[-1]).to(output)
        return output

    for module in {model, model.base_model}:
        module.register_forward_pre_hook(note, with_kwargs=True)
    model.get_input_embeddings().register_forward_hook(write)


def _features(seed: object, count: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(repr(seed).encode()))
    return torch.stack([torch.randn(width, generator=generator) for _ in range(count)])


def inputs(model: Any, rows: Sequence[Sequence[int]], new: int = 0) -> dict[str, Tensor]:
    """Keyword arguments of forward and generate for rows of ids, left-padded with 0.

    new: tokens at the end that were decoded. Where a prompt attends in both directions, they do not.
    """
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    kinds = torch.isin(ids, torch.tensor(placeholder_ids(model.config))).long()
    if getattr(model.config.get_text_config(), "use_bidirectional_attention", None) is True:
        kinds = torch.zeros_like(ids)
        kinds[:, ids.shape[1] - new :] = 1
    asked = inspect.signature(type(model).forward).parameters
    types = {name: kinds for name in ("mm_token_type_ids", "token_type_ids") if name in asked}
    return {"input_ids": ids, "attention_mask": mask, **types}
