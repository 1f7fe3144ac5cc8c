"""The pure part of the vision stage: choosing anchors, folding the rest in, dealing pictures to samples."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from routing import UnsupportedInputError
from routing.methods import SELECTIONS
from routing.methods.nuwa import (
    PROTECT,
    RADIUS,
    aggregate,
    aggregation_weights,
    diagonal,
    select_anchors,
)
from routing.methods.selection import Seen
from routing.schedule import VisionStage
from routing.vision.attention import attention_received, cls_attention, square_means, window_order
from routing.vision.collector import Encoded, VisionCollector

PARITY = Path(__file__).parent.parent / "fixtures" / "parity" / "nuwa"
PUBLISHED = json.loads((PARITY / "stage1.json").read_text())
NUWA = SELECTIONS["anchors"]
CASES = [(case["budget"], case["stage1_tokens"]) for case in PUBLISHED["cases"]]


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@st.composite
def pictures(draw: st.DrawFn) -> tuple[torch.Tensor, tuple[int, int], int]:
    """Scores with many ties, their grid, and how many anchors to keep."""
    grid = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    cells = grid[0] * grid[1]
    values = draw(st.lists(st.integers(0, 9), min_size=cells, max_size=cells))
    return torch.tensor(values, dtype=torch.float32), grid, draw(st.integers(1, cells))


@pytest.mark.parametrize(("budget", "anchors"), CASES)
def test_nuwas_published_first_stage_is_reproduced(budget: int, anchors: int) -> None:
    """Kept indices equal the release's exactly, and its aggregated tokens to 1e-5."""
    truth = load_file(PARITY / "stage1.safetensors")
    scores, features = truth["cls_attention"][0].sum(dim=0), truth["select_hidden"][0]
    kept = select_anchors(scores, (24, 24), anchors)
    assert kept.tolist() == truth[f"kept_{budget}"].flatten().tolist()
    tau, protect = RADIUS["cls"] * diagonal((24, 24)), PROTECT["cls"]
    given_ = (features, truth["similarity_hidden"][0], scores, kept, (24, 24), tau, protect)
    merged = aggregate(*given_, overwrite_self=True)
    torch.testing.assert_close(merged, truth[f"tokens_{budget}"].view(anchors, -1), atol=1e-5, rtol=0)


