"""Prompts that begin with the same images share that beginning, and get what each of them gets alone."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

import routing
from routing.cache import DynamicLayer
from routing.checks import subjects
from routing.checks.reference import Cut
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, close, generate, hooks, plan
from routing.checks.subjects import ALL, COUSINS, IMAGE, fresh, tiny
from routing.errors import RoutingError, UnsupportedInputError, UnsupportedModelError
from routing.families import locate
from routing.methods import SCORERS
from routing.prefix import PackedRows, why_not_shared
from routing.schedule import VisionStage
from routing.vision.repeats import equal_groups

DENSE = routing.Schedule()
SCHEDULES = {"dense": DENSE, **{action: plan(HALF_THEN_QUARTER, action) for action in ACTIONS}}
BEGINNING = (4, (3, 4))
QUESTIONS = ((20, 21, 22), (30, 31, 32, 33, 34, 35), (20, 21, 25, 26, 27))
REFUSED = ("paligemma", "qwen3_vl", "qwen3_vl_moe")
SHARING = [name for name in (*ALL, *COUSINS) if name not in REFUSED]


def prompts(subject, *rows, images=None):
    """A left-padded batch of these rows of ids. images: of each row, by default those of BEGINNING."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    shown = images or [subject.pictures(BEGINNING)] * len(rows)
    inputs = {"input_ids": ids, "attention_mask": mask}
    inputs |= {name: torch.cat([one[name] for one in shown]) for name in shown[0]}
    if subject.family in subjects._GRID:
        inputs["mm_token_type_ids"] = (ids == IMAGE).int()
    return inputs


def asked(subject, questions=QUESTIONS, beginning=BEGINNING):
    """The ids of each question behind the same beginning."""
    return [[*subject.ids(beginning), *question] for question in questions]


def shared(subject, schedule, inputs, **more):
    """A generation that shares the beginning, and its kept sets."""
    with routing.route(subject.model, schedule, share_prefix=True) as trace:
        return replace(generate(subject.model, inputs, **more), trace=trace)


def same_as_alone(subject, schedule, rows, images=None, **more):
    """Every row of the batch has the kept sets, tokens and logits that it has alone, not shared."""
    together = shared(
        subject, schedule, prompts(subject, *rows, images=images and images * len(rows)), **more
    )
    for place, row in enumerate(rows):
        inputs = prompts(subject, row, images=images)
        with routing.route(subject.model, schedule) as trace:
            alone = replace(generate(subject.model, inputs, **more), trace=trace)
        assert together.kept(place) == alone.kept()
        assert together.tokens[place] == alone.tokens[0]
        assert close(together.logits[place], alone.logits[0])
    return together


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", SHARING)
def test_rows_get_what_they_get_alone(name, attention, schedule):
    """Kept sets and greedy tokens exactly, last logits within 1e-5; the dense model alone has no hook."""
    subject = tiny(name, attention)
    same_as_alone(subject, schedule, asked(subject))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_rows_part_where_the_first_ranking_looks(name, action):
    """The same where an earlier layer ranks, where the entrance decides, and where nothing is before it."""
    subject = tiny(name)
    for cuts in ((Cut(3, 0.6, 2), Cut(5, 0.3)), (Cut(0, 0.5), Cut(3, 0.3)), (Cut(5, 0.5),)):
        same_as_alone(subject, plan(cuts, action), asked(subject))


@pytest.mark.parametrize("scorer", sorted(SCORERS))
def test_rows_get_what_they_get_alone_whatever_ranks(scorer):
    """Every ranking: by the last token, by the question's words, by states, by chance, and by merging."""
    subject = tiny("llava")
    same_as_alone(subject, plan(HALF_THEN_QUARTER, "prune", scorer=scorer), asked(subject))


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_a_choice_at_the_tower_is_made_once_for_all_rows(name):
    """The vision stage keeps the same tokens of the image in each row as in a row alone."""
    subject = tiny(name)
    stage = VisionStage(layer=2, keep_ratio=0.5, scorer="column_mean")
    schedule = routing.Schedule((routing.Stage(4, 0.25),), routing.Action.PRUNE, vision=stage)
    same_as_alone(subject, schedule, asked(subject))


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_several_images_are_shared(name):
    """Two images before the question, the second the same as the first or another."""
    subject = tiny(name)
    for second in ((3, 4), (2, 2)):
        beginning = (2, (3, 4), 3, second)
        rows = asked(subject, beginning=beginning)
        same_as_alone(subject, SCHEDULES["reroute"], rows, [subject.pictures(beginning)])


