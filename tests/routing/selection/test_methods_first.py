"""Methods that choose before the decoder: their schedules, and what they do under route() on whole models."""

from typing import Any

import pytest
import torch

from routing import Action, BudgetError, Schedule, ScheduleError, Stage, VisionStage, route, solve
from routing.checks.runs import generate_routed
from routing.checks.subjects import FIRST_LAYER, Sample, tiny
from routing.families import FAMILIES
from routing.methods import METHODS, SELECTIONS
from routing.methods.selection import Seen
from tests.routing.selection.watching import Waits
from tests.routing.tiny_vision import GRIDS, IMAGE, answer, choose_one, llava, noise, pixels_of, qwen

CLS = {"llava", "vipllava", "llava_next", "internvl"}  # families whose tower has such a token
SAMPLES: tuple[Sample, ...] = ((3, (2, 3), 5), (4, (3, 4), 3, (2, 3), 7))
FIRST = [name for name in METHODS if name in SELECTIONS]
ONCE = [name for name in FIRST if not METHODS[name].published[Action.PRUNE]]  # and no drop later on
WORDS, BEHIND = torch.tensor([5, 6, 7]), torch.tensor([11, 12])


def _prompt(images: int) -> torch.Tensor:
    """Token ids (1, L): three words, LLaVA images of 36 tokens, two words."""
    return torch.cat([WORDS, torch.full((36 * images,), IMAGE), BEHIND])[None]


def _scorer(method: str, scorer: str) -> dict[str, str]:
    return {"vision_scorer": scorer} if "vision_scorer" in METHODS[method].options else {}


@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize("name", ONCE)
def test_the_average_is_the_budget_to_the_token(name: str, action: str) -> None:
    """Before the decoder 64 of 576 tokens are kept, and rerouted 64 at every later decision as well."""
    schedule = solve(name, action=action, ratio=1 - 64 / 576, layers=32)
    assert schedule.average_tokens(576, 32) == 64
    assert schedule.vision is not None
    assert (schedule.vision.layer, schedule.vision.selection) == (0, name)
    assert [stage.layer for stage in schedule.stages] == ([] if action == "prune" else [3, 7, 15, 23])


@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize("name", ONCE)
def test_a_budget_out_of_reach_is_refused_with_the_nearest(name: str, action: str) -> None:
    """Three layers of 36 that go on taking features in are dense: the rest can't make up for them."""
    ask = {"action": action, "layers": 36, "first_layer": 3, "visual": 100}
    with pytest.raises(BudgetError, match="no cut before layer 3") as caught:
        solve(name, ratio=0.95, **ask)  # type: ignore[arg-type]
    assert caught.value.nearest is not None
    schedule = solve(name, ratio=caught.value.nearest, **ask)  # type: ignore[arg-type]
    assert schedule.achieved_ratio(100, 36) == pytest.approx(caught.value.nearest, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("visionzip", {"contextual": 1.5}, "visionzip: contextual must be a number from 0 to 1, got 1.5"),
        ("vispruner", {"important": -0.1}, "vispruner: important must be a number from 0 to 1, got -0.1"),
        ("hiprune", {"alpha": 2}, "hiprune: alpha must be a number from 0 to 1, got 2"),
        ("holov", {"chunks": 2.5}, "holov: chunks must be a whole number from 1 up, got 2.5"),
        ("holov", {"chunks": 0}, "holov: chunks must be a whole number from 1 up, got 0"),
        ("hiprune", {"alpha": "a lot"}, "the setting alpha must be a number, got 'a lot'"),
        ("vispruner", {"vision_scorer": "mean"}, "vision_scorer must be one of cls, column_mean"),
        ("hiprune", {"vision_scorer": "cls"}, "hiprune does not take vision_scorer"),
        ("cdpruner", {"cuts": (3,)}, "cdpruner prunes before the decoder"),
        ("divprune", {"pool": "some"}, "pool must be one of all, anchors"),
    ],
)
def test_a_wrong_option_is_a_sentence_that_says_what_may_be(
    name: str, options: dict[str, Any], says: str
) -> None:
    """Settings have bounds, and the others their words."""
    with pytest.raises(ScheduleError, match=says):
        solve(name, ratio=0.5, layers=32, **options)


