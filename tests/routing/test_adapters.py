"""Models under PEFT adapters are routed like their merged twins, by the wrapper and by the model inside."""

import copy

import pytest
import torch

import routing
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, generate, plan
from routing.checks.subjects import ONE, RAGGED, fresh

peft = pytest.importorskip("peft", reason="!!! ADAPTERS WERE NOT TRIED: pip install 'reroute[peft]'")
EVERY = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]
DECODER = r".*(language_model|text_model)\.layers\..*\.({})".format("|".join(EVERY))
LORA = peft.LoraConfig(r=4, target_modules=DECODER, init_lora_weights=False)
KINDS = {
    "lora": LORA,
    "keys alone": peft.LoraConfig(r=4, target_modules=r".*layers.*\.k_proj", init_lora_weights=False),
    "dora": peft.LoraConfig(r=4, target_modules=DECODER, init_lora_weights=False, use_dora=True),
    "ia3": peft.IA3Config(target_modules=DECODER, feedforward_modules=[], init_ia3_weights=False),
    "oft": peft.OFTConfig(oft_block_size=4, target_modules=DECODER, init_weights=False),
}


def adapted(subject, config=LORA):
    """The subject's model under a seeded adapter that changes what it says."""
    torch.manual_seed(0)
    return peft.get_peft_model(subject.model, config).eval()


def routed(model, run, schedule):
    """Logits and kept sets of `run` under a schedule on `model`."""
    with routing.route(model, schedule) as trace, torch.no_grad():
        logits = run()
    return logits, [[kept.tolist() for kept in stage.kept] for stage in trace.stages]


def assert_same(left, right):
    """The same kept sets, and logits within 1e-4."""
    assert left[1] == right[1]
    assert (left[0] - right[0]).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "qwen3_vl", "idefics3"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("given", ["wrapper", "inside"])
def test_an_adapted_model_is_routed_like_its_merged_twin(family, action, given):
    """Kept sets exactly, logits within 1e-4, a padded batch, LoRA on every projection."""
    schedule, subject = plan(HALF_THEN_QUARTER, action), fresh(family)
    model = adapted(subject)
    merged = copy.deepcopy(model).merge_and_unload()
    inputs = subject.inputs(*RAGGED)
    expected = routed(merged, lambda: merged(**inputs).logits, schedule)
    hooked = model if given == "wrapper" else subject.model
    found = routed(hooked, lambda: model(**inputs).logits, schedule)
    assert_same(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter_is_routed_like_its_merged_twin(kind):
    """Greedy tokens too, through the wrapper's own generate()."""
    schedule, subject = plan(HALF_THEN_QUARTER, "reroute"), fresh("llava")
    model = adapted(subject, KINDS[kind])
    merged = copy.deepcopy(model).merge_and_unload()
    with routing.route(merged, schedule):
        expected = generate(merged, subject.inputs(ONE), 4)
    with routing.route(model, schedule) as trace:
        ran = generate(model, subject.inputs(ONE), 4)
    assert len(trace.prefills) == 1
    assert ran.tokens == expected.tokens
    assert (ran.logits - expected.logits).abs().max() < 1e-4


def test_a_switched_off_adapter_is_routed_like_the_model_without():
    """disable_adapter() inside the block, on the very same route."""
    schedule, subject = plan(HALF_THEN_QUARTER, "prune"), fresh("llava")
    plain = fresh("llava").model
    expected = routed(plain, lambda: plain(**subject.inputs(ONE)).logits, schedule)
    model = adapted(subject)

    def off():
        with model.disable_adapter():
            return model(**subject.inputs(ONE)).logits

    assert_same(routed(model, off, schedule), expected)


def test_samples_of_one_batch_may_have_adapters_of_their_own():
    """adapter_names mixes adapters in a batch: each sample as alone under its own."""
    schedule, subject = plan(HALF_THEN_QUARTER, "reroute"), fresh("llava")
    model = adapted(subject)
    model.add_adapter("other", LORA)
    samples, names = (ONE, (4, (3, 4), 9)), ["default", "other"]
    with routing.route(model, schedule), torch.no_grad():
        both = generate(model, subject.inputs(*samples), 3, adapter_names=names).tokens
        for sample, name, tokens in zip(samples, names, both, strict=True):
            model.set_adapter(name)
            assert generate(model, subject.inputs(sample), 3).tokens == [tokens]


def test_the_wrapper_says_which_token_asks():
    """logits_to_keep, as assisted decoding passes it, reaches the engine through a wrapper's forward."""
    schedule, subject = plan(HALF_THEN_QUARTER, "prune"), fresh("llava")
    model = adapted(subject)
    inputs = subject.inputs(ONE)
    asked = routed(model, lambda: model(**inputs, logits_to_keep=3).logits, schedule)
    inside = routed(subject.model, lambda: subject.model(**inputs, logits_to_keep=3).logits, schedule)
    last = routed(model, lambda: model(**inputs).logits, schedule)
    assert_same(asked, inside)
    assert asked[1] != last[1]


@pytest.mark.parametrize(
    "config",
    [
        peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    ],
    ids=["prefix", "prompt"],
)
def test_adapters_that_put_tokens_of_their_own_in_front_are_refused(config):
    """They hide the prompt from the engine, or fill the cache before it: never routed in silence."""
    subject = fresh("llava")
    model = adapted(subject, config)
    schedule = plan(HALF_THEN_QUARTER, "prune")
    with pytest.raises(routing.RoutingError), routing.route(model, schedule), torch.no_grad():
        model(**subject.inputs(ONE))