def test_equal_questions_are_one():
    """Rows without a token of their own are packed into the sequence of one."""
    subject = tiny("llava")
    rows = asked(subject, [QUESTIONS[0]] * 2)
    same_as_alone(subject, SCHEDULES["prune"], rows)
    assert widths(subject, DENSE, prompts(subject, *rows)) == [(1, len(rows[0]))] * 6


def widths(subject, schedule, inputs):
    """Rows and tokens of the batch that each decoder layer ran on in a shared prefill."""
    seen = []
    with routing.route(subject.model, schedule, share_prefix=True), torch.no_grad():
        inner = [layer.mlp for layer in locate(subject.model).layers]
        handles = [one.register_forward_hook(lambda *run: seen.append(run[-1].shape[:2])) for one in inner]
        try:
            subject.model(**inputs)
        finally:
            for handle in handles:
                handle.remove()
    return [tuple(shape) for shape in seen]


@pytest.mark.parametrize("name", ["llava", "wide_window"])
def test_the_beginning_runs_once_up_to_the_first_decision(name):
    """Layers 0 and 1 see the beginning once and each question; from layer 2 on every row has its own."""
    subject = tiny(name)
    rows = asked(subject, [question[:3] for question in QUESTIONS])
    length, visual = len(rows[0]), rows[0].count(IMAGE)
    alike = len(subject.ids(BEGINNING)) + 3 * 3
    found = widths(subject, SCHEDULES["prune"], prompts(subject, *rows))
    kept = [length - visual + int(visual * ratio) for ratio in (0.5, 0.25)]
    assert found == [(1, alike)] * 2 + [(3, kept[0])] * 2 + [(3, kept[1])] * 2
    assert widths(subject, DENSE, prompts(subject, *rows)) == [(1, alike)] * 6


@pytest.mark.parametrize("name", ["llava", "llava_next", "qwen2_5_vl", "idefics3"])
def test_the_image_is_encoded_once(name):
    """The tower gets the pixels of one image where three prompts show it, and of three that differ."""
    subject = tiny(name)
    rows, parts = asked(subject), dict(subject.model.named_modules())
    tower = next(parts[path] for path in parts if path.endswith(("patch_embed", "patch_embedding")))
    seen = []
    handle = tower.register_forward_hook(lambda _module, args, _output: seen.append(len(args[0])))
    try:
        generate(subject.model, prompts(subject, rows[0]), 1)
        shared(subject, DENSE, prompts(subject, *rows), new=1)
        generate(subject.model, prompts(subject, *rows), 1)
    finally:
        handle.remove()
    alone, once, thrice = seen
    assert (once, thrice) == (alone, 3 * alone)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "wide_window"])
def test_every_row_has_its_own_keys_in_every_layer(name):
    """Keys and values of shared layers are those that the row stores alone, at the same columns."""
    subject = tiny(name)
    rows = asked(subject)
    together = shared(subject, SCHEDULES["reroute"], prompts(subject, *rows), new=1).cache
    for place, row in enumerate(rows):
        with routing.route(subject.model, SCHEDULES["reroute"]):
            alone = generate(subject.model, prompts(subject, row), 1).cache
        for mine, own in zip(together.layers, alone.layers, strict=True):
            width = own.keys.shape[-2]
            assert close(mine.keys[place, :, -width:], own.keys[0])
            assert close(mine.values[place, :, -width:], own.values[0])


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_window_is_as_wide_for_shared_tokens_as_for_others(schedule):
    """Prompts longer than the window of a sliding layer, without a cache: the mask of each row, packed."""
    subject = tiny("narrow_window")
    rows = asked(subject)
    with routing.route(subject.model, schedule, share_prefix=True), torch.no_grad():
        positions = prompts(subject, *rows)["attention_mask"].cumsum(1).sub(1).clamp(min=0)
        inputs = prompts(subject, *rows) | {"position_ids": positions.expand(3, -1, -1)}
        together = subject.model(**inputs, use_cache=False).logits[:, -1]
    for place, row in enumerate(rows):
        inputs = prompts(subject, row) | {"position_ids": torch.arange(len(row)).expand(3, 1, -1)}
        with routing.route(subject.model, schedule), torch.no_grad():
            alone = subject.model(**inputs, use_cache=False).logits[0, -1]
        assert close(together[place], alone)


