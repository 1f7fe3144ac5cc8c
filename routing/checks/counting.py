"""What torch's own FLOP counter says of a tiny model, part by part, and what arithmetic needs of it."""

from __future__ import annotations

from typing import Any

import torch

from routing.checks.subjects import Sample, Tiny
from routing.cost import PromptSize
from routing.families import describe_config
from routing.model_shape import ModelShape


def _cpu_attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    """Scores and their product with the values, 2 FLOPs a multiply-add."""
    batch, heads, rows, width = query
    return int(2 * batch * heads * rows * key[2] * (width + value[3]))


def _grouped(rows: torch.Size, experts: torch.Size, *_: object, **__: object) -> int:
    """Every row through the matrix of one expert."""
    return int(2 * rows[0] * rows[1] * experts[2])


ROTARY = (
    "rotary_emb",
    "rotary_pos_emb",
    "patch_positional_embedding",
)  # matrix products in older transformers
_KERNELS = {  # torch's own table lacks them
    "_scaled_dot_product_flash_attention_for_cpu": _cpu_attention,
    "_grouped_mm": _grouped,
}


class Counted:
    """FLOPs of a forward pass by the part of the model they were spent in, as torch counts them."""

    def __init__(self, model: Tiny, inputs: dict[str, Any]) -> None:
        from torch.utils.flop_counter import FlopCounterMode  # a release without it: "flops" fails, no more

        aten = torch.ops.aten
        formulas = {getattr(aten, name): count for name, count in _KERNELS.items() if hasattr(aten, name)}
        with FlopCounterMode(display=False, custom_mapping=formulas) as counter, torch.no_grad():
            self.output = model.model(**inputs, logits_to_keep=1)
        self._parts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}

    def sum(self, *endings: str) -> int:
        """FLOPs of the outermost modules whose name ends in one of these."""
        return sum(
            flops
            for name, flops in self._parts.items()
            if name.endswith(endings) and not any(f"{ending}." in name for ending in endings)
        )

    @property
    def total(self) -> int:
        """Everything, without the rotary embeddings' own products."""
        return int(self._parts["Global"]) - self.sum(*ROTARY)

    @property
    def prefill(self) -> int:
        """Decoder layers and lm_head, without scoring and without the rotary embedding's own products."""
        return (
            self.sum("language_model", "text_model", "lm_head")
            - self.sum("language_model.rotary_emb", "text_model.rotary_emb")
            - self.scoring
        )

    @property
    def scoring(self) -> int:
        """What the engine spent on ranking."""
        return self.sum("Scoring")

    @property
    def vision(self) -> int:
        """Tower and projector; a tower that is called `visual` holds both."""
        rotary = self.sum(*ROTARY) - self.sum("language_model.rotary_emb", "text_model.rotary_emb")
        return self.sum("vision_tower", "visual", "vision_model", "projector", "connector") - rotary


def shape_of(model: Tiny) -> ModelShape:
    """The shape of a tiny model, read from its config."""
    return ModelShape.from_config(model.model.config.to_dict())


def prompts_of(model: Tiny, *samples: Sample) -> list[PromptSize]:
    """Token counts of these samples; what stands behind their last visual token is text."""
    visual_ids = describe_config(model.model.config).image_token_ids
    found = []
    for sample in samples:
        ids, visual = model.ids(sample), model.visual(sample)
        behind = next((place for place, token in enumerate(reversed(ids)) if token in visual_ids), 0)
        found.append(PromptSize(len(ids) - visual, visual, behind))
    return found
