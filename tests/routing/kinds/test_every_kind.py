"""What holds for every kind of layer, against the layers run by hand: prompts, answers, turns, beams."""

import pytest
import torch
from transformers import DynamicCache

from routing.checks.reference import Cut, after, dense, extended, greedy
from routing.checks.runs import ACTIONS, close, generate, generate_routed, holding, plan
from routing.checks.subjects import ONE, RAGGED
from routing.engine import routed
from routing.families import locate
from tests.routing.kinds.truth import MODELS, WINDOW, beams, by_hand, subject, visible

CUTS = {  # where decisions stand: in layers of either kind, from the first, and as late as they may
    "gemma3": ((Cut(1, 0.5), Cut(3, 0.25)), (Cut(0, 0.5), Cut(4, 0.2))),
    "cohere2": ((Cut(1, 0.5), Cut(2, 0.25)),),
    "mistral": ((Cut(1, 0.5), Cut(3, 0.25)),),
    "llama4": ((Cut(1, 0.5), Cut(3, 0.25)), (Cut(0, 0.5), Cut(5, 0.2))),
    "qwen3_5": ((Cut(1, 0.5), Cut(3, 0.25)), (Cut(0, 0.5), Cut(2, 0.3), Cut(5, 0.1))),
    "qwen3_5_moe": ((Cut(2, 0.5), Cut(3, 0.25)),),
    "lfm2": ((Cut(0, 0.5), Cut(3, 0.25)), (Cut(2, 0.5), Cut(4, 0.2))),
    "nemotron": ((Cut(0, 0.6), Cut(1, 0.5), Cut(4, 0.25)),),
    "gemma4": ((Cut(0, 0.5), Cut(2, 0.25)),),
    "gemma3n": ((Cut(1, 0.5), Cut(2, 0.25)),),
}
CASES = [
    (name, attention, cuts)
    for name, several in CUTS.items()
    for attention, cuts in zip(("sdpa", "eager"), several, strict=False)
]
IDS = [f"{name}-{attention}" for name, attention, _ in CASES]
FAR = WINDOW + 3  # decoded tokens, so that windows have forgotten the prompt
QUESTION = [31, 32, 33, 34, 35]


@pytest.mark.parametrize("name", MODELS)
def test_the_framework_sees_by_the_same_positions(name):
    """The masks of the truth are those of the unhooked model: windows, chunks, blocks of an image."""
    model, inputs = subject(name).model, subject(name).inputs(ONE)
    masks = zip(visible(model, inputs["input_ids"][0]), dense(model, inputs).masks, strict=True)
    for ours, theirs in masks:
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs > -1.0)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("name", "attention", "cuts"), CASES, ids=IDS)
def test_prompt_and_answer_are_those_of_the_layers_by_hand(name, attention, cuts, action):
    """Kept sets, scores, last logits and greedy tokens, of an answer longer than any window."""
    model = subject(name, attention)
    expected, tokens = greedy(model.model, model.inputs(ONE), cuts, action == "reroute", FAR, by_hand)
    ran = generate_routed(model, plan(cuts, action), ONE, new=FAR)
    assert ran.kept() == expected.kept
    for stage, scores in zip(ran.trace.stages, expected.scores, strict=True):
        candidates = stage.scores[0] > float("-inf")
        assert close(stage.scores[0][candidates], scores[candidates])
    assert close(ran.logits[0], expected.logits)
    assert ran.tokens[0] == tokens


