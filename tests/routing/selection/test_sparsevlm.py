"""SparseVLM's raters, rankings and schedules, by their definition and in unmodified models."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from routing.checks import reference
from routing.checks.copies import placeholder_ids
from routing.checks.counting import Counted, prompts_of, shape_of
from routing.checks.proven import route
from routing.checks.reference import Cut, attention_of, by_gathering, dense
from routing.checks.runs import ACTIONS, close, generate_routed, plan
from routing.checks.subjects import ONE, Tiny, tiny
from routing.cost import cost
from routing.errors import BudgetError, RoutingError, ScheduleError
from routing.methods.method import Sight
from routing.methods.sparsevlm import (
    LEVEL_RATERS,
    RATERS,
    RECYCLED_RATERS,
    best_of,
    mean_over_visual_heads,
    rate,
    recycle,
)
from routing.schedule import Rounding, Schedule, Stage
from routing.solve import ratio_for_budget, solve
from tests.routing.kinds import truth

CUTS = (Cut(3, 0.6, 2), Cut(5, 0.3, 4))


def raters_of(visual: Tensor, text: Tensor) -> Tensor:
    """Weights (T,) by the definition, of embeddings (V, d) and (T, d)."""
    looked_at = torch.stack([(text @ one).softmax(dim=0) for one in visual]).mean(dim=0)
    raters = [index for index, share in enumerate(looked_at) if share > looked_at.mean()]
    weights = torch.zeros(len(text))
    weights[raters or slice(None)] = 1
    return weights / weights.sum()


def test_raters_are_the_words_that_get_more_than_the_average_share() -> None:
    """Of each prompt of a ragged batch by itself, with filler in front of its text."""
    generator = torch.Generator().manual_seed(2)
    embeddings = torch.randn(4, 20, 8, generator=generator)
    visual, there = torch.zeros(4, 20, dtype=torch.bool), torch.zeros(4, 7, dtype=torch.bool)
    for row, (start, end, words) in enumerate(((2, 12, 7), (0, 5, 4), (9, 10, 1), (3, 9, 6))):
        visual[row, start:end], there[row, 7 - words :] = True, True
    text = torch.randn(4, 7, 8, generator=generator)
    found = rate(embeddings, visual, text, there)
    for row in range(4):
        expected = raters_of(embeddings[row, visual[row]], text[row, there[row]])
        assert torch.allclose(found[row, there[row]], expected)
        assert not found[row, ~there[row]].any()
    assert 0 < (found[0] > 0).sum() < 7


def test_equal_words_all_rate() -> None:
    """Where no word gets more than the others, all of them ask."""
    text = torch.ones(1, 4, 3)
    visual = torch.ones(1, 5, dtype=torch.bool)
    assert rate(torch.ones(1, 5, 3), visual, text, visual[:, :4]).tolist() == [[0.25] * 4]


def test_version_2_averages_the_heads_that_look_most() -> None:
    """Of 16 heads the 7 with the most attention to the candidates, each sample its own."""
    attention = torch.rand(2, 16, 9, generator=torch.Generator().manual_seed(1))
    candidates = torch.tensor([[False] * 2 + [True] * 5 + [False] * 2, [True] * 9])
    nobody = torch.zeros(2, 0, dtype=torch.long)
    found = mean_over_visual_heads(Sight(nobody, None, candidates, ~candidates, (2, 2), attention))
    for row in range(2):
        mass = attention[row][:, candidates[row]].sum(1).tolist()
        best = sorted(range(16), key=lambda head: -mass[head])[:7]
        assert torch.allclose(found[row], attention[row, best].mean(0))


def _near(arguments: dict[str, Any], width: int) -> Tensor:
    """(S, S): the product of queries and keys of ones under the rotations of their rows, by the root of D."""
    cos, sin = (part[0] for part in arguments["position_embeddings"])
    turned = torch.cat(
        [cos[:, : width // 2] - sin[:, : width // 2], cos[:, width // 2 :] + sin[:, width // 2 :]], 1
    )
    return turned @ turned.T / width**0.5


def _scored(model: Tiny, level: bool) -> Callable[..., Tensor | None]:
    """What takes the place of the reference's last row: the raters', for a prompt with one picture."""
    inputs = model.inputs(ONE)
    ids, entering = inputs["input_ids"][0], dense(model.model, inputs).hidden[0]
    visual = torch.isin(ids, torch.tensor(placeholder_ids(model.model.config)))
    first, last = visual.nonzero()[0].item(), visual.nonzero()[-1].item()
    assert visual[first : last + 1].all()
    behind = len(ids) - 1 - last
    weights = raters_of(entering[visual], entering[last + 1 :])

    def score(module: Any, hidden: Tensor, arguments: dict[str, Any]) -> Tensor | None:
        seen = attention_of(module, hidden, arguments)
        if seen is None or not level:
            return None if seen is None else (seen[:, -behind:] * weights[:, None]).sum(1).mean(0)
        seen = seen / _near(arguments, module.self_attn.head_dim)
        heard = (seen[:, -behind:] * weights[:, None]).sum(1)
        mass = heard[:, first:-behind].sum(1).tolist()
        count = max(1, round(len(mass) * 14 / 32))
        return heard[sorted(range(len(mass)), key=lambda head: -mass[head])[:count]].mean(0)

    return score


@pytest.mark.parametrize("scorer", [RATERS, LEVEL_RATERS])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "internvl"])
def test_scores_are_what_the_raters_see_in_the_unmodified_layers(
    name: str, action: str, scorer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full eager attention of the layer before each cut, on all tokens or on the survivors."""
    model = tiny(name)
    monkeypatch.setattr(reference, "score", _scored(model, scorer == LEVEL_RATERS))
    expected = by_gathering(model.model, model.inputs(ONE), CUTS, action == "reroute")
    ran = generate_routed(model, plan(CUTS, action, scorer=scorer), ONE, new=1)
    assert ran.kept() == expected.kept
    assert close(ran.logits[0], expected.logits)
    assert ran.trace is not None
    for stage, scores in zip(ran.trace.stages, expected.scores, strict=True):
        found = stage.scores[0]
        assert found is not None
        assert scores is not None
        candidates = found > float("-inf")
        assert torch.allclose(found[candidates], scores[candidates], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["phi3", "gpt_oss", "gemma2", "deepseek_v3", "qwen3_5"])