def _anchors_by_hand(scores: list[float], grid: tuple[int, int], count: int) -> list[int]:
    regions: dict[tuple[int, int], list[int]] = {}
    for cell in range(len(scores)):
        regions.setdefault((cell // grid[1] // 2, cell % grid[1] // 2), []).append(cell)
    top_n = min(4, math.ceil(count / len(regions)))

    def best(cells: list[int]) -> list[int]:
        return sorted(cells, key=lambda cell: (-scores[cell], cell))

    candidates = [cell for cells in regions.values() for cell in best(cells)[:top_n]]
    others = [cell for cell in range(len(scores)) if cell not in candidates]
    return sorted((best(candidates) + best(others))[:count])


@settings(deadline=None, max_examples=200)
@given(pictures())
def test_anchors_are_the_best_of_their_regions_then_the_best_overall(
    picture: tuple[torch.Tensor, tuple[int, int], int],
) -> None:
    """On any grid, odd sides and ties included, the anchors are those of a plain loop: `count`, sorted."""
    scores, grid, count = picture
    anchors = select_anchors(scores, grid, count)
    assert anchors.tolist() == _anchors_by_hand(scores.tolist(), grid, count)
    assert len(set(anchors.tolist())) == count


def test_the_last_row_and_column_of_an_odd_grid_can_be_chosen() -> None:
    """A bright corner cell of a 5x5 grid becomes an anchor."""
    scores = torch.zeros(25)
    scores[24] = 1.0
    assert 24 in select_anchors(scores, (5, 5), 1).tolist()


def test_one_bright_region_cannot_take_all_anchors() -> None:
    """Four anchors on a 4x4 grid come from four regions even when one region holds the four best scores."""
    scores = torch.arange(16.0)
    scores[[0, 1, 4, 5]] += 100
    assert select_anchors(scores, (4, 4), 4).tolist() == [5, 7, 13, 15]


def _weights_by_hand(
    similarity: torch.Tensor, anchors: list[int], protected: set[int], grid: tuple[int, int], tau: float
) -> torch.Tensor:
    rows = []
    for a in anchors:
        row = []
        for q in range(grid[0] * grid[1]):
            apart = math.dist(divmod(a, grid[1]), divmod(q, grid[1]))
            alike = torch.nn.functional.cosine_similarity(similarity[a], similarity[q], dim=0).item()
            row.append(0.0 if a in protected else max(0.0, alike) * max(0.0, 1 - apart / tau))
        row[a] = 1.0
        rows.append([weight / (sum(row) + 1e-8) for weight in row])
    return torch.tensor(rows)


def test_weights_follow_the_formula_with_and_without_the_overwritten_self_term() -> None:
    """Weights of a 3x5 picture equal a plain loop over anchors and tokens, in both published variants."""
    similarity, scores, anchors = _noise(15, 4), torch.arange(15.0), [1, 4, 8, 14]
    given_ = (similarity, scores, torch.tensor(anchors), (3, 5), 2.5, 0.5)
    expected = _weights_by_hand(similarity, anchors, {8, 14}, (3, 5), 2.5)
    torch.testing.assert_close(aggregation_weights(*given_, overwrite_self=False), expected)
    for row, anchor in enumerate(anchors):
        expected[row, anchor] = 1.0
    torch.testing.assert_close(aggregation_weights(*given_, overwrite_self=True), expected)


@settings(deadline=None, max_examples=60)
@given(pictures(), st.floats(0, 1), st.floats(0.3, 8), st.booleans())
def test_protected_anchors_stay_and_weights_add_up(
    picture: tuple[torch.Tensor, tuple[int, int], int], protect: float, tau: float, overwrite: bool
) -> None:
    """Anchors at or above the quantile keep their features; rows weigh 1, or up to 2 if self is rewritten."""
    scores, grid, count = picture
    anchors = select_anchors(scores, grid, count)
    similarity, features = _noise(len(scores), 3, seed=1), _noise(len(scores), 5, seed=2)
    merged = aggregate(features, similarity, scores, anchors, grid, tau, protect, overwrite)
    above = scores[anchors] >= torch.quantile(scores[anchors], protect)
    assert torch.equal(merged[above], features[anchors[above]])
    total = aggregation_weights(similarity, scores, anchors, grid, tau, protect, overwrite).sum(dim=1)
    assert ((total >= 1 - 1e-5) & (total <= (2 if overwrite else 1 + 1e-5))).all()


def test_features_keep_their_dtype() -> None:
    """A bfloat16 tower gets bfloat16 anchors."""
    features = _noise(4, 3).bfloat16()
    merged = aggregate(features, features, torch.arange(4.0), torch.tensor([0, 3]), (2, 2), 2.0, 1.0, True)
    assert merged.dtype == torch.bfloat16


def test_attention_received_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Column sums in blocks of 3 query rows equal the sums of the whole head-mean attention matrix."""
    monkeypatch.setattr("routing.vision.attention.QUERY_BLOCK", 3)
    query, key = _noise(10, 2, 4, seed=1), _noise(10, 2, 4, seed=2)
    logits = torch.einsum("qhd,khd->hqk", query, key) * 0.5
    expected = logits.softmax(dim=-1).mean(dim=0).sum(dim=0)
    torch.testing.assert_close(attention_received(query, key, 0.5), expected)


def test_padding_neither_gives_nor_receives_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 4 of 10 tokens padding, in blocks of 3: what the others receive among themselves, and 0."""
    monkeypatch.setattr("routing.vision.attention.QUERY_BLOCK", 3)
    query, key, real = _noise(10, 2, 4, seed=1), _noise(10, 2, 4, seed=2), torch.arange(10) % 5 < 3
    expected = torch.zeros(10)
    expected[real] = attention_received(query[real], key[real], 0.5)
    torch.testing.assert_close(attention_received(query, key, 0.5, real), expected)


def test_squares_of_patches_are_averaged_in_raster_order() -> None:
    """Of 5x4 patches in squares of 2 the last row is cut: by a plain loop, of numbers and of vectors."""
    patches = torch.arange(40.0).view(20, 2)
    squares = [(row * 8 + column * 2, row * 8 + column * 2 + 4) for row in range(2) for column in range(2)]
    expected = torch.stack([patches[[a, a + 1, b, b + 1]].mean(dim=0) for a, b in squares])
    torch.testing.assert_close(square_means(patches, (5, 4), 2), expected)
    torch.testing.assert_close(square_means(patches[:, 0], (5, 4), 2), expected[:, 0])


def test_the_cls_row_is_summed_over_heads_and_leaves_the_cls_key_out() -> None:
    """CLS scores equal the first row of the whole attention, without its first column."""
    query, key = _noise(7, 3, 4, seed=1), _noise(7, 3, 4, seed=2)
    attention = (torch.einsum("qhd,khd->hqk", query, key) * 0.5).softmax(dim=-1)
    torch.testing.assert_close(cls_attention(query, key, 0.5), attention[:, 0, 1:].sum(dim=0))


def test_window_order_lists_windows_one_after_another() -> None:
    """A 3x3 picture in windows of 2 and a 1x2 picture behind it, written out by hand."""
    assert window_order([(3, 3), (1, 2)], 2).tolist() == [0, 1, 3, 4, 2, 5, 6, 7, 8, 9, 10]


def _collector(*grids: tuple[int, int], ratio: float = 0.5) -> VisionCollector:
    collector = VisionCollector(VisionStage(ratio), NUWA, lambda visual: max(1, int(visual * ratio)))
    collector.begin()
    for number, (height, width) in enumerate(grids):
        features = _noise(height * width, 4, seed=number)
        scores = _noise(height * width, seed=50 + number).exp()
        collector.reduce([Encoded(Seen(features, (height, width), attention=scores, states=features))])
    return collector


def test_pictures_are_dealt_to_the_samples_that_show_them() -> None:
    """Samples of two pictures, none and one get indices counted through all their own visual tokens."""
    one, two, three = ((2, 3), (4, 4), (3, 3))
    alone = [_collector(one, two, three).take([6, 16, 9])[place] for place in range(3)]
    together = _collector(one, two, three).take([22, 0, 9])
    assert together[0].kept.tolist() == alone[0].kept.tolist() + (alone[1].kept + 6).tolist()
    assert together[1].kept.tolist() == []
    assert together[2].kept.tolist() == alone[2].kept.tolist()
    assert together[0].scores is not None
    assert torch.equal(together[0].scores[6:], alone[1].scores)


def test_beams_share_the_pictures_encoded_once() -> None:
    """Each sample repeated three times side by side gets its own pictures three times."""
    plain = _collector((2, 3), (4, 4)).take([6, 16])
    beams = _collector((2, 3), (4, 4)).take([6, 6, 6, 16, 16, 16])
    assert [b.kept.tolist() for b in beams] == [plain[i].kept.tolist() for i in (0, 0, 0, 1, 1, 1)]


@pytest.mark.parametrize("asked", [[6], [16, 6], [6, 16, 1], [11, 11], [6, 16, 6, 16], [44]])
def test_pictures_that_do_not_fit_the_prompt_are_refused(asked: list[int]) -> None:
    """Wrong counts, a wrong order or a wrong repetition raise an error that names both sides."""
    with pytest.raises(UnsupportedInputError, match=r"\[6, 16\] visual tokens.*hold \["):
        _collector((2, 3), (4, 4)).take(asked)


def test_pictures_are_forgotten_once_taken() -> None:
    """A second prompt cannot be given the anchors of the first one's pictures."""
    collector = _collector((2, 3))
    collector.take([6])
    with pytest.raises(UnsupportedInputError):
        collector.take([6])


def test_a_text_only_prompt_needs_no_picture() -> None:
    """Samples without visual tokens get empty selections whatever was encoded."""
    assert [selection.kept.tolist() for selection in _collector((2, 3)).take([0, 0])] == [[], []]


def test_keeping_everything_changes_nothing_and_keeps_all() -> None:
    """Where the count is the whole picture the very same features come back."""
    collector, features = VisionCollector(VisionStage(0.9), NUWA, lambda visual: visual), _noise(6, 4)
    (same,) = collector.reduce([Encoded(Seen(features, (2, 3), attention=torch.rand(6)))])
    assert same is features
    assert collector.take([6])[0].kept.tolist() == list(range(6))
