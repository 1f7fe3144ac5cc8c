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
from transformers import AutoModel, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel

from routing.checks.configs import VOCABULARY
from routing.checks.text_sizes import HIDDEN, sections, tiny_text
from routing.errors import UnsupportedModelError
from routing.hooks import Hooks
from routing.kinds import MOST_LAYERS

_IDS = re.compile(r"(_token_ids?|_token_index|_patch_id|_ids?|_token_offset)$")
_IMAGE_TOKEN = re.compile(r"^image_(token_id|token_index|patch_id)$")
_MARKER = re.compile(r"^(image|video|audio)_")
LAST_FEATURE = 2  # decoder layer
RESERVED = 170  # ids from here on are markers and placeholders; text has smaller ones
_SIZES = {"hidden_size": HIDDEN, "vocab_size": VOCABULARY}  # what a config repeats of its text config
_BUILDING = threading.Lock()


def tiny_config(config: Any, window: int = 64) -> Any:
    """A copy of a vision-language model's config with a tiny text config and with ids in its vocabulary."""
    config = copy.deepcopy(config)
    own = config.get_text_config()
    _check_depths(config, own)
    places = _places(config, own)
    text = type(own)(**tiny_text(own, window))
    if own is config:
        config = text
    for part in (config, *_parts(config)):
        for name, value in list(vars(part).items()):
            if value is own:
                setattr(part, name, text)
                vars(part).update({size: most for size, most in _SIZES.items() if size in vars(part)})
        part.dtype = None
        for name in ("auto_map", "quantization_config"):
            vars(part).pop(name, None)
    if layers := getattr(config, "deepstack_layer_map", None):  # features enter before its layers
        config.deepstack_layer_map = [(tower, min(layer, LAST_FEATURE)) for tower, layer in layers]
        config.spatial_target_layers = [min(layer, LAST_FEATURE) for layer in config.spatial_target_layers]
    for part in {id(part): part for part in (config, text)}.values():
        _rename_ids(part, places, RESERVED if part is config else None)
        part.tie_word_embeddings = False
    return config


def _check_depths(config: Any, text: Any) -> None:
    """Raise UnsupportedModelError where there is no decoder, or a part of more layers than any model has."""
    if not getattr(text, "num_hidden_layers", None):
        raise UnsupportedModelError(f"the config of {config.model_type} describes no decoder")
    for part in (config, *_parts(config)):
        depth = max(vars(part).get(name) or 0 for name in ("num_hidden_layers", "depth"))
        if depth > MOST_LAYERS:
            raise UnsupportedModelError(f"{part.model_type} cannot be copied: it has {depth} layers")


def _rename_ids(config: Any, places: dict[int, int], unset: int | None) -> None:
    """Give a config the ids of the tiny vocabulary; `unset` is that of an image token that it leaves open."""
    for name, value in list(vars(config).items()):
        if name == "vocabulary_map" and value:
            setattr(config, name, {word: places[token] for word, token in value.items() if token in places})
        elif value is None and _IMAGE_TOKEN.search(name):
            setattr(config, name, unset)
        elif _IDS.search(name):
            renamed = [places.get(entry, entry) if type(entry) is int else entry for entry in _entries(value)]
            setattr(config, name, renamed if isinstance(value, list) else renamed[0])


def _entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _parts(config: Any) -> list[Any]:
    """The configs inside of a config, and those inside of them."""
    found = [value for value in vars(config).values() if isinstance(value, PreTrainedConfig)]
    return [*found, *(deeper for part in found for deeper in _parts(part))]


def _places(*configs: Any) -> dict[int, int]:
    """New ids, in the order of the old ones, for placeholders and for ids outside of the tiny vocabulary."""
    old = set()
    for name, value in chain.from_iterable(vars(config).items() for config in configs):
        if _IDS.search(name):
            least = 3 if _MARKER.search(name) else RESERVED
            old |= {entry for entry in _entries(value) if type(entry) is int and entry >= least}
    return {entry: VOCABULARY - len(old) + place for place, entry in enumerate(sorted(old))}


def placeholder_ids(config: Any) -> tuple[int, ...]:
    """The ids of image tokens that a config names."""
    found = [value for name, value in vars(config).items() if _IMAGE_TOKEN.search(name)]
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
            f"the config of {config.model_type} names no image token: where visual features enter is unknown"
        )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(0)
        with torch.device("meta"), _towers_may_be_absent(type(tiny.get_text_config())):
            chosen = None if attention == "sdpa" else attention  # None: sdpa where a part has it
            model = AutoModelForImageTextToText.from_config(
                tiny, attn_implementation=chosen, dtype=torch.float32
            ).eval()
        _make_text(model, type(tiny.get_text_config()))
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