def test_layers_of_another_make_are_asked_as_they_are(
    name: str, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fused and latent projections, sinks, softcaps, windows and recurrent layers, by the raters' rows."""
    model = truth.subject(name)
    monkeypatch.setattr(truth, "score", _scored(model, level=False))
    cuts = (Cut(1, 0.6), Cut(4, 0.3))
    expected = truth.by_hand(model.model, model.inputs(ONE), cuts, action == "reroute")
    ran = generate_routed(model, plan(cuts, action, scorer=RATERS), ONE, new=1)
    assert ran.kept() == expected.kept
    assert close(ran.logits[0], expected.logits)


def test_a_long_question_is_asked_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows are held at a time, the scores are the same but for the order of a sum."""
    sample, scores = (3, (2, 2), 70), []
    for rows in (7, 1000):
        monkeypatch.setattr("routing.scoring.ROWS", rows)
        ran = generate_routed(tiny("llava"), plan((Cut(2, 0.5),), scorer=RATERS), sample, new=1)
        assert ran.trace is not None
        scores.append(ran.trace.stages[0].scores[0])
    assert torch.allclose(*scores, rtol=1e-5, atol=1e-8)


def test_version_2_is_refused_where_positions_enter_in_a_way_of_their_own() -> None:
    """Of a layer that is not plain it is not known what positions alone make of attention."""
    with pytest.raises(RoutingError, match="position alone"):
        generate_routed(truth.subject("phi3"), plan((Cut(2, 0.5),), scorer=LEVEL_RATERS), ONE, new=1)


@pytest.mark.parametrize(("action", "version"), [("prune", 1), ("reroute", 2)])
def test_each_stage_is_ranked_by_the_layer_before_and_keeps_the_tables_shares(
    action: str, version: int
) -> None:
    """Cuts 3, 7, 16 ranked by 2, 6, 15; 192 of 576 on average leave 278, 185 and 102."""
    ratio = ratio_for_budget(192, 576)
    schedule = solve("sparsevlm", action=action, ratio=ratio, layers=32, version=version)
    assert [(stage.layer, stage.scored_by) for stage in schedule.stages] == [(3, 2), (7, 6), (16, 15)]
    assert schedule.counts(576, 32) == (278, 185, 102)
    assert schedule.scorer == (RECYCLED_RATERS if version == 1 else LEVEL_RATERS)
    first, second, third = (stage.keep_ratio for stage in schedule.stages)
    assert second / first == pytest.approx(2 / 3)
    assert third / first == pytest.approx(11 / 30)


def test_ranked_by_its_own_layer_it_may_cut_at_the_first() -> None:
    """scored_by="own" ranks where it cuts."""
    schedule = solve("sparsevlm", ratio=0.7, layers=32, scored_by="own", cuts=[0, 7])
    assert [(stage.layer, stage.ranking_layer) for stage in schedule.stages] == [(0, 0), (7, 7)]


def test_after_deepstack_the_ranking_layer_too_comes_later() -> None:
    """A model that may decide from layer 3 on is cut at 4 at the earliest."""
    stage = solve("sparsevlm", ratio=0.7, layers=36, first_layer=3).stages[0]
    assert (stage.layer, stage.scored_by) == (4, 3)


def test_what_it_cannot_do_is_refused() -> None:
    """Ratios that its curve cannot reach, with the nearest; other versions; a decoder of one layer."""
    with pytest.raises(BudgetError, match=r"nearest it reaches is 0\.4105") as error:
        solve("sparsevlm", ratio=0.1, layers=32)
    assert error.value.nearest == 0.4105
    with pytest.raises(ScheduleError, match="version must be 1 or 2, got 3"):
        solve("sparsevlm", ratio=0.5, layers=32, version=3)
    for impossible in ({"version": 2}, {"action": "reroute"}):
        with pytest.raises(ScheduleError, match="only version 1 recycles, where it prunes"):
            solve("sparsevlm", ratio=0.5, layers=32, recycle=True, **impossible)  # type: ignore[arg-type]
    with pytest.raises(ScheduleError, match="1 layers are too few"):
        solve("sparsevlm", ratio=0.5, layers=1)


def clusters_of(features: list[Tensor], count: int) -> list[list[int]]:
    """Members of each cluster, its centre first, by the definition."""
    apart = [[float((a - b).norm()) / len(a) ** 0.5 for b in features] for a in features]
    near = [sorted(row)[: min(7, count)] for row in apart]
    density = [math.exp(-sum(value**2 for value in row) / len(row)) for row in near]
    most, size = max(map(max, apart)), range(len(features))
    alone = [min([apart[i][j] for j in size if density[j] > density[i]], default=most) for i in size]
    centres = sorted(size, key=lambda i: -alone[i] * density[i])[:count]
    members = [[centre] for centre in centres]
    for token in (token for token in size if token not in centres):
        nearest = min(range(count), key=lambda place: apart[centres[place]][token])
        members[nearest].append(token)
    return members


def recycled(states: Tensor, scores: Tensor, count: int) -> dict[int, Tensor]:
    """Kept token -> its state, by the definition: of n tokens the best, and a tenth of the next 30%."""
    order = sorted(range(len(states)), key=lambda token: (-float(scores[token]), token))
    best = count
    while best + (int(0.3 * (len(states) - best)) + 1) // 10 + 1 > count and best > 1:
        best -= 1
    kept = {token: states[token] for token in order[:best]}
    pool = order[best : best + int(0.3 * (len(states) - best)) + 1]
    if best < count:
        for members in clusters_of([states[token] for token in pool], count - best):
            kept[pool[members[0]]] = states[[pool[one] for one in members]].mean(dim=0)
    return kept


@pytest.mark.parametrize(("tokens", "count"), [(60, 20), (60, 3), (60, 59), (12, 1), (2, 1), (90, 30)])
def test_the_best_stay_and_clusters_of_the_next_live_on(tokens: int, count: int) -> None:
    """By the definition written as loops, for few and many of both."""
    generator = torch.Generator().manual_seed(tokens + count)
    states = torch.randn(tokens, 16, generator=generator)
    scores = torch.rand(tokens, generator=generator)
    expected = recycled(states, scores, count)
    kept, found = recycle(states, scores, count)
    assert len(kept) == count
    assert set(kept.tolist()) == set(expected)
    for token, state in zip(kept.tolist(), found, strict=True):
        assert torch.allclose(state, expected[token], atol=1e-6)


@pytest.mark.parametrize(
    ("table", "average"),
    [
        ((300, 200, 110), 206.5),
        ((303, 110, 36), 145.40625),
        ((238, 48, 26), 114.09375),
        ((66, 30, 17), 82.25),
    ],
)
def test_recycled_tokens_are_the_published_ones_beyond_the_table(
    table: tuple[int, ...], average: float
) -> None:
    """A row of the released table with its clusters: 300 of 576 with 9, 200 of these 309 with 4, ..."""
    kept, tokens = [], 576
    for best in table:
        count = best + (int(0.3 * (tokens - best)) + 1) // 10 + 1
        assert best_of(tokens, count) == best
        kept, tokens = [*kept, count], count
    stages = tuple(Stage(layer, one / 576) for layer, one in zip((3, 7, 16), kept, strict=True))
    assert Schedule(stages, rounding=Rounding.BUDGET).average_tokens(576, 32) == average


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_clusters_run_on_in_the_place_of_their_centres(name: str) -> None:
    """The layer behind the drop gets the unmodified model's states, and the means among them."""
    model, cut = tiny(name), Cut(3, 0.5, 2)
    sample = (4, (6, 6), 7)
    inputs, given = model.inputs(sample), []
    layer = reference.decoder(model.model).layers[3].input_layernorm
    handle = layer.register_forward_pre_hook(lambda _norm, args: given.append(args[0][0]))
    try:
        ran = generate_routed(model, plan((cut,), scorer=RECYCLED_RATERS), sample, new=1)
    finally:
        handle.remove()
    assert ran.trace is not None
    scores = ran.trace.stages[0].scores[0]
    assert scores is not None
    ids, states = inputs["input_ids"][0], dense(model.model, inputs).hidden[3].clone()
    visual = torch.isin(ids, torch.tensor(placeholder_ids(model.model.config))).nonzero().flatten()
    expected = recycled(states[visual], scores, len(visual) // 2)
    assert list(ran.kept()[0]) == sorted(expected)
    for token, state in expected.items():
        states[visual[token]] = state
    gone = {int(visual[token]) for token in range(len(visual)) if token not in expected}
    rows = [row for row in range(len(ids)) if row not in gone]
    assert close(given[0], states[rows])


def test_a_layer_that_ranks_its_own_drop_has_the_keys_of_what_was_merged() -> None:
    """Logits and FLOPs are the same whether a key projection can be handed over or somebody watches it."""
    model, schedule = tiny("llava"), plan((Cut(2, 0.4),), scorer=RECYCLED_RATERS)
    counted, logits = [], []
    for watched in (False, True):
        layers = reference.decoder(model.model).layers if watched else ()
        handles = [layer.self_attn.k_proj.register_forward_hook(lambda *_: None) for layer in layers]
        with route(model.model, schedule):
            counted.append(Counted(model, model.inputs(ONE)))
        logits.append(counted[-1].output.logits)
        for handle in handles:
            handle.remove()
    ours = cost(shape_of(model), schedule, prompts_of(model, ONE))
    assert torch.equal(*logits)
    assert counted[0].scoring == counted[1].scoring == ours.scoring_flops
    assert counted[0].prefill == counted[1].prefill == ours.prefill_flops


def test_nobody_reroutes_by_a_ranking_that_merges() -> None:
    """Its schedule says so before anything runs."""
    with pytest.raises(ScheduleError, match="it can prune, not reroute"):
        generate_routed(tiny("llava"), plan(CUTS, "reroute", scorer=RECYCLED_RATERS), ONE, new=1)
