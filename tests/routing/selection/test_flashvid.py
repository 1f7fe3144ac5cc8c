"""FlashVID's choice on one frame, against the published code and by its definition; and its late drop."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from routing import VisionStage, solve
from routing.methods.diversity import dpc_knn
from routing.methods.flashvid import choose
from routing.methods.selection import Seen
from tests.routing.selection.published import CASES, Published, cases
from tests.routing.tiny_vision import choose_one, noise


@cases("flashvid_adts")
def test_the_published_diverse_tokens_are_found(case: Published) -> None:
    """With alpha = 1 nothing but these is kept: the tokens of the released code, frame by frame."""
    stage = VisionStage(0.5, selection="flashvid", settings={"alpha": 1})
    for frame, features in enumerate(case.given["features"]):
        seen = Seen(features, attention=case.given["attention"][frame])
        chosen = choose_one(choose, seen, case.params["keep"], stage)
        assert chosen.kept.tolist() == case.answer["kept"][frame].tolist()


@cases("dpc_knn")
def test_the_published_clusters_are_found(case: Published) -> None:
    """Centres in the order of their scores, and the cluster of every token."""
    for number, features in enumerate(case.given["features"]):
        centres, clusters = dpc_knn(features, case.params["clusters"])
        assert centres.tolist() == case.answer["centres"][number].tolist()
        assert clusters.tolist() == case.answer["cluster"][number].tolist()


def _frames_alone() -> Iterator[Any]:
    """Frames of the published clips that took nothing from others: all there is of a segment, or unmerged."""
    for case in (Published(case) for case in CASES if case["method"] == "flashvid"):
        lengths, merged = case.answer["segment_lengths"].tolist(), case.params["merged_per_frame"]
        if case.params.get("token_selection_method", "attn_div") == "attn_div":
            segments = [length for length in lengths for _ in range(length)]
            for frame, length in enumerate(segments):
                if length == 1 or not merged:
                    yield pytest.param(case, frame, id=f"{case.name}, frame {frame}")


@pytest.mark.parametrize(("case", "frame"), list(_frames_alone()))
def test_a_frame_alone_is_reduced_as_published(case: Published, frame: int) -> None:
    """The tokens and the features that the released code leaves of it."""
    found, size = case.params["adts_per_frame"], case.params["tokens"]
    count = found + case.params["merged_per_frame"]
    stage = VisionStage(0.5, selection="flashvid", settings={"alpha": found / count})
    seen = Seen(case.given["features"][frame], attention=case.given["attention"][frame])
    chosen = choose_one(choose, seen, count, stage)
    inside = case.answer["global_indices"] // size == frame
    assert chosen.kept.tolist() == (case.answer["global_indices"][inside] % size).tolist()
    assert chosen.features is not None
    merged = chosen.features[chosen.kept]
    torch.testing.assert_close(merged, case.answer["features"][inside], atol=1e-5, rtol=1e-5)


def test_clusters_are_those_of_the_definition() -> None:
    """As loops: density, distance to the nearest denser token, the nearest centre; barred ones are none."""
    features, barred = noise(15, 4), [2, 7]
    squares = [[float(((one - other) ** 2).sum()) / 4 for other in features] for one in features]
    density = [float(torch.tensor(-sum(sorted(row)[:5]) / 5).exp()) for row in squares]
    furthest = max(map(max, squares)) ** 0.5
    peaks = []
    for token, row in enumerate(squares):
        denser = [row[other] ** 0.5 for other in range(15) if density[other] > density[token]]
        peaks.append(density[token] * min(denser, default=furthest))
    truth = sorted((token for token in range(15) if token not in barred), key=lambda token: -peaks[token])[:5]
    centres, clusters = dpc_knn(features, 5, torch.tensor(barred))
    assert centres.tolist() == truth
    for token, cluster in enumerate(clusters.tolist()):
        nearest = min(truth, key=lambda centre: squares[token][centre])
        assert truth[cluster] == (token if token in truth else nearest)


def test_equal_tokens_are_kept_once_each() -> None:
    """Of twelve equal tokens ten different ones, seven found and three centres."""
    seen = Seen(torch.ones(12, 4), attention=torch.ones(12))
    chosen = choose_one(choose, seen, 10, VisionStage(0.5, selection="flashvid"))
    assert len(set(chosen.kept.tolist())) == 10
    assert chosen.features is not None
    torch.testing.assert_close(chosen.features, seen.features)


@pytest.mark.parametrize(("layers", "drop"), [(28, 20), (32, 23)])
@pytest.mark.parametrize("action", ["prune", "reroute"])
def test_the_expansion_is_solved_for_any_depth(action: str, layers: int, drop: int) -> None:
    """At 28 layers it is the published 1.25; the average is the budget there and elsewhere."""
    schedule = solve("flashvid", action=action, ratio=0.8, layers=layers)
    (_, first), *later = schedule.entries
    assert first == pytest.approx(0.2 * layers / (drop + (layers - drop) * 0.3))
    assert layers != 28 or first == pytest.approx(0.2 * 1.25)
    assert [keep for _, keep in later] == [pytest.approx(0.3 * first)] * (1 if action == "prune" else 3)
    assert later[0][0] == drop
    assert schedule.average_tokens(100_000, layers) == pytest.approx(20_000, abs=1)
