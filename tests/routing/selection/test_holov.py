"""HoloV's choice by its definition, written as loops over strips: no code published a case."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from routing import VisionStage
from routing.methods.holov import choose, variances
from routing.methods.selection import Seen
from tests.routing.tiny_vision import choose_one, noise


def _variance(features: torch.Tensor, strip: list[int], token: int) -> float:
    alike = [
        float(torch.cosine_similarity(features[token], features[other], dim=0))
        for other in strip
        if other != token
    ]
    mean = sum(alike) / max(1, len(alike))
    return sum((one - mean) ** 2 for one in alike) / max(1, len(alike))


def _by_the_text(features: torch.Tensor, attention: list[float], count: int, chunks: int) -> list[int]:
    """Quotas by the strips' mean scores, the leftovers one by one to the best, attention inside."""
    tokens = len(attention)
    length = math.ceil(tokens / chunks)
    strips = [list(range(tokens))[start : start + length] for start in range(0, tokens, length)]
    spread = [_variance(features, strip, token) for strip in strips for token in strip]
    scale = sum(attention) / sum(spread) if sum(spread) else 0.0
    scores = [one + 0.09 * scale * wide for one, wide in zip(attention, spread, strict=True)]
    means = [sum(scores[token] for token in strip) / len(strip) for strip in strips]
    best = sorted(range(len(strips)), key=lambda strip: -means[strip])
    quotas = [math.floor(count * mean / sum(means)) for mean in means]
    taken = [min(quota, len(strip)) for quota, strip in zip(quotas, strips, strict=True)]
    rounds = 1
    while sum(taken) < count:
        for strip in best:
            if sum(taken) < count and taken[strip] < min(len(strips[strip]), quotas[strip] + rounds):
                taken[strip] += 1
        rounds += 1
    kept = [
        token
        for strip, size in zip(strips, taken, strict=True)
        for token in sorted(strip, key=lambda token: -attention[token])[:size]
    ]
    return sorted(kept)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 40).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size - 1))),
    st.sampled_from([1, 3, 4, 16]),
    st.integers(0, 9),
    st.sampled_from([1, 3]),
)
def test_the_choice_is_the_one_of_the_text(
    sizes: tuple[int, int], chunks: int, seed: int, power: int
) -> None:
    """Any number of tokens, any count below it, attention spread evenly or on a few strips."""
    tokens, count = sizes
    features, attention = noise(tokens, 5, seed=seed), noise(tokens, seed=seed + 1).abs() ** power
    stage = VisionStage(0.5, selection="holov", settings={"chunks": chunks})
    chosen = choose_one(choose, Seen(features, attention=attention), count, stage)
    assert chosen.kept.tolist() == _by_the_text(features, attention.tolist(), count, chunks)


def test_a_strip_gives_no_more_than_it_has() -> None:
    """One strip of four has all the attention: its four tokens are kept, and two real ones beside them."""
    attention = torch.tensor([1.0] * 4 + [1e-6, 3e-6, 2e-6, 0, 0, 0, 0, 0])
    stage = VisionStage(0.5, selection="holov", settings={"chunks": 3})
    kept = choose_one(choose, Seen(noise(12, 5), attention=attention), 6, stage).kept.tolist()
    assert kept[:4] == [0, 1, 2, 3]
    assert len(kept) == 6


@pytest.mark.parametrize("tokens", [8, 7, 9])
def test_the_variance_is_that_over_the_others_of_the_strip(tokens: int) -> None:
    """Strips of four in raster order, the last one shorter; a token alone has none."""
    features = noise(tokens, 5)
    strips = [list(range(start, min(start + 4, tokens))) for start in range(0, tokens, 4)]
    truth = [_variance(features, strip, token) for strip in strips for token in strip]
    torch.testing.assert_close(variances(features, 4), torch.tensor(truth))
