"""Images encoded once: answers, kept tokens and logits are those of a model that always encodes them."""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

import routing
from routing import RoutingError, Schedule, Stage, VisionStage
from routing.checks.runs import Ran, close, generate, hooks
from routing.checks.subjects import FIRST_LAYER, Sample, Tiny, fresh, tiny
from routing.families import FAMILIES, family_of
from routing.families.encoders import PatchStage
from routing.host import part
from routing.methods import SELECTIONS
from routing.methods.selection import Need
from routing.vision import EncodedImage, encode_once

ONE: Sample = (4, (3, 4), 7)
MANY: Sample = (4, (3, 4), 3, (2, 3), 7)
BATCH: tuple[Sample, ...] = ((3, (2, 3), 5), MANY, (9,), (5, (3, 2), 8))
CLS = {"llava", "vipllava", "llava_next", "internvl"}
TILED = {"llava_next", "llava_onevision", "idefics3", "smolvlm"}
AT_TOWERS = [name for name, selection in SELECTIONS.items() if selection.at_the_tower]
EVERY = frozenset(Need) - {Need.TEXT}


class Kept:
    """Features of every image, for ever."""

    def __init__(self, needs: frozenset[Need] = EVERY) -> None:
        self.needs = needs
        self.images: dict[str, EncodedImage] = {}

    def recall(self, key: str, encode: Callable[[], EncodedImage]) -> EncodedImage:
        """The image of a key, encoded the first time."""
        if key not in self.images:
            self.images[key] = encode()
        return self.images[key]


def _schedule(name: str, selection: str | None, scorer: str | None = None) -> Schedule:
    if selection is None:
        return Schedule()
    scorer = scorer or ("cls" if name in CLS else "column_mean")
    stage = VisionStage(0.5, layer=FIRST_LAYER.get(name, 0), scorer=scorer, selection=selection)
    return Schedule((Stage(4, 0.25),), action="reroute", vision=stage)  # type: ignore[arg-type]


def _ran(subject: Tiny, schedule: Schedule, *samples: Sample, kept: Kept | None = None) -> Ran:
    """Three greedy tokens under a schedule, encoded once where `kept` is given."""
    if kept is not None:
        with encode_once(subject.model, kept):
            return _ran(subject, schedule, *samples)
    with routing.route(subject.model, schedule) as trace:
        ran = generate(subject.model, subject.inputs(*samples), 3)
    return Ran(ran.tokens, ran.logits, ran.cache, trace)


def _kept_tokens(ran: Ran) -> list[list[int]]:
    assert ran.trace is not None
    return [row.tolist() for stage in ran.trace.stages for row in stage.kept]


def _tower(subject: Tiny) -> Any:
    stage = family_of(subject.family).vision_stage
    return part(subject.model.model, stage.tower if isinstance(stage, PatchStage) else "visual")


@contextmanager
def _passes(subject: Tiny) -> Iterator[list[int]]:
    """Images or tiles at each run of the tower, by a hook on what makes its patches."""
    seen: list[int] = []
    embeds = next(
        module
        for module in _tower(subject).modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d)
    )
    handle = embeds.register_forward_hook(lambda _module, args, _output: seen.append(len(args[0])))
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize("selection", [None, *AT_TOWERS])
@pytest.mark.parametrize("name", FAMILIES)
def test_answers_kept_tokens_and_logits_are_the_same(name: str, selection: str | None) -> None:
    """Of one image, twice: encoded now, and kept; to the bit where the tower is given it whole."""
    subject, schedule, kept = tiny(name), _schedule(name, selection), Kept()
    plain = _ran(subject, schedule, ONE)
    for _ in range(2):
        ran = _ran(subject, schedule, ONE, kept=kept)
        assert (ran.tokens, _kept_tokens(ran)) == (plain.tokens, _kept_tokens(plain))
        assert torch.equal(ran.logits, plain.logits) or (name in TILED and close(ran.logits, plain.logits))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_of_images_seen_and_unseen_is_the_same(name: str) -> None:
    """Samples of one image, two and none, left-padded, where only those of the second are kept yet."""
    subject, schedule, kept = tiny(name), _schedule(name, "anchors"), Kept()
    plain = _ran(subject, schedule, *BATCH)
    _ran(subject, Schedule(), MANY, kept=kept)
    ran = _ran(subject, schedule, *BATCH, kept=kept)
    assert (ran.tokens, _kept_tokens(ran)) == (plain.tokens, _kept_tokens(plain))
    assert close(ran.logits, plain.logits)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "mistral3", "smolvlm", "llava_next"])
def test_the_tower_runs_once_for_every_image_and_for_each_by_itself(name: str) -> None:
    """Whatever is asked of them, in whichever company; a run is of one image or tile."""
    subject, kept = tiny(name), Kept()
    with _passes(subject) as seen:
        for selection in (None, *AT_TOWERS):
            for samples in ((MANY,), BATCH, (ONE,)):
                _ran(subject, _schedule(name, selection), *samples, kept=kept)
        runs = len(seen)
        _ran(subject, Schedule(), *BATCH, MANY, ONE)
    assert runs == len(kept.images) > 3
    if isinstance(family_of(name).vision_stage, PatchStage):  # the others are called with rows of patches
        assert set(seen[:runs]) == {1}


def test_what_is_kept_of_an_image_does_not_depend_on_its_company() -> None:
    """The same features whether it was first asked about alone or in a batch."""
    subject, alone, together = tiny("qwen2_5_vl"), Kept(), Kept()
    _ran(subject, Schedule(), MANY, kept=alone)
    _ran(subject, Schedule(), *BATCH, kept=together)
    for key, image in alone.images.items():
        other = together.images[key]
        assert torch.equal(image.output["pooler_output"], other.output["pooler_output"])  # type: ignore[arg-type]
        assert all(torch.equal(value, other.found[name]) for name, value in image.found.items())


