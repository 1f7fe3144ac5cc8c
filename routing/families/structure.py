"""What every vision-language model says of itself: where its decoder is, and which tokens are visual.

Found from the structure of a model and its config, for families with and without a file of their own.
Knows no model type. Imports no torch: `decoder` and `around` only walk names of modules.
"""

from __future__ import annotations

import inspect
from collections.abc import Sized
from typing import Any

from routing.families.family import Family, Missing, setting

_NO_FILE = Missing("nobody wrote a file about this family")
_PLACEHOLDERS = ("image_token_id", "image_token_index", "image_patch_id", "img_token_id")
_MORE = ("video_token_id", "video_token_index")  # visual tokens as well


def refusal(config: Any) -> str | None:
    """Why a model with this config can't be routed, whatever its file says; None where nothing speaks
    against it."""
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder-decoder: the image is in the encoder, and the decoder has no visual tokens"
    if not hasattr(config, "get_text_config") or not hasattr(config.get_text_config(), "num_hidden_layers"):
        return "its config describes no language model"
    if not visual_tokens(config):
        return "its config names no token that stands for a part of an image"
    return None


def visual_tokens(config: Any) -> tuple[int, ...]:
    """The ids whose positions are visual tokens: of images, and of videos where they have their own."""
    found = [setting(config, name) for name in _PLACEHOLDERS]
    image = next((value for value in found if isinstance(value, int)), None)
    if image is None:
        return ()
    more = (setting(config, name) for name in _MORE)
    return tuple(dict.fromkeys((image, *(value for value in more if isinstance(value, int)))))


def after_deepstack(config: Any) -> int:
    """First decoder layer whose input has received every feature of the tower's.

    Some models add one after each of their first layers, others before layers that their config lists.
    """
    before = [int(layer) for _, layer in setting(config, "deepstack_layer_map", ())]
    before += map(int, setting(config, "spatial_target_layers", ()) if before else ())
    return max([len(setting(config, "vision_config.deepstack_visual_indexes", ())), *before])


def adds_features_unsaid(decoder: Any, first_layer: int) -> bool:
    """Whether a decoder is handed features for later layers, while its config does not say for which."""
    return not first_layer and any("deepstack" in name for name in _arguments(decoder))


def without_a_file(kind: str) -> Family:
    """A family of which only this is known: its model type, its placeholders, its decoder."""

    def unknown(*_: Any) -> Any:
        raise NotImplementedError(f"nobody wrote a file about {kind}")

    return Family(
        model_types=(kind,),
        title=kind,
        grids=unknown,
        tower=unknown,
        grounding=_NO_FILE,
        vision_stage=_NO_FILE,
        shared=lambda _config, _processor: (),
        chat_templates=_NO_FILE,
        visual_tokens=visual_tokens,
        first_layer=after_deepstack,
    )


def decoder(model: Any, text: Any, name: str) -> str | None:
    """Path of the module that holds the decoder's layers; None where there is none.

    text: config of the language model. name: what the family's file calls the module.
    """
    depth = int(text.num_hidden_layers)
    found = []
    for path, module in model.named_modules():
        config = getattr(module, "config", None)
        layers = getattr(module, "layers", None)
        own = config is not None and getattr(config, "model_type", None) == text.model_type
        if own and isinstance(layers, Sized) and len(layers) >= depth:
            found.append(path)
    named = [path for path in found if path.rpartition(".")[2] == name]
    return next(iter(named or found), None)


def around(model: Any, path: str) -> tuple[Any, ...]:
    """The modules around a path and the one at it, outermost first."""
    names = path.split(".") if path else []
    return tuple(model.get_submodule(".".join(names[:depth])) for depth in range(len(names) + 1))


def base(modules: tuple[Any, ...]) -> int:
    """Which of nested modules is the base: the innermost that is called with token ids and images."""
    takes = [_arguments(module) for module in modules]
    both = [place for place, names in enumerate(takes) if "input_ids" in names and _takes_images(names)]
    return max(both, default=max(0, len(modules) - 2))


def _takes_images(names: set[str]) -> bool:
    return any(name.startswith(("pixel", "image", "flattened")) for name in names)


def _arguments(module: Any) -> set[str]:
    module = getattr(module, "_orig_mod", module)
    try:
        return set(inspect.signature(type(module).forward).parameters)
    except (TypeError, ValueError):
        return set()
