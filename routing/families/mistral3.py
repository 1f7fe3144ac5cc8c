"""Mistral Small 3 and Pixtral-like models: row breaks and image ends are text tokens."""

from __future__ import annotations

from routing.families.family import Family

FAMILY = Family(model_types=("mistral3",), title="Mistral 3, Pixtral")
