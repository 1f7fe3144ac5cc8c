"""VisionZip's choice and merging, against the published code and by its definition."""

import torch

from routing import VisionStage
from routing.methods.selection import Seen
from routing.methods.visionzip import choose, fold
from tests.routing.selection.published import Published, cases
from tests.routing.tiny_vision import choose_one, noise


@cases("visionzip")
def test_the_published_features_are_reproduced(case: Published) -> None:
    """Fed with the CLS token as one more token that is always kept, the release's tokens in its order."""
    attention = case.given["cls_attention"].sum(dim=0)
    attention[0] = attention.max() + 1
    dominant, centred = case.params["dominant_with_cls"], case.params["contextual"]
    count = dominant + centred
    stage = VisionStage(0.5, selection="visionzip", settings={"contextual": centred / count})
    chosen = choose_one(
        choose, Seen(case.given["hidden"], attention=attention, keys=case.given["key_mean"]), count, stage
    )
    assert chosen.features is not None
    first = case.answer["dominant_columns"].tolist()
    centres = [index for index in chosen.kept.tolist() if index not in first]
    assert len(chosen.kept) == count
    assert set(first) < set(chosen.kept.tolist())
    torch.testing.assert_close(
        chosen.features[first + centres], case.answer["features"], atol=1e-5, rtol=1e-5
    )


def test_a_centre_is_itself_plus_the_mean_of_its_members() -> None:
    """By the definition, as a loop over the tokens; a centre without members stays as it is."""
    features, keys = noise(13, 6), noise(13, 4, seed=1)
    keys[8] = -keys[4]  # a centre that nothing is like
    keys[5:8] = keys[4]
    places = [0, 4, 8]
    members: dict[int, list[int]] = {place: [] for place in places}
    for token in range(13):
        if token not in places:
            alike = [float(torch.cosine_similarity(keys[token], keys[place], dim=0)) for place in places]
            members[places[alike.index(max(alike))]].append(token)
    truth = [
        features[place] + (features[inside].mean(dim=0) if inside else 0) for place, inside in members.items()
    ]
    torch.testing.assert_close(fold(features, keys, torch.tensor(places)), torch.stack(truth))
    alone = fold(features[:2], keys[:2], torch.tensor([0, 1]))
    assert torch.equal(alone, features[:2])


def test_what_was_not_chosen_keeps_its_features() -> None:
    """Features change at the places of the centres alone: 10 of 32 tokens, the published share."""
    seen = Seen(noise(64, 6), attention=noise(64, seed=1).abs(), keys=noise(64, 4, seed=2))
    chosen = choose_one(choose, seen, 32, VisionStage(0.5, selection="visionzip"))
    assert chosen.features is not None
    changed = (chosen.features != seen.features).any(dim=1).nonzero().flatten()
    assert len(changed) == 5
    assert set(changed.tolist()) < set(chosen.kept.tolist())
