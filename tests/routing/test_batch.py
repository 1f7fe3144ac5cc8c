"""A batch gives every sample what it gets alone: left padding, ragged pictures, a text-only row."""

import pytest
import torch

import routing
from routing.checks.reference import Cut, by_gathering
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, close, generate_routed, plan, stored
from routing.checks.subjects import ALL, COUSINS, RAGGED, TEXT_ONLY, tiny

LAYER_ZERO = (Cut(0, 0.5), Cut(3, 0.25))


def _same_alone(name, attention, cuts, action, samples=RAGGED, **more):
    subject, schedule = tiny(name, attention), plan(cuts, action, **more)
    batch = generate_routed(subject, schedule, *samples, new=5)
    for row, sample in enumerate(samples):
        alone = generate_routed(subject, schedule, sample, new=5)
        assert batch.kept(row) == (alone.kept() if subject.visual(sample) else ((),) * len(cuts))
        assert batch.tokens[row] == alone.tokens[0]
        assert close(batch.logits[row], alone.logits[0])
    return batch


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", [*ALL, *COUSINS])
def test_batch_equals_single(name, action):
    """Kept sets and greedy tokens exactly, last logits within 1e-5, for every family."""
    _same_alone(name, "sdpa", HALF_THEN_QUARTER, action)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "idefics3", "paligemma"])
def test_batch_equals_single_under_eager_attention(name, action):
    """The same with eager attention, whose masks are additive and whose filler rows must not become NaN."""
    _same_alone(name, "eager", HALF_THEN_QUARTER, action)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "glm4v", "paligemma", "ministral3"])
def test_batch_equals_single_from_layer_zero(name, action):
    """The same when no layer is dense, so that not one cache layer shows the true length of the prompt."""
    _same_alone(name, "sdpa", LAYER_ZERO, action)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_batch_equals_single_when_another_layer_scores(name):
    """The same with `scored_by`."""
    _same_alone(name, "sdpa", (Cut(2, 0.6), Cut(5, 0.3, 3)), "reroute")


def test_random_scorer_does_not_depend_on_the_batch():
    """The seeded control keeps the same tokens of a sample in any company."""
    _same_alone("llava", "sdpa", HALF_THEN_QUARTER, "reroute", scorer="random", seed=3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("cuts", [HALF_THEN_QUARTER, LAYER_ZERO], ids=["from-2", "from-0"])
def test_prompts_of_equal_length_with_unequal_pictures_equal_single(cuts, action, attention):
    """No padding, hence no mask from the framework, and yet the kept counts are ragged."""
    samples = ((5, (2, 3), 10), (6, (2, 4), 7), (23,), (3, (3, 4), 6))
    assert len({len(tiny("qwen2_vl").ids(sample)) for sample in samples}) == 1
    _same_alone("qwen2_vl", attention, cuts, action, samples)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_order_of_the_batch_does_not_matter(attention):
    """Reversing the batch reverses the results."""
    subject, schedule = tiny("qwen2_5_vl", attention), plan(HALF_THEN_QUARTER, "reroute")
    forth = generate_routed(subject, schedule, *RAGGED)
    back = generate_routed(subject, schedule, *RAGGED[::-1])
    assert [forth.kept(row) for row in range(4)] == [back.kept(row) for row in (3, 2, 1, 0)]
    assert forth.tokens == back.tokens[::-1]


def test_text_only_row_keeps_no_visual_token():
    """A text-only row among pictures has empty kept sets of its own."""
    ran = generate_routed(tiny("llava"), plan(HALF_THEN_QUARTER, "prune"), *RAGGED)
    assert ran.kept(RAGGED.index(TEXT_ONLY)) == ((), ())
    assert ran.trace.prefills[-1].visual_tokens == (25, 50, 0, 25)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "paligemma"])
def test_stored_columns_of_a_ragged_batch_are_the_longest_row(name, action):
    """Per layer the cache holds as many columns as the longest sample really needs, not the padded prompt."""
    subject = tiny(name)
    ran = generate_routed(subject, plan(HALF_THEN_QUARTER, action), *RAGGED, new=1)
    visual = [subject.visual(sample) for sample in RAGGED]
    text = [len(subject.ids(sample)) - count for sample, count in zip(RAGGED, visual, strict=True)]

    def longest(ratio):
        return max(t + (max(1, int(v * ratio)) if v else 0) for t, v in zip(text, visual, strict=True))

    assert stored(ran.cache)[2:] == [longest(0.5)] * 2 + [longest(0.25)] * 2


@pytest.mark.parametrize("action", ACTIONS)
def test_padding_length_does_not_matter(action):
    """Ten more columns of padding change neither kept sets, tokens nor last logits."""
    subject, schedule = tiny("llava"), plan(HALF_THEN_QUARTER, action)
    tight = generate_routed(subject, schedule, RAGGED[0])
    padded = subject.inputs(RAGGED[0])
    for name in ("input_ids", "attention_mask"):
        padded[name] = torch.nn.functional.pad(padded[name], (10, 0))
    with routing.route(subject.model, schedule) as trace, torch.no_grad():
        tokens = subject.model.generate(**padded, do_sample=False, max_new_tokens=6)[0, -6:].tolist()
        logits = subject.model(**padded).logits[0, -1]
    assert tuple(tuple(stage.kept[0].tolist()) for stage in trace.stages) == tight.kept()
    assert tokens == tight.tokens[0]
    assert close(logits, tight.logits[0])


@pytest.mark.parametrize("action", ACTIONS)
def test_right_padding_is_routed_by_the_last_real_token(action):
    """Padding on the right, as for scoring given answers: every sample's own last prompt token ranks."""
    subject, samples = tiny("llava"), RAGGED[:2]
    rows = [subject.ids(sample) for sample in samples]
    width = max(map(len, rows))
    inputs = {
        "input_ids": torch.tensor([row + [0] * (width - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
        **subject.pictures(*samples),
    }
    with routing.route(subject.model, plan(HALF_THEN_QUARTER, action)) as trace, torch.no_grad():
        logits = subject.model(**inputs).logits
    for row, sample in enumerate(samples):
        arguments = (subject.inputs(sample), HALF_THEN_QUARTER, action == "reroute")
        expected = by_gathering(subject.model, *arguments)
        assert tuple(tuple(stage.kept[row].tolist()) for stage in trace.stages) == expected.kept
        assert close(logits[row, len(rows[row]) - 1], expected.logits)


@pytest.mark.parametrize("action", ACTIONS)
def test_masked_token_inside_the_prompt_stays_masked(action):
    """A zero in the attention mask between real tokens hides that token from scores and layers alike."""
    subject = tiny("llava")
    inputs = subject.inputs(RAGGED[0])
    inputs["attention_mask"][0, 1] = 0
    expected = by_gathering(subject.model, inputs, HALF_THEN_QUARTER, action == "reroute")
    with routing.route(subject.model, plan(HALF_THEN_QUARTER, action)) as trace, torch.no_grad():
        logits = subject.model(**inputs).logits[0, -1]
    assert tuple(tuple(stage.kept[0].tolist()) for stage in trace.stages) == expected.kept
    assert close(logits, expected.logits)