def test_beams_of_one_prompt_share_it():
    """Beam search, whose rows all begin as the prompt, ends as it does without."""
    subject, inputs = tiny("llava"), prompts(tiny("llava"), asked(tiny("llava"))[1])
    with routing.route(subject.model, SCHEDULES["reroute"]):
        expected = generate(subject.model, inputs, num_beams=3).tokens
    assert shared(subject, SCHEDULES["reroute"], inputs, num_beams=3).tokens == expected


def test_padding_on_the_right_is_shared_as_well():
    """Columns, not places from the right, say what a row's tokens are; logits at each row's last token."""
    subject = tiny("llava")
    rows = asked(subject)
    width = max(map(len, rows))
    inputs = prompts(subject, *rows)
    inputs["input_ids"] = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    inputs["attention_mask"] = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    for schedule in SCHEDULES.values():
        with routing.route(subject.model, schedule, share_prefix=True), torch.no_grad():
            together = subject.model(**inputs).logits
        for place, row in enumerate(rows):
            with routing.route(subject.model, schedule), torch.no_grad():
                alone = subject.model(**prompts(subject, row)).logits[0, -1]
            assert close(together[place, len(row) - 1], alone)


def test_a_question_before_the_image_is_refused():
    """One sentence, and nothing is answered: words before the image differ."""
    subject, image = tiny("llava"), [IMAGE] * 25
    with pytest.raises(UnsupportedInputError, match="share 1 tokens, images and positions"):
        shared(subject, DENSE, prompts(subject, [5, 6, 7, *image, 8], [5, 9, 7, *image, 8]))


def test_a_row_of_text_alone_is_refused():
    """It has no image to share."""
    subject, image = tiny("llava"), [IMAGE] * 25
    inputs = prompts(subject, [5, 6, *image, 8], [5, 6, 9, 8])
    inputs["pixel_values"] = inputs["pixel_values"][:1]
    with pytest.raises(UnsupportedInputError, match="do not reach the end of their images"):
        shared(subject, DENSE, inputs)


def test_prompts_of_different_images_are_refused():
    """The same words and places of images, other pixels."""
    subject = tiny("llava")
    rows = asked(subject)[:2]
    images = [subject.pictures(BEGINNING), subject.pictures((5, (3, 4)))]
    with pytest.raises(UnsupportedInputError, match="do not reach the end of their images"):
        shared(subject, DENSE, prompts(subject, *rows, images=images))


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_cannot_share_are_refused(name):
    """Image tokens that see the question, and features that enter between layers: one sentence on entry."""
    subject = tiny(name)
    with pytest.raises(UnsupportedModelError, match="can't share the beginning of prompts"):
        shared(subject, DENSE, {})


def test_layers_and_attention_that_cannot_share_are_refused():
    """A recurrent state, flash attention, compiled layers and a type without a file, each by its sentence."""
    location = locate(fresh("llava").model)
    assert why_not_shared(location) is None
    recurrent = replace(location.info.kinds[0], ranks=False)
    for changed, sentence in (
        (replace(location, attention="flash_attention_2"), "flash attention takes no mask"),
        (replace(location, info=replace(location.info, filed=False)), "without a file of its own"),
        (replace(location, info=replace(location.info, kinds=(recurrent,))), "a state of its layers"),
    ):
        assert sentence in why_not_shared(changed)
    location.layers[3].compile()
    assert "layers are compiled" in why_not_shared(location)


