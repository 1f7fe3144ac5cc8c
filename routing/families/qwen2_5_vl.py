"""Qwen2.5-VL: dynamic resolution, windowed vision tower, M-RoPE."""

from __future__ import annotations

from routing.families.family import Family, image_and_video_tokens

FAMILY = Family(model_types=("qwen2_5_vl",), title="Qwen2.5-VL", visual_tokens=image_and_video_tokens)
