"""A choice where features enter the decoder, under route(): what it sees, and what the decoder gets."""

from typing import Any

import pytest
import torch

from routing import Schedule, ScheduleError, Stage, VisionStage, route
from routing.methods import SELECTIONS
from routing.methods.divprune import choose
from routing.methods.selection import Chosen, Need, Seen, Selection, each
from tests.routing.tiny_vision import GRIDS, IMAGE, answer, choose_one, llava, noise, pixels_of, qwen

HALF = VisionStage(0.5, selection="divprune")
WORDS = torch.tensor([5, 6, 7])
BEHIND = torch.tensor([11, 12])


def _prompt(*images: int) -> torch.Tensor:
    """Token ids (1, L): three words, images of so many tokens with a word between, two words."""
    parts = [WORDS]
    for tokens in images:
        parts += [torch.full((tokens,), IMAGE), torch.tensor([9])]
    return torch.cat([*parts[:-1], BEHIND])[None]


def _features(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    features: torch.Tensor = torch.cat(list(model.model.get_image_features(pixels).pooler_output))
    return features


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_decoder_sees_text_and_chosen_tokens_alone(attention: str) -> None:
    """Last logits equal those of the unmodified language model on these embeddings at their own positions."""
    model, pixels = llava(attention=attention), noise(1, 3, 24, 24)
    with route(model, Schedule(vision=HALF)) as trace:
        logits = model(input_ids=_prompt(36), pixel_values=pixels).logits[:, -1]
    features = _features(model, pixels)
    kept = choose_one(choose, Seen(features), 18, HALF).kept
    embeds = model.get_input_embeddings()
    inside = torch.cat([embeds(WORDS), features[kept], embeds(BEHIND)])[None]
    places = torch.cat([torch.arange(3), kept + 3, torch.arange(39, 41)])[None]
    expected = model.model.language_model(
        inputs_embeds=inside, position_ids=places, attention_mask=torch.ones_like(places)
    ).last_hidden_state
    torch.testing.assert_close(logits, model.lm_head(expected)[:, -1])
    assert trace.stages[0].kept[0].tolist() == kept.tolist()
    assert trace.stages[0].scored_by is None


def test_all_images_of_a_prompt_are_one_pool() -> None:
    """Of two equal images the diverse half is what one image of both their tokens would keep."""
    model, pixels = llava(), noise(1, 3, 24, 24).repeat(2, 1, 1, 1)
    with route(model, Schedule(vision=HALF)) as trace:
        model(input_ids=_prompt(36, 36), pixel_values=pixels)
    expected = choose_one(choose, Seen(_features(model, pixels)), 36, HALF).kept
    assert trace.stages[0].kept[0].tolist() == expected.tolist()


@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize(("family", "layer"), [("qwen2_vl", 0), ("qwen2_5_vl", 0), ("qwen3_vl", 1)])
def test_a_batch_gives_each_sample_what_it_gets_alone(family: str, layer: int, action: str) -> None:
    """Left-padded prompts of images of different sizes: the same choice and the same greedy tokens."""
    model, pixels, grids = qwen(family), pixels_of(GRIDS[:2]), GRIDS[:2]
    stages = (Stage(1, 0.4),) if action == "reroute" and layer == 0 else ()
    vision = VisionStage(0.4, layer=layer, selection="divprune")
    schedule = Schedule(stages, action=action, vision=vision)
    together, first = answer(model, schedule, pixels, grids)
    for number, part in enumerate(pixels.split(grids.prod(dim=1).tolist())):
        alone, own = answer(model, schedule, part, grids[number : number + 1])
        assert torch.equal(alone[0], together[number])
        assert torch.equal(own.kept[0], first.kept[number])


def test_a_later_layer_acts_on_what_was_chosen_at_the_entrance() -> None:
    """Where features go on entering until layer 1, the choice is that of the decoder's input all the same."""
    model, pixels, grids = qwen("qwen3_vl"), pixels_of(GRIDS[:1]), GRIDS[:1]
    schedule = Schedule(vision=VisionStage(0.4, layer=1, selection="divprune"))
    _, first = answer(model, schedule, pixels, grids)
    features = model.model.get_image_features(pixels, grids, return_dict=True).pooler_output[0]
    assert first.kept[0].tolist() == choose_one(choose, Seen(features), 6, HALF).kept.tolist()


def test_a_selection_sees_the_text_that_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embeddings of the words behind the last image; nothing of the tower, and no text unasked."""
    seen: list[Seen] = []

    @each
    def first(one: Seen, count: int, _stage: VisionStage) -> Chosen:
        seen.append(one)
        return Chosen(torch.arange(count), -torch.arange(float(len(one.features))))

    own = SELECTIONS._own  # type: ignore[attr-defined]
    for name, needs in (("reader", frozenset({Need.TEXT})), ("blind", frozenset())):
        monkeypatch.setitem(own, name, Selection(needs, first, lambda _sizes, _stage: 0))
    model, pixels = llava(), noise(2, 3, 24, 24)
    for name in ("reader", "blind"):
        with route(model, Schedule(vision=VisionStage(0.5, selection=name))):
            model(input_ids=_prompt(36, 36), pixel_values=pixels)
    reader, blind = seen
    assert reader.text is not None
    assert torch.equal(reader.text, model.get_input_embeddings()(BEHIND))
    torch.testing.assert_close(reader.features, _features(model, pixels))
    assert (blind.text, blind.attention, blind.grid) == (None, None, None)


def test_a_selection_that_merges_at_the_entrance_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its features would be lost without a word."""

    @each
    def merging(seen: Seen, count: int, _stage: VisionStage) -> Chosen:
        return Chosen(torch.arange(count), torch.zeros(len(seen.features)), seen.features * 2)

    merger = Selection(frozenset(), merging, lambda _sizes, _stage: 0)
    monkeypatch.setitem(SELECTIONS._own, "merger", merger)  # type: ignore[attr-defined]
    with (
        route(model := llava(), Schedule(vision=VisionStage(0.5, selection="merger"))),
        pytest.raises(ScheduleError, match="merger merges features, which is done at towers alone"),
    ):
        model(input_ids=_prompt(36), pixel_values=noise(1, 3, 24, 24))


def test_what_waits_comes_back_with_its_plain_features() -> None:
    """A later stage that keeps everything runs the rest of the model on routed and untouched tokens."""
    model, pixels = llava(), noise(1, 3, 24, 24)
    entered: list[torch.Tensor] = []
    last = model.model.language_model.layers[1]
    with route(model, Schedule((Stage(1, 1.0),), action="reroute", vision=HALF)) as trace:
        handle = last.register_forward_pre_hook(lambda _m, args: entered.append(args[0]))
        model(input_ids=_prompt(36), pixel_values=pixels)
        handle.remove()
    waited = [index for index in range(36) if index not in trace.stages[0].kept[0]]
    assert trace.stages[1].reentered[0].tolist() == waited
    torch.testing.assert_close(entered[0][0, 3:39][waited], _features(model, pixels)[waited])


def test_pool_anchors_lets_later_stages_choose_among_the_chosen_alone() -> None:
    """Nothing that was left out at the entrance comes back."""
    model = llava()
    schedule = Schedule((Stage(1, 0.2),), action="reroute", pool="anchors", vision=HALF)
    with route(model, schedule) as trace:
        model(input_ids=_prompt(36), pixel_values=noise(1, 3, 24, 24))
    assert set(trace.stages[1].kept[0].tolist()) < set(trace.stages[0].kept[0].tolist())