def test_a_setting_reaches_the_stage_and_a_wrong_one_by_hand_the_router() -> None:
    """What solve was given is in the schedule; a schedule made by hand is checked where it is run."""
    vision = solve("visionzip", ratio=0.5, layers=2, contextual=0.25).vision
    assert vision is not None
    assert dict(vision.settings) == {"contextual": 0.25}
    for settings, says in (({"chunks": 0.5}, "whole number from 1"), ({"alpha": 1}, "it has chunks")):
        stage = VisionStage(0.5, selection="holov", settings=settings)
        with pytest.raises(ScheduleError, match=says), route(llava(), Schedule(vision=stage)):
            pass


@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize(("family", "first"), [("qwen2_5_vl", 0), ("qwen3_vl", 1)])
@pytest.mark.parametrize("name", FIRST)
def test_a_batch_gives_each_sample_what_it_gets_alone(
    name: str, family: str, first: int, action: str
) -> None:
    """Left-padded images of different grids: half of each is kept, and the greedy tokens are the same."""
    model, pixels, grids = qwen(family), pixels_of(GRIDS), GRIDS
    schedule = Schedule(
        (Stage(1, 0.5),) if action == "reroute" and not first else (),
        action=action,
        vision=VisionStage(0.5, layer=first, scorer="column_mean", selection=name),
    )
    together, first = answer(model, schedule, pixels, grids)
    for number, part in enumerate(pixels.split(grids.prod(dim=1).tolist())):
        alone, own = answer(model, schedule, part, grids[number : number + 1])
        (kept,), (scores,) = own.kept, own.scores
        assert torch.equal(alone[0], together[number])
        assert torch.equal(kept, first.kept[number])
        assert scores is not None
        assert len(kept) == len(scores) // 2
        assert scores.isfinite().all()
        torch.testing.assert_close(scores, first.scores[number])


@pytest.mark.parametrize("tower", ["clip_vision_model", "siglip_vision_model"])
@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize("name", ONCE)
def test_two_images_of_a_prompt_are_reduced_under_the_solved_schedule(
    name: str, action: str, tower: str
) -> None:
    """A third of each image enters LLaVA's decoder, and later decisions keep as many."""
    scorer = "cls" if tower == "clip_vision_model" else "column_mean"
    schedule = solve(name, action=action, ratio=2 / 3, layers=2, **_scorer(name, scorer))
    model = llava(tower)
    with route(model, schedule) as trace:
        model.generate(input_ids=_prompt(2), pixel_values=noise(2, 3, 24, 24), max_new_tokens=2)
    assert [len(stage.kept[0]) for stage in trace.stages] == [24] * (1 if action == "prune" else 2)
    if SELECTIONS[name].at_the_tower:
        assert int((trace.stages[0].kept[0] < 36).sum()) == 12


def _asked_of_an_eager_model(pixels: torch.Tensor) -> tuple[Any, Seen]:
    """A model, and what its tower's layer -2 of 6 and layer 2 say of one image, everything materialised."""
    model = llava(attention="eager")
    out = model.model.vision_tower(pixels, output_attentions=True, output_hidden_states=True)
    layer = model.model.vision_tower.encoder.layers[-2]
    keys = layer.self_attn.k_proj(layer.layer_norm1(out.hidden_states[-3]))[0].view(37, 2, -1)
    received = [out.attentions[at][0].mean(dim=0).sum(dim=0)[1:] for at in (-2, 2)]
    return model, Seen(
        out.hidden_states[-2][0, 1:],
        (6, 6),
        attention=out.attentions[-2][0, :, 0, 1:].sum(dim=0),
        received=received[0],
        shallow=received[1],
        keys=keys.mean(dim=1)[1:],
    )


