"""InternVL: tiles reduced by pixel shuffle, all marked by one context token."""

from __future__ import annotations

from routing.families.family import Family

FAMILY = Family(model_types=("internvl",), title="InternVL 2.5 / 3")
