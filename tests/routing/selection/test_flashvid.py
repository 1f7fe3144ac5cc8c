"""FlashVID's choice on frames and clips, against the published code and by its definition; its late drop."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from routing import VisionStage, solve
from routing.methods.diversity import dpc_knn
from routing.methods.flashvid import ALIKE, METHOD, centres, choose, relevance, segments, shares, trees
from routing.methods.selection import Seen, Sizes
from tests.routing.selection.published import CASES, Published, cases
from tests.routing.selection.watching import Waits
from tests.routing.tiny_vision import choose_one, noise


@cases("flashvid_adts")
def test_the_published_diverse_tokens_are_found(case: Published) -> None:
    """With alpha = 1 nothing but these is kept: the tokens of the released code, of all frames at once."""
    seen, stage = _clip(case.given), VisionStage(0.5, selection="flashvid", settings={"alpha": 1})
    chosen = choose_one(choose, seen, case.params["keep"] * seen.frames, stage)
    kept = chosen.kept.view(seen.frames, -1) - torch.arange(seen.frames)[:, None] * seen.size
    assert kept.tolist() == case.answer["kept"].tolist()


@cases("dpc_knn")
def test_the_published_clusters_are_found(case: Published) -> None:
    """Centres in the order of their scores, and the cluster of every token, of several frames at once."""
    centres, clusters = dpc_knn(case.given["features"], case.params["clusters"])
    assert centres.tolist() == case.answer["centres"].tolist()
    assert clusters.tolist() == case.answer["cluster"].tolist()


def _clip(tensors: dict[str, torch.Tensor]) -> Seen:
    """A published clip as a selection sees it."""
    features, attention = tensors["features"], tensors["attention"]
    return Seen(features.flatten(0, 1), attention=attention.flatten(), frames=len(features))


def _settings(case: Published, alpha: float) -> VisionStage:
    """What a published clip was reduced with."""
    event = int(case.params.get("token_selection_method") == "attn_div_v2")
    given = {"alpha": alpha, "event": event, "segments": case.params["min_segment_num"]}
    return VisionStage(0.5, selection="flashvid", settings=given)


@cases("flashvid")
def test_a_published_clip_is_reduced_step_by_step(case: Published) -> None:
    """Segments, tokens found, trees and centres of the released code, which rounds up each frame's places."""
    features, found, places = case.given["features"], *(case.params[f"{one}_per_frame"] for one in _STEPS)
    frames, tokens = features.shape[:2]
    segment = segments(features, case.params["min_segment_num"])
    if not case.params.get("do_segment", True):
        segment = torch.zeros(frames, dtype=torch.int64)
    assert segment.bincount().tolist() == case.answer["segment_lengths"].tolist()
    unlike = choose_one(choose, _clip(case.given), frames * found, _settings(case, alpha=1)).kept
    kept = torch.zeros(frames * tokens, dtype=torch.bool).index_fill(0, unlike, True).view(frames, tokens)
    if places:
        roots, left = trees(features, segment, kept, frames * places)
        same, each = segment[:, None] == segment, left.sum(dim=1)
        quotas = (places * same.sum(dim=1) * each / (same * each).sum(dim=1)).ceil().long()
        merged, centre = centres(roots, segment, kept, left, quotas, int(quotas.max()))
        features, kept = torch.where(centre[:, :, None], merged, features), kept | centre
    assert kept.flatten().nonzero().flatten().tolist() == case.answer["global_indices"].tolist()
    torch.testing.assert_close(features[kept], case.answer["features"], atol=1e-5, rtol=1e-5)


_STEPS = ("adts", "merged")


def _budget(case: Published) -> int:
    return case.params["frames"] * sum(case.params[f"{one}_per_frame"] for one in _STEPS)


WHOLE = [
    case
    for case in (Published(case) for case in CASES if case["method"] == "flashvid")
    if len(case.answer["global_indices"]) == _budget(case) and case.params.get("do_segment", True)
]


