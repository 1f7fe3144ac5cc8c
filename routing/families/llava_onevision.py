"""LLaVA-OneVision: tiles with newline features, and videos under a token id of their own."""

from __future__ import annotations

from routing.families.family import Family, image_and_video_tokens

FAMILY = Family(
    model_types=("llava_onevision",), title="LLaVA-OneVision", visual_tokens=image_and_video_tokens
)
