"""GLM-4.1V / GLM-4.5V: partial rotary embeddings; videos use the image token too."""

from __future__ import annotations

from routing.families.family import Family, image_and_video_tokens

FAMILY = Family(model_types=("glm4v", "glm46v"), title="GLM-4.1V", visual_tokens=image_and_video_tokens)
