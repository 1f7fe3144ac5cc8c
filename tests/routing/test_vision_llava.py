"""The vision stage on LLaVA's towers, against what an eager model returns when asked for everything."""

import pytest
import torch

from routing import VisionStage
from routing.methods.nuwa import PROTECT, RADIUS, aggregate, diagonal
from tests.routing.tiny_vision import HALF, encode, llava, noise, ranking


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("selected", [-2, -1, 3])
def test_cls_scores_equal_the_attentions_an_eager_model_returns(attention: str, selected: int) -> None:
    """The one row computed beside the model is `attentions[layer][:, :, 0, 1:]` summed over heads."""
    pixels = noise(2, 3, 24, 24)
    tower = llava(attention="eager").model.vision_tower
    layer = selected - 1 if selected > 0 else selected
    truth = tower(pixels, output_attentions=True).attentions[layer][:, :, 0, 1:].sum(dim=1)
    model = llava(attention=attention, vision_feature_layer=selected)
    _, selections = encode(model, "llava", VisionStage(0.5), pixels)
    torch.testing.assert_close(torch.stack([ranking(one) for one in selections]), truth)


@pytest.mark.parametrize(("tower", "class_tokens"), [("clip_vision_model", 1), ("siglip_vision_model", 0)])
def test_column_scores_equal_the_attentions_an_eager_model_returns(tower: str, class_tokens: int) -> None:
    """CLIP and SigLIP towers under scorer column_mean: sum over queries of the head mean, patches only."""
    pixels = noise(2, 3, 24, 24)
    attention = llava(tower, "eager").model.vision_tower(pixels, output_attentions=True).attentions[-2]
    truth = attention.mean(dim=1).sum(dim=1)[:, class_tokens:]
    _, selections = encode(llava(tower), "llava", HALF, pixels)
    torch.testing.assert_close(torch.stack([ranking(one) for one in selections]), truth)


@pytest.mark.parametrize(
    ("tower", "scorer", "size"),
    [
        ("clip_vision_model", "cls", 24),
        ("clip_vision_model", "cls", 20),
        ("siglip_vision_model", "column_mean", 20),
    ],
)
def test_llavas_anchors_are_aggregated_before_the_projector(tower: str, scorer: str, size: int) -> None:
    """Anchors are projected aggregates, alike by the mean of hidden states 4 to 6 of 6; others stay plain."""
    model, pixels, stage = llava(tower, size=size), noise(2, 3, size, size), VisionStage(0.4, scorer=scorer)
    features, selections = encode(model, "llava", stage, pixels)
    states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    grid, skip = (size // 4, size // 4), int(tower == "clip_vision_model")
    for picture, selection in enumerate(selections):
        patches = states[-2][picture, skip:].clone()
        alike, tau = torch.stack(states[4:])[:, picture, skip:].mean(dim=0), RADIUS[scorer] * diagonal(grid)
        given = (patches, alike, ranking(selection), selection.kept, grid, tau, PROTECT[scorer])
        patches[selection.kept] = aggregate(*given, overwrite_self=scorer == "cls")
        assert len(selection.kept) == int(0.4 * grid[0] * grid[1])
        torch.testing.assert_close(features[picture], model.model.multi_modal_projector(patches))


def test_a_picture_gets_in_a_batch_what_it_gets_alone() -> None:
    """LLaVA: same anchors, same features, whichever pictures are encoded beside it."""
    model, pixels = llava(), noise(3, 3, 24, 24)
    features, selections = encode(model, "llava", VisionStage(0.3), pixels)
    for number in range(3):
        alone, (own,) = encode(model, "llava", VisionStage(0.3), pixels[number : number + 1])
        assert own.kept.tolist() == selections[number].kept.tolist()
        torch.testing.assert_close(alone[0], features[number])


def test_radius_and_protection_can_be_set() -> None:
    """With every anchor protected, or nothing within reach, the features are those of the plain model."""
    model, pixels = llava(), noise(1, 3, 24, 24)
    plain = model.model.get_image_features(pixels, return_dict=True).pooler_output[0]
    for stage in (VisionStage(0.5, protect=0.0), VisionStage(0.5, tau=0.5)):
        torch.testing.assert_close(encode(model, "llava", stage, pixels)[0][0], plain)
    assert not torch.allclose(encode(model, "llava", VisionStage(0.5), pixels)[0][0], plain)
