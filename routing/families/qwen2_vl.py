"""Qwen2-VL: dynamic resolution, 2x2 merged patches, M-RoPE."""

from __future__ import annotations

from routing.families.family import Family, image_and_video_tokens

FAMILY = Family(model_types=("qwen2_vl",), title="Qwen2-VL", visual_tokens=image_and_video_tokens)
