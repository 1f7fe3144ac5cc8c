"""What the host framework calls things: the one file that knows.

The engine speaks of roles (the cache, the attention mask, ...). At `route` each role is bound to the argument
that carries it in the installed release, by inspecting the forward of the model and of its decoder layers;
every hook reads and writes through that binding. Parts of modules that the engine uses by name are in
`LAYER_PARTS` and looked up by `part`. What is missing is an error that names the thing, the class it is
missing from, and the versions: never an AttributeError, and never an engine that sees nothing and goes on.

Knows no tensors, schedules or hooks, and imports neither torch nor transformers.
"""

from __future__ import annotations

import copy
import importlib.metadata
import inspect
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from routing.errors import RoutingError, UnsupportedModelError

PROVEN: dict[str, tuple[str, ...]] = {  # releases under which all tests of the engine passed
    "transformers": ("5.17.0", "5.20.0", "5.23.0", "5.24.0"),
    "torch": ("2.13.0",),
}


class Role(StrEnum):
    """What an argument of a forward call is for."""

    CACHE = "cache"
    HIDDEN_STATES = "hidden states"
    ATTENTION_MASK = "attention mask"
    POSITION_IDS = "position ids"
    POSITION_EMBEDDINGS = "position embeddings"
    INPUT_IDS = "input ids"
    LOGITS_TO_KEEP = "logits to keep"
    LAYER_INPUTS = "inputs of a layer's own"


NAMES: dict[Role, tuple[str, ...]] = {  # newest first; a release may still take an older name from callers
    Role.CACHE: ("cache", "past_key_values"),  # 5.24 renamed it
    Role.HIDDEN_STATES: ("hidden_states",),
    Role.ATTENTION_MASK: ("attention_mask",),
    Role.POSITION_IDS: ("position_ids",),
    Role.POSITION_EMBEDDINGS: ("position_embeddings",),
    Role.INPUT_IDS: ("input_ids",),
    Role.LOGITS_TO_KEEP: ("logits_to_keep",),
    Role.LAYER_INPUTS: ("per_layer_input",),
}
HEAD_ROLES = (Role.LOGITS_TO_KEEP,)
BASE_ROLES = (Role.INPUT_IDS, Role.ATTENTION_MASK, Role.POSITION_IDS, Role.CACHE)
LAYER_ROLES = (
    Role.HIDDEN_STATES,
    Role.ATTENTION_MASK,
    Role.POSITION_IDS,
    Role.POSITION_EMBEDDINGS,
    Role.CACHE,
    Role.LAYER_INPUTS,
)
PER_TOKEN_ROLES = (Role.POSITION_EMBEDDINGS, Role.POSITION_IDS, Role.ATTENTION_MASK, Role.LAYER_INPUTS)
OPTIONAL_ROLES = {Role.POSITION_IDS, Role.POSITION_EMBEDDINGS, Role.LAYER_INPUTS}  # not all layers have them

LAYER_PARTS = (  # what ranking asks of a decoder layer
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.head_dim",
    "self_attn.scaling",
)
FINAL_NORMS = ("norm", "norm_f", "embedding_norm", "final_layernorm", "final_layer_norm")  # of decoders
PROJECTIONS = {"q_proj", "k_proj", "v_proj"}
ATTENTION_CHILDREN = {"q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm", "rotary_emb"}
ROTATE = "apply_rotary_pos_emb"  # a function beside the attention class
VISION_ROTATE = "apply_rotary_pos_emb_vision"  # the same, of vision towers with rotary embeddings
MERGED_TOWER_PARTS = ("merger", "spatial_merge_size")  # what the vision stage asks of a tower with a merger
WINDOWED_TOWER_PARTS = ("window_size", "patch_size")  # the same, where it attends within windows
DOWNSAMPLED_TOWER_PARTS = ("post_layernorm", "downsample")  # the same, where patches shrink before it
MERGED_BLOCK_PARTS = ("attn.qkv", "attn.num_heads", "attn.scaling")
TILE_PACKER = "pack_image_features"  # a method of base models that put the tiles of an image together
EAGER = "eager_attention_forward"  # the same: attention that tells its weights
LENGTH_SCALE = "get_llama_4_attn_scale"  # the same, of decoders whose queries grow with the position
LENGTH_SCALE_SETTING = "llama_4_scaling_beta"  # in rope_parameters, where they do


