"""DART's ranking: against the published code, by its definition, and in unmodified models."""

import pytest
import torch
from torch import Tensor

from routing.checks.copies import placeholder_ids
from routing.checks.reference import Cut, decoder, dense
from routing.checks.runs import ACTIONS, generate_routed, plan
from routing.checks.subjects import ONE, Tiny, tiny
from routing.errors import BudgetError
from routing.host import cache_of, final_norm
from routing.methods.dart import SCORER, cosines, peel, rank
from routing.methods.method import Sight
from routing.solve import solve
from tests.routing.kinds.truth import subject
from tests.routing.selection.published import Published, cases


@cases("dart")
def test_the_published_choice_is_reproduced(case: Published) -> None:
    """With its pivots in the order in which the published code visited them, the same tokens are kept."""
    hidden, pivots = case.given["normed_hidden"][None], case.given["pivot_order"][None]
    first, count = case.params["before"], case.params["tokens"]
    among = torch.zeros(1, hidden.shape[1], dtype=torch.bool)
    among[:, first : first + count] = True
    images = pivots[among.gather(1, pivots)]
    order = torch.full(among.shape, -1)
    order[0, images] = torch.arange(len(images))
    share = (len(case.answer["kept"]) - len(images)) // pivots.shape[1]
    order = peel(cosines(hidden, pivots), torch.full_like(pivots, share), among, order)
    kept = (order[0] >= 0).nonzero().flatten() - first
    assert kept.tolist() == sorted(case.answer["kept"].tolist())


@cases("dart")
def test_the_pivots_are_the_published_ones(case: Published) -> None:
    """Four image tokens and four later text tokens of the largest norms lead to the published pivots."""
    norms = case.given["keys"].abs().sum(dim=(0, 2))
    first, last = case.params["before"], case.params["before"] + case.params["tokens"]
    order = norms.argsort(descending=True).tolist()
    images = [row for row in order if first <= row < last][:4]
    texts = [row for row in order if row >= last][:4]
    assert {*images, *texts} == set(case.given["pivot_order"].tolist())


def by_definition(keys: Tensor, states: Tensor, visual: list[int], text: list[int], count: int) -> list[int]:
    """Kept rows in their order, of keys (H_kv, S, D) and normed states (S, d)."""
    norms = keys.abs().sum(dim=(0, 2)).tolist()
    images = sorted(visual, key=lambda row: (-norms[row], row))[: min(4, count)]
    texts = sorted(text, key=lambda row: (-norms[row], row))[:4]
    pivots = sorted([*images, *texts], key=lambda row: -norms[row])
    kept, rest = list(images), count - len(images)
    for number, pivot in enumerate(pivots):
        share = rest // len(pivots) + (number < rest % len(pivots))
        alike = torch.cosine_similarity(states[pivot], states, dim=-1).tolist()
        left = [row for row in visual if row not in kept]
        kept += sorted(left, key=lambda row: (alike[row], row))[:share]
    return kept


def test_each_sample_of_a_batch_is_ranked_by_the_definition() -> None:
    """Ragged pictures and texts, counts below four and up to all but one, a prompt without text behind."""
    generator = torch.Generator().manual_seed(5)
    keys = torch.randn(6, 2, 30, 8, generator=generator)
    states = torch.randn(6, 30, 16, generator=generator)
    pictures = [range(3, 20), range(26), range(10, 12), range(5, 30), range(2, 9), range(0)]
    texts = [range(20, 30), range(28, 30), range(12, 30), range(0), range(12, 13), range(9)]
    counts = (9, 25, 1, 12, 3, 0)
    candidates, behind = torch.zeros(6, 30, dtype=torch.bool), torch.zeros(6, 30, dtype=torch.bool)
    for row, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        candidates[row, list(picture)], behind[row, list(text)] = True, True
    nobody = torch.zeros(6, 0, dtype=torch.long)
    scores = rank(Sight(nobody, None, candidates, behind, counts, keys=keys, states=states))
    for row, count in enumerate(counts):
        expected = by_definition(keys[row], states[row], [*pictures[row]], [*texts[row]], count)
        order = scores[row].masked_fill(~candidates[row], -torch.inf).argsort(descending=True)
        assert order[:count].tolist() == expected


@torch.no_grad()
def _truth(model: Tiny, layer: int, count: int) -> list[int]:
    """Kept among the visual tokens, by the unmodified model's own cached keys and its layer's input."""
    inputs = model.inputs(ONE)
    keys = cache_of(model.model(**inputs, use_cache=True)).layers[layer].keys[0]
    states = final_norm(decoder(model.model))(dense(model.model, inputs).hidden[layer])
    ids = inputs["input_ids"][0]
    visual = torch.isin(ids, torch.tensor(placeholder_ids(model.model.config))).nonzero().flatten().tolist()
    text = list(range(visual[-1] + 1, len(ids)))
    kept = by_definition(keys, states, visual, text, count)
    return sorted(visual.index(row) for row in kept)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "ministral3", "smolvlm"])
def test_a_plain_decoder_is_ranked_by_its_own_keys(name: str, action: str) -> None:
    """Grouped keys, keys with norms and M-RoPE: as the unmodified model caches them."""
    model = tiny(name)
    ran = generate_routed(model, plan((Cut(3, 0.6),), action, scorer=SCORER), ONE, new=1)
    assert list(ran.kept()[0]) == _truth(model, 3, int(model.visual(ONE) * 0.6))


@pytest.mark.parametrize(
    ("name", "layer"),
    [("phi3", 2), ("gpt_oss", 3), ("gemma2", 3), ("qwen3_next", 2), ("cohere", 2), ("glm4", 2)],
)
def test_a_decoder_of_another_make_is_ranked_by_its_own_keys(name: str, layer: int) -> None:
    """Fused projections, norms, gates and other rotations: the layer runs up to its attention."""
    model = subject(name)
    ran = generate_routed(model, plan((Cut(layer, 0.6),), scorer=SCORER), ONE, new=1)
    assert list(ran.kept()[0]) == _truth(model, layer, int(model.visual(ONE) * 0.6))


def test_the_published_configuration_averages_more_than_its_name_says() -> None:
    """Layer 5 of 32, 124 of 576 tokens: an average of 194.6; exactly 192 leaves 120.9 tokens."""
    schedule = solve("dart", ratio=1 - (5 * 576 + 27 * 124) / 32 / 576, layers=32)
    assert schedule.counts(576, 32) == (124,)
    assert schedule.average_tokens(576, 32) == 194.625
    assert solve("dart", ratio=2 / 3, layers=32).counts(576, 32) == (120,)


def test_the_first_cut_moves_up_for_a_ratio_that_layer_5_cannot_reach() -> None:
    """Five dense layers of 32 alone take more than a tenth of the tokens; asked for, that is refused."""
    assert solve("dart", ratio=0.9, layers=32).stages[0].layer == 3
    with pytest.raises(BudgetError, match="layer 5"):
        solve("dart", ratio=0.9, layers=32, cuts=[5])
