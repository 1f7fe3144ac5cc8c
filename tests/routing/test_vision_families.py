"""The vision stage inside route(), on every family with a file."""

from itertools import accumulate, chain
from typing import Any

import pytest
import torch

import routing
from routing import Schedule, Stage, VisionStage
from routing.checks.reference import Cut, by_gathering
from routing.checks.runs import close, generate_routed, hooks
from routing.checks.subjects import FIRST_LAYER, Sample, fresh, tiny
from routing.families import FAMILIES, no_vision_stage
from routing.methods.selection import Need
from tests.routing.tiny_vision import looking

MANY: Sample = (4, (3, 4), 3, (2, 3), 7)
BATCH: tuple[Sample, ...] = ((3, (2, 3), 5), MANY, (9,), (5, (3, 2), 8))
CLS = {"llava", "vipllava", "llava_next", "internvl"}


def _schedule(name: str, action: str, selection: str, pool: str = "all") -> Schedule:
    scorer = "cls" if name in CLS else "column_mean"
    vision = VisionStage(0.5, layer=FIRST_LAYER.get(name, 0), scorer=scorer, selection=selection)
    return Schedule((Stage(4, 0.25),), action=action, vision=vision, pool=pool)  # type: ignore[arg-type]


@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_gives_each_sample_what_it_gets_alone(name: str, action: str) -> None:
    """Samples of one image, two and none under Nuwa, left-padded: same anchors, logits and greedy tokens."""
    model, schedule = tiny(name), _schedule(name, action, "anchors")
    together = generate_routed(model, schedule, *BATCH, new=3)
    for row, sample in enumerate(BATCH):
        alone = generate_routed(model, schedule, sample, new=3)
        assert together.tokens[row] == alone.tokens[0]
        assert close(together.logits[row], alone.logits[0], 1e-4)
        if alone.trace is not None and alone.trace.prefills:
            assert together.kept(row) == alone.kept(0)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_not_chosen_is_not_there(name: str, action: str, attention: str) -> None:
    """Without merging, logits are those of decoder layers run by hand on the chosen tokens alone."""
    model = tiny(name, attention)
    with looking(*Need):
        ran = generate_routed(model, _schedule(name, action, "looking"), MANY, new=1)
    cuts = (Cut(FIRST_LAYER.get(name, 0), 0.5), Cut(4, 0.25))
    expected = by_gathering(model.model, model.inputs(MANY), cuts, action == "reroute", ran.kept())
    assert close(ran.logits[0], expected.logits)


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"llava_next", "llava_onevision"}))
def test_each_image_or_tile_keeps_its_share(name: str) -> None:
    """Of a selection that keeps the first tokens: the first half of every image, of tiles each by itself."""
    with looking(*Need) as seen:
        ran = generate_routed(tiny(name), _schedule(name, "prune", "looking"), MANY, new=1)
    sizes = [len(one.features) for one in seen]
    starts = accumulate(sizes, initial=0)
    halves = (range(start, start + size // 2) for start, size in zip(starts, sizes, strict=False))
    assert ran.kept()[0] == tuple(chain.from_iterable(halves))


@pytest.mark.parametrize("name", ["llava_next", "internvl", "smolvlm", "mistral3", "glm4v"])
def test_nothing_is_left_on_the_model(name: str) -> None:
    """Neither hooks nor methods, and the same logits as before."""
    model = fresh(name)
    inputs: dict[str, Any] = model.inputs(MANY)
    with torch.no_grad():
        plain = model.model(**inputs).logits
        before = hooks(model.model)  # the library places some of its own the first time
        with routing.route(model.model, _schedule(name, "prune", "anchors")):
            reduced = model.model(**inputs).logits
        after = model.model(**inputs).logits
    assert hooks(model.model) == before
    assert torch.equal(plain, after)
    assert not torch.equal(plain, reduced)


def test_every_family_with_a_file_has_a_vision_stage() -> None:
    """Those without are only those of which nobody wrote a file."""
    assert [family for family in FAMILIES if no_vision_stage(family)] == []
