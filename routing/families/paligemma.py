"""PaliGemma: image and prompt attend to each other both ways, so masks are gathered, never dropped."""

from __future__ import annotations

from routing.families.family import Family

FAMILY = Family(model_types=("paligemma",), title="PaliGemma", bidirectional=True)
