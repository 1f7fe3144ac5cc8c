"""Tiny random models with vision towers of several layers, and the vision stage on them without the engine.

Knows how pictures are encoded by the framework; knows neither prompts nor the decoder.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from routing import Schedule, VisionStage, route
from routing.hooks import Hooks
from routing.methods import SELECTIONS
from routing.methods.selection import Choose, Chosen, Need, Seen, Selection, each
from routing.trace import StageTrace
from routing.vision import attach
from routing.vision.collector import VisionCollector, VisionSelection

IMAGE, START = 90, 92
TEXT = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
QWENS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
MERGED = (*QWENS, "glm4v")
GRIDS = torch.tensor([[1, 6, 10], [1, 4, 4], [1, 10, 6]])  # patches: 3x5, 2x2 and 5x3 tokens
HALF = VisionStage(0.5, scorer="column_mean")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Seeded normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _shaken(model: Any) -> Any:
    """Weights large enough that attention is far from uniform."""
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        if weight.ndim > 1 or "embedding" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=generator)
    return model.eval().requires_grad_(False)


def llava(tower: str = "clip_vision_model", attention: str = "sdpa", size: int = 24, **config: Any) -> Any:
    """A LLaVA of six tower layers, with (size / 4) x (size / 4) patches a picture."""
    vision = {
        "model_type": tower,
        "image_size": size,
        "patch_size": 4,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 6,
        "num_attention_heads": 2,
        **({"vision_use_head": False} if tower == "siglip_vision_model" else {"projection_dim": 16}),
    }
    if tower == "siglip_vision_model":
        config = {"vision_feature_select_strategy": "full", **config}
    whole = LlavaConfig(
        text_config={"model_type": "llama", **TEXT},
        vision_config=vision,
        image_token_index=IMAGE,
        attn_implementation=attention,
        **config,
    )
    return _shaken(LlavaForConditionalGeneration(whole))


def qwen(family: str, attention: str = "sdpa", **vision: Any) -> Any:
    """A Qwen or GLM of four tower blocks; the windows of qwen2_5_vl hold 2 x 2 visual tokens."""
    tower = {"depth": 4, "hidden_size": 32, "num_heads": 2, "patch_size": 4, "intermediate_size": 48}
    own: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "qwen2_vl": (Qwen2VLConfig, Qwen2VLForConditionalGeneration, {"embed_dim": 32, "mlp_ratio": 2}),
        "qwen2_5_vl": (
            Qwen2_5_VLConfig,
            Qwen2_5_VLForConditionalGeneration,
            {"out_hidden_size": 32, "window_size": 16, "fullatt_block_indexes": [1, 3]},
        ),
        "qwen3_vl": (
            Qwen3VLConfig,
            Qwen3VLForConditionalGeneration,
            {"out_hidden_size": 32, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        ),
        "glm4v": (Glm4vConfig, Glm4vForConditionalGeneration, {"out_hidden_size": 24, "image_size": 32}),
    }
    config, model, more = own[family]
    rope = {**MROPE, "mrope_interleaved": True} if family == "qwen3_vl" else MROPE
    whole = config(
        text_config={**TEXT, "rope_parameters": rope},
        vision_config={**more, **tower, **vision},
        image_token_id=IMAGE,
        video_token_id=91,
        vision_start_token_id=START,
        vision_end_token_id=93,
        attn_implementation=attention,
    )
    return _shaken(model(whole))


def pixels_of(grids: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Patches of Qwen pictures of these (frames, height, width)."""
    return noise(int(grids.prod(dim=1).sum()), 3 * 2 * 4 * 4, seed=seed)


@contextmanager
def hooked(model: Any, family: str, stage: VisionStage) -> Iterator[VisionCollector]:
    """The vision stage attached to a model, keeping floor(V * keep_ratio) anchors a picture."""
    with Hooks() as hooks:
        yield attach(model.model, family, stage, lambda visual: max(1, int(visual * stage.keep_ratio)), hooks)


def encode(model: Any, family: str, stage: VisionStage, *inputs: Any) -> tuple[list[torch.Tensor], Any]:
    """Features of each picture under the vision stage, and the selection of each picture."""
    with hooked(model, family, stage) as collector:
        features = list(model.model.get_image_features(*inputs, return_dict=True).pooler_output)
        return features, collector.take([len(picture) for picture in features])


@contextmanager
def looking(*needs: Need) -> Iterator[list[Seen]]:
    """While this lasts, a selection "looking" asks for that, keeps the first tokens and notes what it saw."""
    seen: list[Seen] = []

    @each
    def choose(given: Seen, count: int, _stage: VisionStage) -> Chosen:
        seen.append(given)
        return Chosen(torch.arange(count), torch.arange(len(given.features)).flip(0).float())

    own: dict[str, Selection] = SELECTIONS._own  # type: ignore[attr-defined]
    own["looking"] = Selection(frozenset(needs), choose, lambda _sizes, _stage: 0)
    try:
        yield seen
    finally:
        del own["looking"]


def choose_one(choose: Choose, seen: Seen, count: int, stage: VisionStage) -> Chosen:
    """What is chosen of one image alone."""
    (chosen,) = choose([seen], [count], stage)
    return chosen


def ranking(selection: VisionSelection) -> torch.Tensor:
    """The scores of a selection that has some."""
    assert selection.scores is not None
    return selection.scores


def answer(
    model: Any, schedule: Schedule, pixels: torch.Tensor, grids: torch.Tensor
) -> tuple[torch.Tensor, StageTrace]:
    """Four greedy tokens a sample of a Qwen (one image each, left-padded), and its first decision."""
    sizes = (grids.prod(dim=1) // 4).tolist()
    ids = torch.zeros(len(sizes), max(sizes) + 7, dtype=torch.long)
    for row, size in enumerate(sizes):
        ids[row, -size - 7 :] = torch.tensor([7, 8, START, *[IMAGE] * size, 93, 9, 10, 11])[-size - 7 :]
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).long(), "mm_token_type_ids": (ids == IMAGE).int()}
    with route(model, schedule) as trace:
        out = model.generate(**inputs, pixel_values=pixels, image_grid_thw=grids, max_new_tokens=4)
    return out[:, ids.shape[1] :], trace.stages[0]
