"""Ways of generating and of calling: beams, prompt lookup, no cache, losses, each against a recomputation."""

import pytest
import torch

import routing
from routing.checks.reference import Cut, by_gathering, extended
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, close, generate, generate_routed, plan
from routing.checks.subjects import ONE, RAGGED, fresh, tiny
from tests.routing.kinds.truth import beams

FAMILIES = ("llava", "qwen2_5_vl", "qwen3_vl", "idefics3", "glm4v", "paligemma")
WORDY = (70, (3, 4), 90)
LAYER_ZERO = (Cut(0, 0.5), Cut(3, 0.25))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "paligemma"])
def test_beam_search_equals_a_search_by_hand(name, action):
    """Three beams, whose caches are reordered at every step, find what an uncached search finds."""
    subject = tiny(name)
    prompt = subject.model, subject.inputs(ONE), HALF_THEN_QUARTER, action == "reroute"
    expected = beams(by_gathering, *prompt, 3, 4)
    ran = generate_routed(subject, plan(HALF_THEN_QUARTER, action), ONE, new=4, num_beams=3)
    assert ran.tokens[0] == expected


@pytest.mark.parametrize("cuts", [HALF_THEN_QUARTER, LAYER_ZERO], ids=["from-2", "from-0"])
@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "idefics3", "paligemma"])
def test_beam_search_of_a_ragged_batch_equals_single(name, cuts):
    """Beams of different samples are not mixed up when the padding of the routed cache is ragged."""
    subject, schedule = tiny(name), plan(cuts, "reroute")
    batch = generate_routed(subject, schedule, *RAGGED, new=5, num_beams=3)
    for row, sample in enumerate(RAGGED):
        alone = generate_routed(subject, schedule, sample, new=5, num_beams=3)
        assert batch.tokens[row] == alone.tokens[0]