@dataclass(frozen=True)
class Binding:
    """Which argument of one forward carries each role: its name and its place in the signature."""

    owner: str
    arguments: Mapping[Role, tuple[str, int]]

    def takes(self, role: Role) -> bool:
        """Whether the forward names an argument for it."""
        return self.arguments[role][1] < sys.maxsize

    def read(self, role: Role, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The value that a call gives for a role; None where it gives none."""
        place = self.arguments[role][1]
        if place < len(args):
            return args[place]
        given = (kwargs[name] for name in self._names(role) if kwargs.get(name) is not None)
        return next(given, None)

    def write(
        self, role: Role, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call with another value for a role."""
        place = self.arguments[role][1]
        if place < len(args):
            return (*args[:place], value, *args[place + 1 :]), dict(kwargs)
        names = self._names(role)
        name = next((name for name in names if name in kwargs), names[0])
        return args, {**kwargs, name: value}

    def _names(self, role: Role) -> tuple[str, ...]:
        """The bound name, then those that a decorator may translate into it."""
        return (self.arguments[role][0], *NAMES[role])


def bind(
    module: Any, roles: Iterable[Role], *, passed_on: bool = False, optional: Collection[Role] = ()
) -> Binding:
    """Find the argument of `module.forward` for each role.

    passed_on: what is not named there is given by keyword and passed on, as wrappers of models do; what is
    optional may be. Raises UnsupportedModelError naming the first role that no argument is known for.
    """
    module = getattr(module, "_orig_mod", module)  # torch.compile wraps a module in one of its own
    owner = type(module).__name__
    places = _parameters(module)
    arguments: dict[Role, tuple[str, int]] = {}
    for role in roles:
        name = next((name for name in NAMES[role] if name in places), None)
        if name is None and (passed_on or role in optional):
            arguments[role] = NAMES[role][0], sys.maxsize
            continue
        if name is None:
            raise UnsupportedModelError(
                f"{owner}.forward has no argument for the {role} (known as {' or '.join(NAMES[role])}) under "
                f"{versions()}, so it cannot be routed; {what_is_proven()}"
            )
        arguments[role] = name, places[name]
    return Binding(owner, arguments)


def _parameters(module: Any) -> dict[str, int]:
    """Named arguments of a module's forward -> their places, through decorators.

    Where an instance's own forward hides them (`*args, **kwargs`), those of its class count.
    """
    found: dict[str, int] = {}
    for forward, skipped in ((module.forward, 0), (type(module).forward, 1)):
        try:
            signature = inspect.signature(forward)
        except (TypeError, ValueError):
            continue
        named = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ][skipped:]
        found = found or {name: place for place, name in enumerate(named)}
    return found


def part(owner: Any, path: str) -> Any:
    """`owner.path`; raises UnsupportedModelError naming the part that is missing, and where."""
    found = owner
    for name in path.split("."):
        missing = found
        found = getattr(found, name, None)
        if found is None:
            raise UnsupportedModelError(
                f"{type(missing).__name__} has no {name} (of {type(owner).__name__}.{path}) under "
                f"{versions()}, so it cannot be routed; {what_is_proven()}"
            )
    return found


def final_norm(decoder: Any) -> Any:
    """The norm behind the last layer of a decoder; UnsupportedModelError where none is known."""
    return part(decoder, next((name for name in FINAL_NORMS if hasattr(decoder, name)), FINAL_NORMS[0]))


def beside(module: Any, function: str) -> Any:
    """A function of the file that defines the class of `module`; UnsupportedModelError where it is not."""
    found = getattr(sys.modules.get(type(module).__module__), function, None)
    if found is None:
        raise UnsupportedModelError(
            f"{type(module).__module__} has no {function} for {type(module).__name__} under {versions()}, so "
            f"it cannot be routed; {what_is_proven()}"
        )
    return found


def given(values: Mapping[str, Any], name: str, owner: Any) -> Any:
    """`values[name]`: what `owner` is called with or computes. RoutingError where there is no such thing."""
    if name not in values:
        raise RoutingError(
            f"{type(owner).__name__} ran without {name} under {versions()}, so it cannot be routed; "
            f"{what_is_proven()}"
        )
    return values[name]


def check_layer(layer: Any) -> None:
    """Raise UnsupportedModelError unless a decoder layer is made of the parts that ranking computes with."""
    for path in LAYER_PARTS:
        part(layer, path)
    attention = layer.self_attn
    beside(attention, ROTATE)
    unknown = sorted({name for name, _ in attention.named_children()} - ATTENTION_CHILDREN)
    if unknown:
        raise UnsupportedModelError(
            f"{type(attention).__name__} has a part {unknown[0]} under {versions()} of which it is not known "
            f"whether it changes queries and keys, so it cannot be routed; {what_is_proven()}"
        )
    if scales_by_position(attention):
        beside(attention, LENGTH_SCALE)