def test_one_changed_pixel_makes_another_image() -> None:
    """The answer is that of the changed image, though all else is as it was."""
    subject, kept = tiny("llava"), Kept()
    inputs = subject.inputs(ONE)
    changed = inputs | {"pixel_values": inputs["pixel_values"].index_fill(-1, torch.tensor([3]), 5.0)}
    with encode_once(subject.model, kept):
        generate(subject.model, inputs, 3)
        ran = generate(subject.model, changed, 3)
    assert torch.equal(ran.logits, generate(subject.model, changed, 3).logits)
    assert len(kept.images) == 2


def test_the_same_patches_in_another_grid_are_another_image() -> None:
    """Twelve visual tokens as 3 x 4 and as 4 x 3."""
    subject, kept = tiny("qwen2_vl"), Kept()
    inputs = subject.inputs(ONE)
    turned = inputs | {"image_grid_thw": inputs["image_grid_thw"][:, [0, 2, 1]]}
    with encode_once(subject.model, kept):
        generate(subject.model, inputs, 3)
        ran = generate(subject.model, turned, 3)
    assert torch.equal(ran.logits, generate(subject.model, turned, 3).logits)


def test_a_ranking_by_columns_is_not_given_that_of_the_cls_token() -> None:
    """Both are kept of an image; each schedule sees the one that it asks for."""
    subject, kept = tiny("llava"), Kept()
    for scorer in ("cls", "column_mean"):
        schedule = _schedule("llava", "anchors", scorer)
        plain, ran = _ran(subject, schedule, ONE), _ran(subject, schedule, ONE, kept=kept)
        assert _kept_tokens(ran) == _kept_tokens(plain)


def test_a_selection_that_asks_for_more_than_is_kept_runs_the_tower() -> None:
    """It gets what it asks for, and nothing is kept of the image."""
    subject, schedule, kept = tiny("llava"), _schedule("llava", "anchors"), Kept(frozenset())
    assert torch.equal(_ran(subject, schedule, ONE, kept=kept).logits, _ran(subject, schedule, ONE).logits)
    assert not kept.images


def test_only_what_the_model_reads_is_kept() -> None:
    """Of LLaVA's hidden states the one that becomes features, of Qwen's tower the merged tokens."""
    for name, fields in (("llava", {"hidden_states"}), ("qwen2_5_vl", {"pooler_output"})):
        kept = Kept(frozenset())
        _ran(tiny(name), Schedule(), ONE, kept=kept)
        (image,) = kept.images.values()
        assert set(image.output) == fields
        assert not image.found
    states = tiny("llava").model.config.vision_config.hidden_size
    kept = Kept(frozenset())
    _ran(tiny("llava"), Schedule(), ONE, kept=kept)
    assert next(iter(kept.images.values())).bytes == 26 * states * 4


@pytest.mark.parametrize("name", ["llava", "qwen3_vl"])
def test_the_model_is_as_before_behind_the_block(name: str) -> None:
    """Neither hooks nor another forward are left, also where an answer fails."""
    subject = fresh(name)
    plain = generate(subject.model, subject.inputs(ONE), 1).logits
    before = hooks(subject.model)  # the library places some of its own the first time
    with pytest.raises(ValueError, match="tokens"), encode_once(subject.model, Kept()):
        subject.model(**subject.inputs(ONE) | {"input_ids": torch.ones(1, 3, dtype=torch.long)})
    assert hooks(subject.model) == before
    assert torch.equal(generate(subject.model, subject.inputs(ONE), 1).logits, plain)


def test_another_librarys_forward_is_used_and_put_back() -> None:
    """Such as that of accelerate, which stands in the place of the tower's own."""
    subject, calls = fresh("llava"), []
    tower = _tower(subject)
    own = tower.forward

    def theirs(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return own(*args, **kwargs)

    tower.forward = theirs
    with encode_once(subject.model, kept := Kept()):
        generate(subject.model, subject.inputs(ONE), 1)
        generate(subject.model, subject.inputs(ONE), 1)
    assert tower.forward is theirs
    assert len(calls) == len(kept.images) == 1


def test_gradients_are_recorded_through_the_tower_itself() -> None:
    """A forward pass that trains is not answered from what was kept."""
    subject = fresh("llava")
    with encode_once(subject.model, kept := Kept()):
        loss = subject.model(**subject.inputs(ONE)).logits.sum()
    loss.backward()
    assert not kept.images
    assert any(weight.grad is not None for weight in _tower(subject).parameters())


def test_a_copy_made_inside_would_run_the_originals_tower_and_is_refused() -> None:
    """One sentence instead of features of other weights."""
    subject = fresh("llava")
    with encode_once(subject.model, Kept()), pytest.raises(RoutingError, match="can't be copied"):
        copy.deepcopy(subject.model)


def test_threads_encode_with_one_model_at_once() -> None:
    """Each gets the answer that it gets alone."""
    subject, kept = tiny("qwen2_5_vl"), Kept()
    samples: list[Sample] = [(4, (2 + index, 3), 5) for index in range(4)]
    alone = [_ran(subject, Schedule(), sample).tokens for sample in samples]
    found: dict[int, list[list[int]]] = {}

    def ask(index: int) -> None:
        for _ in range(3):
            found[index] = generate(subject.model, subject.inputs(samples[index]), 3).tokens

    with encode_once(subject.model, kept):
        threads = [threading.Thread(target=ask, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[index] for index in range(4)] == alone
    assert len(kept.images) == 4