@pytest.mark.parametrize("case", WHOLE, ids=[case.name for case in WHOLE])
def test_a_published_clip_within_its_budget_is_chosen_as_it_was(case: Published) -> None:
    """Where rounding up made no more tokens than were asked for, the whole choice is that of the release."""
    found, places = (case.params[f"{one}_per_frame"] for one in _STEPS)
    stage = _settings(case, alpha=found / (found + places))
    chosen = choose_one(choose, _clip(case.given), _budget(case), stage)
    assert chosen.kept.tolist() == case.answer["global_indices"].tolist()
    assert chosen.features is not None
    merged = chosen.features[chosen.kept]
    torch.testing.assert_close(merged, case.answer["features"], atol=1e-5, rtol=1e-5)


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


def _scenes(frames: int, tokens: int, seed: int = 0) -> torch.Tensor:
    """A clip (F, n, 6) that changes scene every third frame and moves a little in between."""
    scene = torch.arange(frames) // 3
    return noise(int(scene.max()) + 1, tokens, 6, seed=seed)[scene] + 0.25 * noise(
        frames, tokens, 6, seed=seed + 1
    )


def test_a_segment_ends_where_frames_are_unlike_and_where_more_are_asked_for() -> None:
    """By the definition, on cosines of the frames' means."""
    clip = _scenes(9, 20)
    means = clip.mean(dim=1)
    alike = [float(torch.cosine_similarity(one, two, dim=0)) for one, two in pairwise(means)]
    for least in (1, 3, 5, 9, 20):
        cuts = {place for place, like in enumerate(alike) if like < 0.9}
        cuts |= set(sorted(range(8), key=lambda place: alike[place])[: least - 1])
        truth = [sum(cut < frame for cut in cuts) for frame in range(9)]
        assert segments(clip, least).tolist() == truth
    assert segments(clip[:1], 4).tolist() == [0]


def test_relevance_is_the_mean_product_with_the_frames_of_the_segment() -> None:
    """By the definition, with each frame's own mean."""
    clip, segment = _scenes(5, 4), torch.tensor([0, 0, 1, 1, 1])
    means = clip.mean(dim=1)
    for frame, row in enumerate(relevance(clip, segment)):
        others = [means[other] for other in range(5) if segment[other] == segment[frame]]
        for token, found in zip(clip[frame], row, strict=True):
            truth = sum(float(token @ mean) for mean in others) / len(others)
            assert float(found) == pytest.approx(truth, abs=1e-5)


@pytest.mark.parametrize("places", [1, 30, 54, 60, 63])
def test_tokens_join_the_likest_of_the_frame_before(places: int) -> None:
    """By the definition, as loops: the likest pairs first, as long as a segment keeps its share of roots."""
    clip, segment, tokens = _scenes(7, 12), torch.tensor([0, 0, 0, 1, 2, 2, 2]), 12
    found = torch.zeros(7, 12, dtype=torch.bool)
    found[:, [1, 5, 6]] = True
    open_ = [token for token in range(tokens) if not found[0, token]]
    joins: dict[tuple[int, int], int] = {}
    for number in range(3):
        frames = [frame for frame in range(7) if segment[frame] == number]
        pairs = []
        for frame in frames[1:]:
            for token in open_:
                alike = torch.cosine_similarity(clip[frame, token], clip[frame - 1], dim=1)
                best = max(open_, key=lambda other: float(alike[other]))
                pairs += [(-float(alike[best]), frame, token, best)] * (float(alike[best]) > ALIKE)
        most = len(frames) * len(open_) - -(-places * len(frames) // 7)
        joins |= {(frame, token): best for _, frame, token, best in sorted(pairs)[:most]}
    sums, branches = clip.clone(), torch.ones(7, 12)
    for (frame, token), best in sorted(joins.items(), reverse=True):
        sums[frame - 1, best] += sums[frame, token]
        branches[frame - 1, best] += 1
    roots, left = trees(clip, segment, found, places)
    truth = [[not found[f, t] and (f, t) not in joins for t in range(tokens)] for f in range(7)]
    assert left.tolist() == truth
    torch.testing.assert_close(roots[left], (sums / branches[:, :, None])[left])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=4), st.data())
