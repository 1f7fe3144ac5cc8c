"""LLaVA-1.5 and models of its class: CLIP or SigLIP tower, MLP projector, any Llama-like decoder."""

from __future__ import annotations

from routing.families.family import Family

FAMILY = Family(model_types=("llava", "vipllava"), title="LLaVA-1.5, ViP-LLaVA")