@pytest.mark.parametrize("name", [name for name in FIRST if SELECTIONS[name].at_the_tower])
def test_the_decoder_gets_what_is_chosen_of_an_eager_models_tensors(name: str) -> None:
    """The first layer runs on text and the chosen tokens' projected features, merged ones included."""
    pixels, stage = noise(1, 3, 24, 24), VisionStage(0.5, selection=name)
    model, seen = _asked_of_an_eager_model(pixels)
    chosen = choose_one(SELECTIONS[name].choose, seen, 18, stage)
    features = seen.features if chosen.features is None else chosen.features
    embeds = model.get_input_embeddings()
    projected = model.model.multi_modal_projector(features[chosen.kept])
    expected = torch.cat([embeds(WORDS), projected, embeds(BEHIND)])[None]
    entered: list[torch.Tensor] = []
    with route(model, Schedule(vision=stage)) as trace:
        first = model.model.language_model.layers[0].input_layernorm
        handle = first.register_forward_pre_hook(lambda _m, args: entered.append(args[0]))
        model(input_ids=_prompt(1), pixel_values=pixels)
        handle.remove()
    torch.testing.assert_close(entered[0], expected)
    (scores,) = trace.stages[0].scores
    assert scores is not None
    torch.testing.assert_close(scores, chosen.scores)


def test_a_member_comes_back_with_its_plain_features() -> None:
    """VisionZip merges what it leaves out into centres; rerouted, a later layer gets it as it was."""
    model, pixels = llava(), noise(1, 3, 24, 24)
    plain = model.model.get_image_features(pixels).pooler_output[0]
    entered: list[torch.Tensor] = []
    stage = VisionStage(0.5, selection="visionzip")
    with route(model, Schedule((Stage(1, 1.0),), action="reroute", vision=stage)) as trace:
        handle = model.model.language_model.layers[1].register_forward_pre_hook(
            lambda _m, args: entered.append(args[0])
        )
        model(input_ids=_prompt(1), pixel_values=pixels)
        handle.remove()
    waited = trace.stages[1].reentered[0]
    assert len(waited) == 18
    torch.testing.assert_close(entered[0][0, 3:39][waited], plain[waited])


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("name", FIRST)
def test_every_family_gives_each_sample_of_a_batch_what_it_gets_alone(name: str, family: str) -> None:
    """Towers, tiles and mergers of any kind: the same tokens are chosen, and the same words follow."""
    vision = VisionStage(
        0.4,
        layer=FIRST_LAYER.get(family, 0),
        scorer="cls" if family in CLS else "column_mean",
        selection=name,
    )
    schedule = Schedule((Stage(4, 0.25),), action=Action.REROUTE, vision=vision)
    model = tiny(family)
    together = generate_routed(model, schedule, *SAMPLES, new=2)
    for row, sample in enumerate(SAMPLES):
        alone = generate_routed(model, schedule, sample, new=2)
        assert together.tokens[row] == alone.tokens[0]
        assert together.kept(row) == alone.kept(0)
        assert 0 < len(alone.kept(0)[0]) < model.visual(sample)


@pytest.mark.parametrize("count", [1, 9, 35])
@pytest.mark.parametrize("name", FIRST)
def test_choosing_never_waits_for_the_device(name: str, count: int) -> None:
    """No value is read, and no shape depends on one."""
    seen = Seen(
        noise(36, 8),
        (4, 9),
        attention=noise(36, seed=1).exp(),
        received=noise(36, seed=2).exp(),
        shallow=noise(36, seed=3).exp(),
        keys=noise(36, 4, seed=4),
        states=noise(36, 8, seed=5),
        text=noise(3, 8, seed=6),
    )
    with Waits() as watch:
        chosen = choose_one(SELECTIONS[name].choose, seen, count, VisionStage(0.5, selection=name))
    assert watch.seen == set()
    assert len(set(chosen.kept.tolist())) == count
