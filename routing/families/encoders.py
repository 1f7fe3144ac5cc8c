"""Vision towers as the library builds them: where one keeps what rankings ask for, and where its features go.

Paths of attributes and nothing else. Knows no tensors and no hooks; routing/vision reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Encoder:
    """A vision transformer with queries and keys projected apart.

    class_tokens: tokens before the patches of an image. layers: path of the layers in the tower. attention:
    of the attention in a layer. query, key: in the attention, of the modules that put these out, normed where
    they are. scale: of the factor to their products. turned: they are then turned by their positions.
    """

    class_tokens: int
    layers: str = "encoder.layers"
    attention: str = "self_attn"
    query: str = "q_proj"
    key: str = "k_proj"
    scale: str = "scale"
    turned: bool = False


ENCODERS = {
    "clip_vision_model": Encoder(1),
    "siglip_vision_model": Encoder(0),
    "idefics3_vision": Encoder(0),
    "smolvlm_vision": Encoder(0),
    "internvl_vision": Encoder(1, "encoder.layer", "attention", "q_norm", "k_norm"),
    "pixtral": Encoder(0, "transformer.layers", "attention", scale="scaling", turned=True),
}
"""By the model_type of a config's vision_config."""


@dataclass(frozen=True)
class PatchStage:
    """Visual tokens are chosen where features of an encoder enter a module behind it.

    tower, exit: paths of the two in the base model. side: config -> patches along the side of the square
    that one token is made of. packed: the base model then puts the tiles of an image together, without
    their padding and with a token at each row's end, and tokens are chosen of what comes out.
    """

    tower: str = "vision_tower"
    exit: str = "multi_modal_projector"
    side: Callable[[Any], int] = lambda _config: 1
    packed: bool = False


@dataclass(frozen=True)
class MergedStage:
    """A tower with a merger of its own: tokens are chosen behind it, in the decoder's space.

    downsampled: squares of patches pass a norm and a convolution before they are merged.
    """

    downsampled: bool = False