def scales_by_position(attention: Any) -> bool:
    """Whether an attention sharpens its queries by their position (Ministral 3)."""
    rope = getattr(getattr(attention, "config", None), "rope_parameters", None) or {}
    return rope.get(LENGTH_SCALE_SETTING) is not None


def scaled_from(layer: Any) -> int | None:
    """Tokens from which on a layer scales queries by the number of their row (Llama 4); None: never."""
    attention = getattr(layer, "self_attn", None)
    if not getattr(attention, "attn_temperature_tuning", False) or getattr(attention, "use_rope", True):
        return None
    return int(part(attention, "floor_scale"))


_ASKED = "reroute"  # an attention implementation, as configs name them


_asking = threading.local()  # .attention: what stands for it


def _ask(*args: Any, **kwargs: Any) -> Any:
    return _asking.attention(*args, **kwargs)


@contextmanager
def asking(layer: Any, attention: Callable[..., Any], projection: Callable[[str, Any], Any]) -> Iterator[Any]:
    """A copy of a decoder layer that calls `attention` in place of the implementation of its config.

    projection: name, part -> what stands for it in the copy, for the parts of an attention that projects
    queries, keys and values apart.

    It shares all weights and parts with the layer, but those that choose an implementation; no hook sees
    it run, and the layer itself is not touched, so that other threads may run it meanwhile.
    """
    functions = sys.modules["transformers.modeling_utils"].ALL_ATTENTION_FUNCTIONS
    if _ASKED not in functions:
        functions.register(_ASKED, _ask)

    def copied(module: Any) -> Any:
        twin = copy.copy(module)
        twin._modules = {
            child: copied(part) if _chooses(part) else part for child, part in module._modules.items()
        }
        if set(twin._modules) >= PROJECTIONS:
            twin._modules |= {name: projection(name, twin._modules[name]) for name in PROJECTIONS}
        if getattr(twin, "config", None) is not None:
            twin.config = copy.copy(twin.config)
            twin.config._attn_implementation_internal = _ASKED
        twin._compiled_call_impl = partial(type(twin).forward, twin)
        return twin

    before, _asking.attention = getattr(_asking, "attention", None), attention
    try:
        yield copied(layer)
    finally:
        _asking.attention = before


def _chooses(module: Any) -> bool:
    """Whether a part of a layer, or a part of it, reads a config."""
    return any(getattr(part, "config", None) is not None for part in module.modules())


def hooks_of(module: Any) -> list[Any]:
    """The forward hooks and pre-hooks of a module. Raises RoutingError where torch keeps them elsewhere."""
    try:
        return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    except AttributeError as missing:
        raise RoutingError(
            f"{type(module).__name__} has no {missing.name} under {versions()}; {what_is_proven()}"
        ) from None


def compiled_call(module: Any) -> Any:
    """What calls a module that torch.compile or `module.compile()` has compiled; None for all others."""
    return vars(module).get(_compiled_name(module))


def set_compiled_call(module: Any, call: Any) -> None:
    """Put something else in its place."""
    setattr(module, _compiled_name(module), call)


def _compiled_name(module: Any) -> str:
    return "forward" if hasattr(module, "_orig_mod") else "_compiled_call_impl"


def cache_of(output: Any) -> Any:
    """The KV cache in a model's output, None if it made none. RoutingError where no field is known for it."""
    for name in NAMES[Role.CACHE]:
        if hasattr(output, name):
            return getattr(output, name)
    raise RoutingError(
        f"{type(output).__name__} has no field for the cache (known as {' or '.join(NAMES[Role.CACHE])}) "
        f"under {versions()}; {what_is_proven()}"
    )


def version(package: str) -> str:
    """The installed release of a package without its local suffix: '2.13.0' for '2.13.0+cpu'."""
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def is_proven() -> bool:
    """The installed releases are among those that the engine was proven with."""
    return all(version(package) in releases for package, releases in PROVEN.items())


def versions() -> str:
    """The installed releases that the engine depends on, in words."""
    return ", ".join(f"{package} {version(package)}" for package in PROVEN)


def what_is_proven() -> str:
    """The releases that the engine was proven with, in words."""
    return f"proven with transformers {', '.join(PROVEN['transformers'])}"