def test_a_layer_that_does_not_store_what_it_was_given_is_found(monkeypatch):
    """The engine's proof: packed tokens that never came to the cache are an error and no answer."""
    update = DynamicLayer.update

    def forgetful(layer, keys, values, *_, **__):
        update(layer, keys[..., 1:, :], values[..., 1:, :])
        return keys, values

    monkeypatch.setattr(DynamicLayer, "update", forgetful)
    subject = tiny("llava")
    with pytest.raises(RoutingError, match="layer 0 was given 43 tokens and stored 42"):
        shared(subject, DENSE, prompts(subject, *asked(subject)))


def test_the_model_is_as_before():
    """Behind the block no hook and no attribute is left, after an error inside as well."""
    subject = tiny("qwen2_5_vl")
    generate(subject.model, prompts(subject, *asked(subject)), 1)
    state = hooks(subject.model)
    shared(subject, SCHEDULES["prune"], prompts(subject, *asked(subject)))
    assert hooks(subject.model) == state
    with pytest.raises(UnsupportedInputError):
        shared(subject, DENSE, prompts(subject, *asked(subject, [QUESTIONS[0]]), subject.ids((9, (3, 4), 2))))
    assert hooks(subject.model) == state


def test_a_copy_made_inside_shares_with_the_model_and_ends_with_it():
    """A deep copy encodes with its own tower, once inside of the block and every image behind it."""
    subject = tiny("llava")
    stage = VisionStage(layer=2, keep_ratio=0.5, scorer="column_mean")
    schedule = routing.Schedule((routing.Stage(4, 0.25),), routing.Action.PRUNE, vision=stage)
    inputs = prompts(subject, *asked(subject))
    expected = shared(subject, schedule, inputs)
    with routing.route(subject.model, schedule, share_prefix=True) as trace:
        copied = deepcopy(subject.model)
        ran = generate(copied, inputs)
    assert ran.tokens == expected.tokens
    assert replace(ran, trace=trace).kept() == expected.kept()
    seen, embedding = [], copied.model.vision_tower.get_submodule("embeddings.patch_embedding")
    embedding.register_forward_hook(lambda _module, args, _output: seen.append(len(args[0])))
    generate(copied, inputs, 1)
    assert seen == [3]


def test_packed_rows_see_themselves_and_what_is_shared():
    """The mask by hand: tokens a b are shared, row 0 goes on with c, row 1, one column later, with d e."""
    rows = PackedRows(
        row=torch.tensor([0, 0, 0, 1, 1]),
        column=torch.tensor([1, 2, 3, 2, 3]),
        place=torch.tensor([[0, 0, 1, 2], [0, 1, 3, 4]]),
        shared=torch.tensor([[1, 2], [0, 1]]),
    )
    a, b, c, d, e = [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]
    assert rows.mask(None)[0, 0].int().tolist() == [a, b, c, d, e]
    near = torch.ones(4, 4).tril().triu(-1).bool()[None, None].expand(2, -1, -1, -1)
    seen = [a, b, [0, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 1, 1]]
    assert rows.mask(near)[0, 0].int().tolist() == seen
    full = torch.tensor([[9, 1, 2, 3], [1, 2, 4, 5]])
    assert rows.pack(full).tolist() == [[1, 2, 3, 4, 5]]
    assert rows.unpack(rows.pack(full)).tolist() == [[1, 1, 2, 3], [1, 2, 4, 5]]


def test_equal_groups_of_images_are_found():
    """As many as all tensors agree on: by rows of pixels and by grids."""
    pixels, grid = torch.arange(6.0).view(3, 2), torch.tensor([[1, 3]])
    assert equal_groups([pixels.repeat(4, 1), grid.repeat(4, 1)]) == 4
    assert equal_groups([pixels[:1].repeat(6, 1), torch.tensor([[1, 2], [1, 4]])]) == 1
    assert equal_groups([torch.arange(6).repeat(2)]) == 2
    assert equal_groups([torch.arange(7)]) == 1