def test_places_go_by_length_and_roots_and_are_all_given(roots: list[list[int]], data: st.DataObject) -> None:
    """Each frame gets its part rounded down or up, no more than it has roots; together it is all of them."""
    each = [one for own in roots for one in own]
    frames = len(each)
    most = min(sum(own) * frames // len(own) for own in roots)
    places = data.draw(st.integers(1, most))
    segment = torch.tensor([number for number, own in enumerate(roots) for _ in own])
    given = shares(torch.tensor(each), segment, places).tolist()
    assert sum(given) == places
    parts = [places * len(own) * one / sum(own) / frames for own in roots for one in own]
    assert all(abs(one - part) < 1 for one, part in zip(given, parts, strict=True))
    assert all(one <= has for one, has in zip(given, each, strict=True))


@pytest.mark.parametrize("frames", [1, 5])
@pytest.mark.parametrize("seed", range(4))
def test_a_found_token_is_no_centre(seed: int, frames: int) -> None:
    """What is kept for being unlike the others keeps its own features, though it is a member of clusters."""
    seen = _seen(frames, 20, seed)
    stages = [VisionStage(0.5, selection="flashvid", settings={"alpha": alpha}) for alpha in (1, 0.5)]
    found = choose_one(choose, seen, 6 * frames, stages[0]).kept
    chosen = choose_one(choose, seen, 12 * frames, stages[1])
    assert set(found.tolist()) < set(chosen.kept.tolist())
    assert chosen.features is not None
    assert torch.equal(chosen.features[found], seen.features[found])


CLIPS = [(6, 12), (1, 30), (4, 9), (1, 12), (9, 12)]


def _seen(frames: int, tokens: int, seed: int = 0) -> Seen:
    clip = _scenes(frames, tokens, seed).flatten(0, 1)
    return Seen(clip, attention=noise(len(clip), seed=seed + 2).exp(), frames=frames)


@pytest.mark.parametrize("event", [0, 1])
@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.4, 0.9, 0.999])
def test_a_batch_of_clips_and_images_is_each_alone(ratio: float, event: int) -> None:
    """Clips of any length beside images: exactly K tokens of each, the same features bit by bit."""
    stage = VisionStage(0.5, selection="flashvid", settings={"event": event})
    seen = [_seen(*sizes, seed=10 * number) for number, sizes in enumerate(CLIPS)]
    counts = [min(len(one.features) - 1, max(1, int(ratio * len(one.features)))) for one in seen]
    for one, count, together in zip(seen, counts, choose(seen, counts, stage), strict=True):
        alone = choose_one(choose, one, count, stage)
        assert len(set(together.kept.tolist())) == count
        assert torch.equal(together.kept, alone.kept)
        assert together.features is not None
        assert alone.features is not None
        assert torch.equal(together.features, alone.features)


@pytest.mark.parametrize("count", [1, 5, 6, 30, 71])
def test_choosing_of_a_clip_never_waits_for_the_device(count: int) -> None:
    """No value is read, and no shape depends on one: neither segments nor trees."""
    seen, stage = _seen(6, 12), VisionStage(0.5, selection="flashvid", settings={"event": 1})
    with Waits() as watch:
        choose([seen], [count], stage)
    assert watch.seen == set()


@pytest.mark.parametrize("given", [{}, {"event": 1}, {"alpha": 1}, {"alpha": 0}])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_a_clip_costs_what_torch_counts(frames: int, given: dict[str, float]) -> None:
    """The products within a frame, of a frame with the one before, and the means of clusters."""
    stage, seen = VisionStage(0.5, selection="flashvid", settings=given), _seen(frames, 12)
    with FlopCounterMode(display=False) as counter:
        choose([seen], [5 * frames], stage)
    flops = METHOD.selections["flashvid"].flops
    assert counter.get_total_flops() == flops(Sizes(12 * frames, 6, 5 * frames, frames=frames), stage)


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
    able = torch.ones(1, 15, dtype=torch.bool).index_fill(1, torch.tensor(barred), False)
    centres, clusters = dpc_knn(features[None], 5, able=able)
    assert centres[0].tolist() == truth
    for token, cluster in enumerate(clusters[0].tolist()):
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
