"""Idefics3 and SmolVLM: tiles separated by text tokens, decoder under `text_model`."""

from __future__ import annotations

from routing.families.family import Family

FAMILY = Family(model_types=("idefics3", "smolvlm"), title="Idefics3, SmolVLM", decoder="text_model")
