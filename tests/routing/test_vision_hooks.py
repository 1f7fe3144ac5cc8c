"""The vision stage's hooks: what they leave behind, what they hand to the engine, what they refuse."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from routing import ScheduleError, UnsupportedInputError, UnsupportedModelError, VisionStage
from tests.routing.tiny_vision import (
    GRIDS,
    HALF,
    IMAGE,
    START,
    encode,
    hooked,
    llava,
    noise,
    pixels_of,
    qwen,
)


def _insides(model: Any) -> list[tuple[str, list[int], set[str]]]:
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    kinds = [name + suffix for name in hooks for suffix in ("", "_with_kwargs")]
    return [
        (name, [len(getattr(module, kind)) for kind in kinds], set(vars(module)))
        for name, module in model.named_modules()
    ]


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_the_model_is_untouched_afterwards(family: str) -> None:
    """No hook and no attribute stays behind after an error, and the features are the plain ones again."""
    model = llava() if family == "llava" else qwen(family)
    inputs = (noise(1, 3, 24, 24),) if family == "llava" else (pixels_of(GRIDS), GRIDS)
    stage = VisionStage(0.5) if family == "llava" else HALF
    plain, before = model.model.get_image_features(*inputs, return_dict=True).pooler_output, _insides(model)
    features, _ = encode(model, family, stage, *inputs)
    with pytest.raises((ValueError, RuntimeError)), hooked(model, family, stage):
        model.model.get_image_features(inputs[0][..., 1:], *inputs[1:])
    after = model.model.get_image_features(*inputs, return_dict=True).pooler_output
    assert _insides(model) == before
    assert all(map(torch.equal, plain, after))
    assert not all(map(torch.equal, plain, features))


def test_a_keep_ratio_of_one_hooks_nothing() -> None:
    """Keeping all visual tokens leaves the tower alone and still answers what was kept."""
    model = llava()
    before = _insides(model)
    with hooked(model, "llava", VisionStage(1.0)) as collector:
        assert _insides(model) == before
        assert collector.take([36, 0])[0].kept.tolist() == list(range(36))


def test_encoding_again_forgets_the_pictures_before() -> None:
    """Only the pictures encoded last can be taken."""
    model = llava()
    with hooked(model, "llava", VisionStage(0.5)) as collector:
        model.model.get_image_features(noise(2, 3, 24, 24))
        model.model.get_image_features(noise(1, 3, 24, 24))
        assert len(collector.take([36])) == 1
        with pytest.raises(UnsupportedInputError):
            collector.take([36])


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_an_interrupted_encoding_leaves_no_trace_in_the_next(family: str) -> None:
    """Encoding after one that broke off inside the tower gives what it gives on its own."""
    model = llava() if family == "llava" else qwen(family)
    inputs = (noise(1, 3, 24, 24),) if family == "llava" else (pixels_of(GRIDS), GRIDS)
    stage = VisionStage(0.5) if family == "llava" else HALF
    last = model.model.vision_tower.encoder.layers[-1] if family == "llava" else model.model.visual.blocks[-1]
    expected, _ = encode(model, family, stage, *inputs)

    def stop(*_: object) -> None:
        raise InterruptedError

    with hooked(model, family, stage):
        handle = last.register_forward_hook(stop)
        with pytest.raises(InterruptedError):
            model.model.get_image_features(*inputs)
        handle.remove()
        features = model.model.get_image_features(*inputs, return_dict=True).pooler_output
    assert all(map(torch.equal, features, expected))


def test_a_projector_called_on_its_own_is_left_alone() -> None:
    """After an encoding nothing is held back that could change other features."""
    model, patches = llava(), noise(1, 36, 16)
    plain = model.model.multi_modal_projector(patches)
    with hooked(model, "llava", VisionStage(0.5)):
        model.model.get_image_features(noise(1, 3, 24, 24))
        assert torch.equal(model.model.multi_modal_projector(patches), plain)


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_beam_search_encodes_pictures_that_fit_its_repeated_samples(family: str) -> None:
    """After generate() with three beams on two samples, the selections come out for all six rows."""
    model = llava() if family == "llava" else qwen(family)
    sizes = [36, 36] if family == "llava" else [15, 4]
    ids = torch.full((2, 50), 5)
    mask = torch.ones_like(ids)
    for row, size in enumerate(sizes):
        ids[row, -size - 4] = START
        ids[row, -size - 3 : -3] = IMAGE
        mask[row, : 50 - size - 5] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family == "llava":
        inputs["pixel_values"] = noise(2, 3, 24, 24)
    else:
        inputs |= {"pixel_values": pixels_of(GRIDS[:2]), "image_grid_thw": GRIDS[:2]}
        inputs["mm_token_type_ids"] = (ids == IMAGE).int()
    with hooked(model, family, VisionStage(0.5) if family == "llava" else HALF) as collector:
        model.generate(**inputs, num_beams=3, max_new_tokens=2)
        selections = collector.take([size for size in sizes for _ in range(3)])
    assert [len(one.kept) for one in selections] == [size // 2 for size in sizes for _ in range(3)]
    assert selections[0].kept.tolist() == selections[2].kept.tolist()


def test_flop_counters_bill_the_reduction_as_scoring() -> None:
    """FlopCounterMode shows the stage's own arithmetic under a module named Scoring."""
    model = llava()
    with hooked(model, "llava", VisionStage(0.5)), FlopCounterMode(display=False) as counter:
        model.model.get_image_features(noise(1, 3, 24, 24))
    assert sum(counter.get_flop_counts()["Scoring"].values()) > 0


@pytest.mark.parametrize(
    ("family", "build", "stage", "message"),
    [
        ("ovis2", llava, VisionStage(0.5), "towers of llava, vipllava.*ovis2 is not among them: nobody"),
        ("qwen2_5_vl", lambda: qwen("qwen2_5_vl"), VisionStage(0.5), "no CLS token.*column_mean"),
        ("llava", lambda: llava("siglip_vision_model"), VisionStage(0.5), "no CLS token.*column_mean"),
        ("llava", lambda: llava(vision_feature_select_strategy="full"), VisionStage(0.5), "'full'"),
        ("llava", lambda: llava(vision_feature_layer=0), VisionStage(0.5), "vision feature layer 0"),
    ],
)
def test_models_the_stage_cannot_reduce_are_refused(
    family: str, build: Callable[[], Any], stage: VisionStage, message: str
) -> None:
    """The error says what the tower lacks or which families work, and nothing is hooked."""
    model = build()
    before = _insides(model)
    with pytest.raises(UnsupportedModelError, match=message), hooked(model, family, stage):
        pass
    assert _insides(model) == before


def test_an_unknown_scorer_is_refused() -> None:
    """The error names the two scorers there are."""
    with (
        pytest.raises(ScheduleError, match="cls or column_mean, got 'loudness'"),
        hooked(llava(), "llava", VisionStage(0.5, scorer="loudness")),
    ):
        pass


def test_videos_are_refused() -> None:
    """A picture of more than one frame is not what Nuwa defines."""
    model, grids = qwen("qwen2_vl"), torch.tensor([[2, 4, 4]])
    with (
        pytest.raises(UnsupportedInputError, match="not videos"),
        hooked(model, "qwen2_vl", HALF),
    ):
        model.model.get_video_features(pixels_of(grids), grids)
