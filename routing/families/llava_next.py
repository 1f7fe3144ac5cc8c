"""LLaVA-NeXT: several tiles a picture; newline features stand at image token ids: visual tokens too."""

from __future__ import annotations

from routing.families.family import Family

FAMILY = Family(model_types=("llava_next",), title="LLaVA-NeXT")
