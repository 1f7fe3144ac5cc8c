"""All images of an encoding chosen at once: as each of them alone, in shared steps and bounded memory."""

import pytest
import torch

from routing import VisionStage
from routing.methods import METHODS, SELECTIONS
from routing.methods import selection as selections
from routing.methods.selection import Seen
from routing.vision.collector import Encoded, VisionCollector
from tests.routing.selection.watching import Kernels
from tests.routing.tiny_vision import choose_one, noise

CHOOSING = [name for method in METHODS.values() for name in method.selections]
GREEDY: dict[str, dict[str, float]] = {
    "divprune": {},
    "cdpruner": {},
    "vispruner": {},
    "flashvid": {"alpha": 1},
}
GRIDS = [(3, 4), (6, 6), (2, 1), (7, 9), (5, 5), (6, 6)]


def _seen(grid: tuple[int, int], seed: int) -> Seen:
    """Noise in clusters, everything that a selection may ask for; two tokens in three of each have a twin."""
    tokens = grid[0] * grid[1]
    features = noise(tokens, 8, seed=seed).repeat_interleave(2, dim=0)[:tokens]
    return Seen(
        features + 0.01 * noise(tokens, 8, seed=seed + 1) * (torch.arange(tokens) % 3 > 0)[:, None],
        grid,
        attention=noise(tokens, seed=seed + 2).exp(),
        received=noise(tokens, seed=seed + 3).exp(),
        shallow=noise(tokens, seed=seed + 4).exp(),
        keys=noise(tokens, 4, seed=seed + 5),
        states=noise(tokens, 8, seed=seed + 6),
        text=noise(seed % 4, 8, seed=seed + 7),
    )


SEEN = [_seen(grid, 10 * number) for number, grid in enumerate(GRIDS)]


@pytest.mark.parametrize("most", [1, 3000, selections.MOST_PAIRS])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("name", CHOOSING)
def test_a_batch_chooses_what_each_image_gets_alone(
    name: str, ratio: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any sizes and in parts of any size: the same tokens to the index; scores and features to 1e-6."""
    monkeypatch.setattr(selections, "MOST_PAIRS", most)
    choose, stage = SELECTIONS[name].choose, VisionStage(0.5, selection=name)
    counts = [max(1, int(ratio * len(one.features))) for one in SEEN]
    together = choose(SEEN, counts, stage)
    for seen, count, found in zip(SEEN, counts, together, strict=True):
        alone = choose_one(choose, seen, count, stage)
        assert found.kept.tolist() == alone.kept.tolist()
        assert len(found.kept) == count
        torch.testing.assert_close(found.scores, alone.scores, atol=1e-6, rtol=1e-6)
        assert (found.features is None) == (alone.features is None)
        if found.features is not None and alone.features is not None:
            torch.testing.assert_close(found.features, alone.features, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", CHOOSING)
def test_counts_may_rise_where_sizes_fall(name: str) -> None:
    """The largest image keeps least: still each one its own tokens."""
    choose, stage = SELECTIONS[name].choose, VisionStage(0.5, selection=name)
    counts = [11, 9, 1, 2, 24, 30]
    for seen, count, found in zip(SEEN, counts, choose(SEEN, counts, stage), strict=True):
        assert found.kept.tolist() == choose_one(choose, seen, count, stage).kept.tolist()


def _kernels(name: str, images: int) -> Kernels:
    """Of choosing half of the 144 tokens of so many images, without FlashVID's clusters."""
    seen = [_seen((12, 12), 10 * number) for number in range(images)]
    with Kernels() as watch:
        SELECTIONS[name].choose(seen, [72] * images, VisionStage(0.5, selection=name, settings=GREEDY[name]))
    return watch


@pytest.mark.parametrize("name", GREEDY)
def test_greedy_steps_are_shared(name: str) -> None:
    """Eight images take less than twice the operators of two; one after another it would be four times."""
    assert _kernels(name, 8).ran < 2 * _kernels(name, 2).ran


@pytest.mark.parametrize("name", GREEDY)
def test_memory_is_that_of_the_pairs_allowed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor has more numbers than MOST_PAIRS, or than one image has pairs where that is more."""
    for most, largest in ((3 * 144**2, 3 * 144**2), (1, 144**2)):
        monkeypatch.setattr(selections, "MOST_PAIRS", most)
        assert _kernels(name, 8).largest <= largest


def test_features_come_back_in_the_order_of_the_images() -> None:
    """The collector chooses of those that lose tokens, and hands the others back as they are."""
    stage = VisionStage(0.5, selection="visionzip")
    collector = VisionCollector(
        stage, SELECTIONS["visionzip"], lambda visual: visual if visual == 2 else visual // 2
    )
    collector.begin()
    features = collector.reduce([Encoded(one) for one in SEEN])
    assert features[2] is SEEN[2].features
    kept = collector.take([len(one.features) for one in SEEN])
    for seen, found, own in zip(SEEN, features, kept, strict=True):
        if len(seen.features) > 2:
            alone = choose_one(SELECTIONS["visionzip"].choose, seen, len(seen.features) // 2, stage)
            assert own.kept.tolist() == alone.kept.tolist()
            torch.testing.assert_close(found, alone.features)