def _make_text(model: nn.Module, text: type[Any]) -> None:
    """Build the language model, the part with that class of config, anew on the CPU."""
    for name, child in list(model.named_children()):
        if isinstance(child, PreTrainedModel) and type(child.config) is text:
            _share_sections(child)
            setattr(model, name, type(child)(child.config).eval())
        else:
            _make_text(child, text)


def _share_sections(language_model: PreTrainedModel) -> None:
    """Write into the config how the axes share a rotary embedding, where it leaves that to its class."""
    for module in language_model.modules():
        own = getattr(module, "mrope_section", None)
        for kind, section in (own if isinstance(own, dict) else {"": own}).items():
            inverse = getattr(module, f"{kind}_inv_freq" if kind else "inv_freq", None)
            if section and inverse is not None:
                rope = language_model.config.rope_parameters
                (rope[kind] if kind else rope)["mrope_section"] = sections(section, len(inverse))


def _make_rest(model: nn.Module, kwargs: dict[str, Tensor]) -> None:
    """Give weights to what else runs on text, found by running it; those of all others are empty."""
    names = {module: name for name, module in model.named_modules()}

    def make(shapes: dict[str, torch.Size], module: nn.Module, _args: Any, _kwargs: Any) -> None:
        for name, shape in shapes.items():
            tensor = getattr(module, name)
            real = torch.zeros(shape, dtype=tensor.dtype)
            if isinstance(tensor, nn.Parameter):
                _fill(f"{names[module]}.{name}", real)
            tensor.data = real

    with Hooks() as hooks:
        for module in names:
            own = chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False))
            shapes = {name: tensor.shape for name, tensor in own if tensor.is_meta}
            for name in shapes:
                tensor = getattr(module, name)
                empty = torch.empty(0, dtype=tensor.dtype)
                setattr(
                    module, name, nn.Parameter(empty, False) if isinstance(tensor, nn.Parameter) else empty
                )
            if shapes:
                hooks.before(module, partial(make, shapes))
        model(**kwargs)


class _Absent(nn.Module):
    """In the place of a tower that cannot be built: it never runs."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config


@contextmanager
def _towers_may_be_absent(text: type[Any]) -> Iterator[None]:
    """Parts that their class cannot build, because a package is missing, are left out."""
    build = AutoModel.from_config

    def from_config(config: Any, **kwargs: Any) -> Any:
        try:
            return build(config, **kwargs)
        except (ImportError, ValueError):
            if type(config) is text:
                raise
            return _Absent(config)

    with _BUILDING:
        AutoModel.from_config = from_config
        try:
            yield
        finally:
            del AutoModel.from_config  # that of its base again


def _fill(name: str, weight: Tensor) -> None:
    """Weights whose attention is peaked and whose greedy tokens vary, unlike the default initialisation."""
    if weight.dim() < 2 or "norm" in name:
        of_heads = re.search(r"\.(q|k|query|key)_?(layer)?norm", name)
        weight.add_(torch.randn_like(weight) * 0.1 + (0.5 if of_heads else 0.0))
        return
    experts = weight.dim() == 3 and weight.shape[1] > 1
    fan_in = weight.shape[-1] if experts else weight[0].numel()
    gain = 1.6 if re.search(r"\.[qk]_(b_)?proj|qkv|query|key", name) else 0.9
    weight.normal_(0.0, 1.0 if "embed" in name and weight.shape[0] >= VOCABULARY else gain / fan_in**0.5)


def with_features(model: Any, marks: Sequence[int]) -> None:
    """Put random features at the placeholders' places, as a tower's would be: a function of sample and place.

    A sample is what stands before its first placeholder; token 0 is padding.
    """
    call = threading.local()

    def note(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if isinstance(ids, Tensor):
            call.ids = ids

    def write(_module: Any, _args: Any, output: Tensor) -> Tensor:
        noted = getattr(call, "ids", None)
        if noted is None or noted.shape != output.shape[:2]:
            return output
        output = output.clone()
        for row, ids in enumerate(noted.tolist()):
            places = [place for place, token in enumerate(ids) if token in marks]
            if places:
                before = [token for token in ids[: places[0]] if token]
                generator = torch.Generator().manual_seed(zlib.crc32(repr(before).encode()))
                features = torch.randn(len(places), output.shape[-1], generator=generator)
                output[row, places] = features.to(output)
        return output

    hooks = Hooks()  # never closed: they last as long as the model
    hooks.before(model, note)  # some models embed other ids in the place of placeholders
    hooks.after(model.get_input_embeddings(), write)


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