@pytest.mark.parametrize("cuts", [HALF_THEN_QUARTER, LAYER_ZERO], ids=["from-2", "from-0"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "idefics3", "mistral3"])
def test_prompt_lookup_says_what_greedy_says(name, action, cuts):
    """Guessed tokens, verified several at a time and taken back from the cache, change nothing."""
    subject, schedule = tiny(name), plan(cuts, action)
    inputs = subject.inputs(WORDY)
    inputs["input_ids"][0, -1] = inputs["input_ids"][0, 5]  # so that guesses come with the prompt itself
    lengths = []
    handle = subject.model.register_forward_pre_hook(
        lambda _, args, given: lengths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        with routing.route(subject.model, schedule) as trace:
            ran = generate(subject.model, inputs, 16, prompt_lookup_num_tokens=3)
            guessing = list(lengths)
            plain = generate(subject.model, inputs, 16)
    finally:
        handle.remove()
    assert guessing[0] > inputs["input_ids"].shape[1], "nothing was guessed with the prompt"
    assert any(length > 1 for length in guessing[1:]), "nothing was guessed later"
    assert ran.tokens == plain.tokens
    first, second = ([stage.kept[0].tolist() for stage in prefill.stages] for prefill in trace.prefills)
    assert first == second


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_assistant_model_changes_no_token(name):
    """Drafts of another model, accepted or not, end in the routed model's own greedy tokens."""
    subject, schedule = tiny(name), plan(HALF_THEN_QUARTER, "reroute")
    assistant = fresh(name).model
    with torch.no_grad():
        assistant.lm_head.weight[:100] *= 1.2  # agrees often, not always
    ran = generate_routed(subject, schedule, ONE, new=10, assistant_model=assistant)
    assert ran.tokens == generate_routed(subject, schedule, ONE, new=10).tokens


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_several_returned_sequences_belong_to_their_sample(name):
    """With num_return_sequences the first sample's beams are those it has alone."""
    subject, schedule, beams = (
        tiny(name),
        plan(HALF_THEN_QUARTER),
        {"num_beams": 4, "num_return_sequences": 2},
    )
    batch = generate_routed(subject, schedule, *RAGGED[:2], new=4, **beams)
    for row, sample in enumerate(RAGGED[:2]):
        alone = generate_routed(subject, schedule, sample, new=4, **beams)
        assert batch.tokens[2 * row : 2 * row + 2] == alone.tokens


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", FAMILIES)
def test_without_a_cache_every_step_is_a_routed_prefill(name, action):
    """use_cache=False: each forward pass selects anew, as a prefill of its sequence would."""
    subject = tiny(name)
    if name == "paligemma" and "_update_model_kwargs_for_generation" not in vars(type(subject.model)):
        pytest.skip("this transformers extends PaliGemma's bidirectional prefix without a cache")
    inputs, tokens = subject.inputs(ONE), []
    for _ in range(3):
        expected = by_gathering(
            subject.model, extended(inputs, tokens), HALF_THEN_QUARTER, action == "reroute"
        )
        tokens.append(int(expected.logits.argmax()))
    ran = generate_routed(subject, plan(HALF_THEN_QUARTER, action), ONE, new=3, use_cache=False)
    assert ran.tokens[0] == tokens
    assert len(ran.trace.prefills) == 3


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "paligemma"])
def test_logits_of_all_text_positions_are_those_of_the_reference(name, action, attention):
    """The last layer's output has the full length again, with every text token's state at its own place."""
    subject = tiny(name, attention)
    inputs = subject.inputs(ONE)
    expected = by_gathering(subject.model, inputs, HALF_THEN_QUARTER, action == "reroute").every
    with routing.route(subject.model, plan(HALF_THEN_QUARTER, action)), torch.no_grad():
        logits = subject.model(**inputs).logits[0]
    text = inputs["input_ids"][0] != subject.model.config.image_token_id
    assert logits.shape == expected.shape
    assert close(logits[text], expected[text])


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "idefics3"])
def test_loss_on_the_answer_is_that_of_the_reference(name, action):
    """With labels on the last five text tokens the loss is the cross-entropy of the reference's logits."""
    subject = tiny(name)
    inputs = subject.inputs(ONE)
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, -5:] = inputs["input_ids"][:, -5:]
    with routing.route(subject.model, plan(HALF_THEN_QUARTER, action)), torch.no_grad():
        loss = subject.model(**inputs, labels=labels).loss
    every = by_gathering(subject.model, inputs, HALF_THEN_QUARTER, action == "reroute").every
    expected = torch.nn.functional.cross_entropy(every[-6:-1], labels[0, -5:])
    assert abs(float(loss - expected)) < 1e-5


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "paligemma"])
def test_attention_mask_may_be_left_out(name):
    """A single unpadded prompt gives the same without its all-ones mask."""
    subject, schedule = tiny(name), plan(HALF_THEN_QUARTER, "reroute")
    inputs = subject.inputs(ONE)
    bare = {key: value for key, value in inputs.items() if key != "attention_mask"}
    with routing.route(subject.model, schedule), torch.no_grad():
        with_mask = subject.model(**inputs).logits[0, -1]
        without = subject.model(**bare).logits[0, -1]
    assert close(with_mask, without)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_sampling_with_a_seed_is_reproducible(name):
    """Routing draws no random numbers of its own: the same seed samples the same tokens."""
    subject, schedule = tiny(name), plan(HALF_THEN_QUARTER, "reroute", scorer="random", seed=5)
    runs = []
    for _ in range(2):
        torch.manual_seed(11)
        runs.append(generate_routed(subject, schedule, ONE, new=8, do_sample=True).tokens)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    with routing.route(subject.model, schedule), torch.no_grad():
        subject.model(**subject.inputs(ONE))
    assert runs[0] == runs[1]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl"])
def test_forward_and_generate_agree(name):
    """One forward pass gives the logits generate() starts from, though generate encodes pictures first."""
    subject, schedule = tiny(name), plan(HALF_THEN_QUARTER, "reroute")
    with routing.route(subject.model, schedule), torch.no_grad():
        logits = subject.model(**subject.inputs(ONE)).logits[0, -1]
        ran = generate(subject.model, subject.inputs(ONE), 2)
    assert close(logits, ran.logits[0])
