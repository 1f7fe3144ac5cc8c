"""CDPruner's choice, against the published code and by its definition."""

import math
from itertools import pairwise

import torch

from routing import VisionStage
from routing.methods.cdpruner import choose, most_different, relevance
from routing.methods.selection import Seen
from tests.routing.selection.published import CASES, Published, cases
from tests.routing.tiny_vision import choose_one, noise

STAGE = VisionStage(0.5, selection="cdpruner")


@cases("cdpruner")
def test_the_published_choice_is_reproduced(case: Published) -> None:
    """The tokens that the released code keeps, as far as the kernel tells tokens apart.

    One case asks for 40 tokens of 32 numbers each: 32 of them use the kernel up, and all 32 are among the
    published ones. The release turns the sign of likeness, so its image features are negated.
    """
    count, width = case.params["keep"], case.params["width"]
    weights = relevance(-case.given["image_embeds"], case.given["text_embeds"])
    ((order, _),) = most_different([case.given["projected"]], [weights], [count])
    published = set(case.answer["kept"].tolist())
    assert set(order[:width].tolist()) <= published
    assert count > width or set(order.tolist()) == published


def test_beyond_the_rank_the_release_takes_tokens_twice_and_ours_the_most_relevant() -> None:
    """Of 40 tokens that a published case asks for, at rank 32, the release has 38, tokens 0 and 1 among them.

    Its greedy loop, written from the definition, goes on by rounding until a gain is negative; from there all
    gains are no numbers, of which `argmax` returns the first that is not ruled out. So it is no choice of 40.
    Ours keeps 40, the last eight of them those of the greatest relevance left.
    """
    (case,) = (one for one in map(Published, CASES) if one.name == "cdpruner.3")
    features, count, rank = case.given["projected"], case.params["keep"], case.params["width"]
    weights = relevance(-case.given["image_embeds"], case.given["text_embeds"])
    unit = features / features.norm(dim=1, keepdim=True)
    kernel = weights[:, None] * (unit @ unit.T) * weights
    gains, taken, rows = kernel.diagonal().clone(), [], []
    for _ in range(count):
        newest = int(gains.argmax())
        row = kernel[newest] - sum((row[newest] * row for row in rows), torch.zeros(len(kernel)))
        rows.append(row / gains[newest].sqrt())
        gains = gains - rows[-1] ** 2
        gains[newest] = -math.inf
        taken.append(newest)
    assert set(taken[-2:]) == {0, 1}
    assert len(set(taken)) < count
    published = case.answer["kept"].tolist()
    assert len(set(published)) == 38
    assert {*taken[:rank], 0, 1} <= set(published)

    ((order, _),) = most_different([features], [weights], [count])
    assert order[:rank].tolist() == taken[:rank]
    left = [token for token in range(len(features)) if token not in taken[:rank]]
    assert order[rank:].tolist() == sorted(left, key=lambda token: -float(weights[token]))[: count - rank]


def test_each_token_adds_most_to_the_determinant() -> None:
    """By the definition: of all tokens left, the one with which the determinant is largest."""
    features, weights = noise(14, 9).double(), noise(14, seed=1).double().abs() + 0.1
    unit = features / features.norm(dim=1, keepdim=True)
    kernel = weights[:, None] * (unit @ unit.T) * weights
    chosen: list[int] = []
    for _ in range(6):
        left = [token for token in range(14) if token not in chosen]
        volumes = [float(torch.linalg.det(kernel[[*chosen, t]][:, [*chosen, t]])) for t in left]
        chosen.append(left[volumes.index(max(volumes))])
    ((order, gains),) = most_different([features.float()], [weights.float()], [6])
    assert order.tolist() == chosen
    assert [token for token, gain in enumerate(gains.tolist()) if gain == -math.inf] == sorted(chosen)


def test_relevance_is_how_like_the_texts_a_token_is_between_0_and_1() -> None:
    """By the definition, over the tokens of one sample; 1 for all without text or among equal tokens."""
    images, texts = noise(7, 4), noise(3, 4, seed=1)
    likeness = [
        sum(float(torch.cosine_similarity(image, text, dim=0)) for text in texts) / 3 for image in images
    ]
    low, high = min(likeness), max(likeness)
    truth = torch.tensor([(one - low + 1e-6) / (high - low) for one in likeness])
    torch.testing.assert_close(relevance(images, texts), truth)
    assert relevance(images, texts[:0]).tolist() == [1.0] * 7
    assert relevance(torch.ones(4, 4), texts).tolist() == [1.0] * 4


def test_the_text_decides_beside_the_features() -> None:
    """The first token is the one most like the text; all chosen stand above the others in the scores."""
    features, text = noise(16, 8), noise(2, 8, seed=1)
    chosen = choose_one(choose, Seen(features, text=text), 5, STAGE)
    ranked = chosen.scores.argsort(descending=True).tolist()
    assert ranked[0] == int(relevance(features, text).argmax())
    assert sorted(ranked[:5]) == chosen.kept.tolist()
    assert choose_one(choose, Seen(features, text=-text), 5, STAGE).kept.tolist() != chosen.kept.tolist()
    assert all(later > earlier for earlier, later in pairwise(chosen.kept.tolist()))


def test_equal_tokens_are_never_chosen_twice() -> None:
    """Of six equal tokens, whose kernel has rank 1, four different ones are kept."""
    chosen = choose_one(choose, Seen(torch.ones(6, 4), text=noise(2, 4)), 4, STAGE)
    assert len(set(chosen.kept.tolist())) == 4
    assert chosen.scores.isfinite().all()