@pytest.mark.parametrize(("name", "attention", "cuts"), CASES, ids=IDS)
def test_a_later_turn_and_beams_are_those_of_the_layers_by_hand(name, attention, cuts):
    """A text question on the used cache, and three beams whose caches are reordered, recomputed uncached."""
    model, schedule = subject(name, attention), plan(cuts, "reroute")
    inputs = model.inputs(ONE)
    prefill, said = greedy(model.model, inputs, cuts, True, 3, by_hand)
    tokens = said + QUESTION
    for _ in range(4):
        logits = after(model.model, inputs, cuts, True, prefill.kept, tokens, by_hand)
        tokens = [*tokens, int(logits.argmax())]
    with routed(locate(model.model), schedule) as trace:
        first = generate(model.model, inputs, 3)
        second = generate(model.model, extended(inputs, said + QUESTION), 4, **holding(first.cache))
    assert first.tokens[0] == said
    assert second.tokens[0] == tokens[3 + len(QUESTION) :]
    assert len(trace.prefills) == 1
    ran = generate_routed(model, schedule, ONE, new=4, num_beams=3)
    assert ran.tokens[0] == beams(model.model, inputs, cuts, True, 3, 4)


@pytest.mark.parametrize(("name", "attention", "cuts"), CASES, ids=IDS)
def test_a_ragged_batch_gives_what_each_sample_gets_alone(name, attention, cuts):
    """Left-padded, with other numbers of images and visual tokens: kept sets, logits, long answers, beams."""
    model, schedule = subject(name, attention), plan(cuts, "reroute")
    batch = generate_routed(model, schedule, *RAGGED, new=FAR)
    wide = generate_routed(model, schedule, *RAGGED, new=4, num_beams=2)
    for row, sample in enumerate(RAGGED):
        alone = generate_routed(model, schedule, sample, new=FAR)
        assert not model.visual(sample) or batch.kept(row) == alone.kept()
        assert close(batch.logits[row], alone.logits[0])
        assert batch.tokens[row] == alone.tokens[0]
        assert wide.tokens[row] == generate_routed(model, schedule, sample, new=4, num_beams=2).tokens[0]


@pytest.mark.parametrize(("name", "attention", "cuts"), CASES, ids=IDS)
def test_keeping_everything_changes_no_bit(name, attention, cuts):
    """Keep ratio 1.0: logits and tokens of the unhooked model, single and left-padded, beyond any window."""
    model = subject(name, attention)
    everything = plan([Cut(cut.layer, 1.0) for cut in cuts], "reroute")
    for samples in ((ONE,), RAGGED):
        expected = generate(model.model, model.inputs(*samples), FAR)
        found = generate_routed(model, everything, *samples, new=FAR)
        assert torch.equal(found.logits, expected.logits)
        assert found.tokens == expected.tokens


@pytest.mark.parametrize("name", ["gemma3", "llama4", "gemma4", "gemma3n"])
def test_a_cache_that_knows_no_config_gives_the_same(name):
    """A caller's own DynamicCache() keeps all tokens of a window, and its masks leave them out."""
    model, schedule = subject(name), plan(CUTS[name][0], "reroute")
    expected = generate_routed(model, schedule, ONE, new=FAR)
    found = generate_routed(model, schedule, ONE, new=FAR, **holding(DynamicCache()))
    assert found.tokens == expected.tokens
    assert torch.equal(found.logits, expected.logits)


@pytest.mark.parametrize("name", ["gemma3", "llama4", "lfm2", "gemma4", "gemma3n"])
def test_prompt_lookup_says_what_greedy_says(name):
    """Guessed tokens, verified several at a time and taken back from every kind of cache, change nothing."""
    model, schedule = subject(name), plan(CUTS[name][0], "reroute")
    inputs, lengths = model.inputs((40, (3, 4), 50)), []
    inputs["input_ids"][0, -1] = inputs["input_ids"][0, 5]  # so that guesses come with the prompt itself
    handle = model.model.register_forward_pre_hook(
        lambda _, args, given: lengths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        with routed(locate(model.model), schedule) as trace:
            guessed = generate(model.model, inputs, 16, prompt_lookup_num_tokens=3)
            several = [length for length in lengths[1:] if length > 1]
            plain = generate(model.model, inputs, 16)
    finally:
        handle.remove()
    assert several, "nothing was guessed"
    assert guessed.tokens == plain.tokens
    first, second = ([stage.kept[0].tolist() for stage in prefill.stages] for prefill in trace.prefills)
    assert first == second
