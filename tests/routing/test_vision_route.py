"""The vision stage inside route(): the decoder sees anchors alone, and what may come back later."""

from typing import Any

import pytest
import torch

from routing import Pool, Schedule, Stage, VisionStage, route
from tests.routing.tiny_vision import GRIDS, IMAGE, answer, encode, llava, noise, pixels_of, qwen

PICTURE, TEXT = 36, 6


def _prompt(pictures: int = 1) -> torch.Tensor:
    """Token ids (1, L) of `pictures` LLaVA pictures, each between six words."""
    words = torch.arange(5, 5 + TEXT)
    parts = [words]
    for _ in range(pictures):
        parts += [torch.full((PICTURE,), IMAGE), words + 20]
    return torch.cat(parts)[None]


def _embedded(model: Any, stage: VisionStage, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The prompt's embeddings (1, L, d) with anchors aggregated, and the columns of text and anchors."""
    ids = _prompt()
    (features,), (selection,) = encode(model, "llava", stage, pixels)
    embeds = model.get_input_embeddings()(ids)
    embeds[ids == IMAGE] = features
    visual = (ids[0] == IMAGE).nonzero().flatten()[selection.kept]
    text = (ids[0] != IMAGE).nonzero().flatten()
    return embeds, torch.cat([visual, text]).sort().values


def _run(model: Any, layers: slice, hidden: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """`hidden` (1, L, d) after `layers` that see `columns` only, in their own positions; others pass by."""
    decoder, inside = model.model.language_model, hidden[:, columns]
    rotary = decoder.rotary_emb(hidden, columns[None])
    causal = torch.full((len(columns), len(columns)), -torch.inf).triu(1)[None, None]
    for layer in decoder.layers[layers]:
        inside = layer(inside, attention_mask=causal, position_embeddings=rotary)
    return hidden.index_copy(1, columns, inside)


def _last_logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model.lm_head(model.model.language_model.norm(hidden))[:, -1]
    return logits


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_pruning_leaves_the_decoder_the_anchors_at_their_own_positions(attention: str) -> None:
    """Last logits equal decoder layers run by hand on text and aggregated anchors alone."""
    model, pixels, stage = llava(attention=attention), noise(1, 3, 24, 24), VisionStage(0.3)
    with route(model, Schedule(vision=stage)) as trace:
        logits = model(input_ids=_prompt(), pixel_values=pixels).logits[:, -1]
    embeds, columns = _embedded(model, stage, pixels)
    torch.testing.assert_close(logits, _last_logits(model, _run(model, slice(None), embeds, columns)))
    assert trace.stages[0].kept[0].tolist() == encode(model, "llava", stage, pixels)[1][0].kept.tolist()


def test_rerouted_tokens_come_back_as_their_plain_features() -> None:
    """With pool "all", a later stage that keeps everything sees routed anchors and plain features beside."""
    model, pixels, stage = llava(), noise(1, 3, 24, 24), VisionStage(0.3)
    with route(model, Schedule(vision=stage, stages=(Stage(1, 1.0),), action="reroute")) as trace:
        logits = model(input_ids=_prompt(), pixel_values=pixels).logits[:, -1]
    embeds, columns = _embedded(model, stage, pixels)
    hidden = _run(model, slice(0, 1), embeds, columns)
    hidden = _run(model, slice(1, 2), hidden, torch.arange(embeds.shape[1]))
    torch.testing.assert_close(logits, _last_logits(model, hidden))
    kept = set(trace.stages[0].kept[0].tolist())
    assert trace.stages[1].reentered[0].tolist() == [index for index in range(PICTURE) if index not in kept]


@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize("pool", list(Pool))
def test_pictures_that_round_by_themselves_never_ask_for_more_than_there_is(action: str, pool: Pool) -> None:
    """Two pictures of 36 tokens at 0.35 leave 12 + 12 anchors, not 25; later stages make do with them."""
    schedule = Schedule(vision=VisionStage(0.35), stages=(Stage(1, 0.35),), action=action, pool=pool)
    model = llava()
    with route(model, schedule) as trace:
        model.generate(input_ids=_prompt(2), pixel_values=noise(2, 3, 24, 24), max_new_tokens=2)
    free = action == "reroute" and pool is Pool.ALL
    assert [len(stage.kept[0]) for stage in trace.stages] == [24, 25 if free else 24]


def test_only_anchors_stay_candidates_under_pool_anchors() -> None:
    """Stages after the vision stage choose among its anchors."""
    model = llava()
    stages = (Stage(1, 0.2),)
    schedule = Schedule(vision=VisionStage(0.4), stages=stages, action="reroute", pool="anchors")
    with route(model, schedule) as trace:
        model(input_ids=_prompt(), pixel_values=noise(1, 3, 24, 24))
    assert set(trace.stages[1].kept[0].tolist()) < set(trace.stages[0].kept[0].tolist())


@pytest.mark.parametrize(("family", "layer"), [("qwen2_vl", 0), ("qwen2_5_vl", 0), ("qwen3_vl", 1)])
@pytest.mark.parametrize("action", ["prune", "reroute"])
def test_a_qwen_batch_gives_each_sample_what_it_gets_alone(family: str, layer: int, action: str) -> None:
    """Two pictures of different grids, left-padded: same anchors, same greedy tokens as one by one."""
    model = qwen(family)
    schedule = Schedule(vision=VisionStage(0.5, layer=layer, scorer="column_mean"), action=action)
    pixels, grids = pixels_of(GRIDS[:2]), GRIDS[:2]
    together, first = answer(model, schedule, pixels, grids)
    for number, part in enumerate(pixels.split(grids.prod(dim=1).tolist())):
        alone, own = answer(model, schedule, part, grids[number : number + 1])
        assert torch.equal(alone[0], together[number])
        assert torch.equal(own.kept[0], first.kept[number])
