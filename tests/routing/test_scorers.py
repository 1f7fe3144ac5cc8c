"""Scorers other than the default, and what all scorers have in common."""

import sys

import pytest
import torch

import routing
from routing.checks.reference import Cut, decoder, dense
from routing.checks.runs import ACTIONS, HALF_THEN_QUARTER, close, generate_routed, plan
from routing.checks.subjects import ALL, COUSINS, ONE, RAGGED, fresh, tiny
from tests.routing.kinds.truth import subject
from tests.routing.rankings import BY_MORE_THAN_THE_LAST_ROWS, IN_LAYERS_OF_ANY_MAKE


def _random(seed, action="reroute", name="llava", cuts=HALF_THEN_QUARTER):
    return generate_routed(tiny(name), plan(cuts, action, scorer="random", seed=seed), ONE, new=1)


def test_random_scorer_is_reproducible_and_follows_the_seed():
    """The same seed keeps the same tokens twice, another seed keeps others."""
    assert _random(1).kept() == _random(1).kept()
    assert _random(1).kept() != _random(2).kept()


def test_random_scorer_does_not_touch_the_global_generator():
    """The control draws from its own generator: sampling elsewhere is not disturbed."""
    torch.manual_seed(4)
    state = torch.get_rng_state()
    _random(3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("action", ACTIONS)
def test_random_scorer_keeps_the_right_number_from_the_right_candidates(action):
    """Same counts as a scored schedule; under prune, survivors only."""
    first, second = _random(7, action).kept()
    assert (len(first), len(second)) == (12, 6)
    assert action == "reroute" or set(second) <= set(first)


def test_random_scorer_draws_anew_at_every_stage():
    """Under reroute a later stage is a draw of its own, not a part of the earlier one."""
    first, second = _random(7).kept()
    assert not set(second) <= set(first)


def test_random_scorer_is_about_uniform():
    """Over 60 seeds every one of 25 tokens is kept about equally often (12 of 25, four standard errors)."""
    seeds = range(60)
    times = torch.zeros(25)
    for seed in seeds:
        times[list(_random(seed, cuts=(Cut(5, 0.5),)).kept()[0])] += 1
    share, chance = times / len(seeds), 12 / 25
    assert (share - chance).abs().max() < 4 * (chance * (1 - chance) / len(seeds)) ** 0.5


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl"])
def test_last_queries_max_is_the_mean_of_three_rows_and_the_max_of_heads(name, attention):
    """Nuwa's scorer for Qwen: attention of the last three rows, averaged, then the strongest head."""
    schedule = plan((Cut(3, 0.5),), scorer="last_queries_max")
    ran = generate_routed(tiny(name, attention), schedule, ONE, new=1)
    subject = tiny(name, "eager")
    inputs = subject.inputs(ONE)
    seen = dense(subject.model, inputs)
    layer = decoder(subject.model).layers[3]
    with torch.no_grad():
        normed = layer.input_layernorm(seen.hidden[3])[None]
        given = {"position_embeddings": seen.rotary, "attention_mask": seen.masks[3][None, None]}
        weights = layer.self_attn(normed, **given)[1][0]
    scores = weights[:, -3:].mean(1).amax(0)[inputs["input_ids"][0] == subject.model.config.image_token_id]
    best = scores.argsort(descending=True, stable=True)[: len(scores) // 2]
    assert ran.kept()[0] == tuple(sorted(best.tolist()))
    assert torch.allclose(ran.trace.stages[0].scores[0], scores, atol=1e-6)


def _same_alone(subject, scorer, cuts, action):
    schedule = plan(cuts, action, scorer=scorer)
    batch = generate_routed(subject, schedule, *RAGGED, new=3)
    for row, sample in enumerate(RAGGED):
        alone = generate_routed(subject, schedule, sample, new=3)
        assert batch.kept(row) == (alone.kept() if subject.visual(sample) else ((),) * len(cuts))
        assert batch.tokens[row] == alone.tokens[0]
        assert close(batch.logits[row], alone.logits[0])


@pytest.mark.parametrize(("scorer", "action"), BY_MORE_THAN_THE_LAST_ROWS)
@pytest.mark.parametrize("name", [*ALL, *COUSINS])
def test_a_batch_is_ranked_as_each_of_its_samples(name, scorer, action):
    """Ragged pictures, questions and padding, a row of text alone, in every family."""
    _same_alone(tiny(name), scorer, HALF_THEN_QUARTER, action)


@pytest.mark.parametrize(("scorer", "action"), BY_MORE_THAN_THE_LAST_ROWS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_a_batch_is_ranked_as_its_samples_under_eager_attention(name, scorer, action):
    """The same where masks are additive, and an earlier layer ranks than the one where tokens go."""
    _same_alone(tiny(name, "eager"), scorer, (Cut(2, 0.6, 1), Cut(5, 0.3, 3)), action)


@pytest.mark.parametrize(("scorer", "action"), IN_LAYERS_OF_ANY_MAKE)
@pytest.mark.parametrize("name", ["gemma3", "qwen3_5", "lfm2", "nemotron", "deepseek_v3", "llama4"])
def test_a_batch_is_ranked_as_its_samples_in_layers_of_every_kind(name, scorer, action):
    """Windows, chunks, recurrent states, latent keys, layers without positions."""
    _same_alone(subject(name), scorer, (Cut(1, 0.6), Cut(3, 0.3)), action)


@pytest.mark.parametrize(("scorer", "action"), BY_MORE_THAN_THE_LAST_ROWS)
def test_padding_on_the_right_changes_no_ranking(scorer, action):
    """As for scoring given answers: each sample's own question asks, wherever the row ends."""
    model, samples, schedule = tiny("llava"), RAGGED[:2], plan(HALF_THEN_QUARTER, action, scorer=scorer)
    rows = [model.ids(sample) for sample in samples]
    width = max(map(len, rows)) + 3
    inputs = {
        "input_ids": torch.tensor([row + [0] * (width - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
        **model.pictures(*samples),
    }
    with routing.route(model.model, schedule) as trace, torch.no_grad():
        logits = model.model(**inputs).logits
    for row, sample in enumerate(samples):
        alone = generate_routed(model, schedule, sample, new=1)
        assert tuple(tuple(stage.kept[row].tolist()) for stage in trace.stages) == alone.kept()
        assert close(logits[row, len(rows[row]) - 1], alone.logits[0])


@pytest.mark.parametrize(("scorer", "action"), BY_MORE_THAN_THE_LAST_ROWS)
def test_guesses_of_an_assistant_do_not_ask(scorer, action):
    """Assisted decoding puts guesses behind the prompt: kept sets and tokens are those without it."""
    subject, schedule = fresh("llava"), plan(HALF_THEN_QUARTER, action, scorer=scorer)
    assistant = fresh("llava").model
    with torch.no_grad():
        assistant.lm_head.weight[:100] *= 1.2  # agrees often, not always
    alone = generate_routed(subject, schedule, ONE, new=8)
    ran = generate_routed(subject, schedule, ONE, new=8, assistant_model=assistant)
    assert ran.kept() == alone.kept()
    assert ran.tokens == alone.tokens


@pytest.mark.parametrize(
    "parts",
    [{}, {"rows": 1}, {"reduce": max}, {"draw": max, "rows": 1}, {"draw": max, "rank": max}, {"rate": max}],
)
def test_a_scorer_ranks_in_one_way(parts):
    """What says nothing, or two things, of how tokens are ranked is refused when it is made."""
    with pytest.raises(routing.RoutingError, match="a scorer has rows and reduce, or draw alone, or rank"):
        routing.methods.Scorer(**parts)


def test_ties_go_to_the_earlier_token():
    """When every key gets the same probability nothing but the order decides: the first are kept."""
    subject = tiny("llava")
    inputs = subject.inputs(ONE)
    layer = decoder(subject.model).layers[2].self_attn
    kept_weights = layer.q_proj.weight.detach().clone()
    try:
        with torch.no_grad():
            layer.q_proj.weight.zero_()  # every logit is 0
            with routing.route(subject.model, plan((Cut(2, 0.5),))) as trace:
                subject.model(**inputs)
    finally:
        with torch.no_grad():
            layer.q_proj.weight.copy_(kept_weights)
    assert trace.stages[0].kept[0].tolist() == list(range(12))


def test_unknown_scorer_is_refused_by_name():
    """The message names what was given and the scorers there are."""
    with pytest.raises(routing.RoutingError, match="nonsense") as error:
        generate_routed(tiny("llava"), plan(HALF_THEN_QUARTER, scorer="nonsense"), ONE)
    assert "last_query" in str(error.value)


def test_half_precision_scores_in_single_precision():
    """In bfloat16 the softmax is still taken in float32: the trace's scores are not rounded to bfloat16."""
    subject = tiny("llava")
    model = subject.model.to(torch.bfloat16)
    try:
        inputs = subject.inputs(ONE)
        inputs["pixel_values"] = inputs["pixel_values"].to(torch.bfloat16)
        with routing.route(model, plan((Cut(3, 0.5),))) as trace, torch.no_grad():
            model(**inputs)
    finally:
        tiny.cache_clear()
    scores = trace.stages[0].scores[0]
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.to(torch.bfloat16).float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llava", "qwen3_vl"])
def test_half_precision_is_ranked_at_least_as_finely_as_float32(name, dtype):
    """Scores are those of the layer's own half-precision queries and keys, multiplied exactly."""
    subject = fresh(name)
    subject.model.to(dtype)
    layer, seen = decoder(subject.model).layers[3], {}
    attention = layer.self_attn
    inputs = subject.inputs(ONE)
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)

    def note(_module, args, kwargs):
        seen.update(hidden=args[0], rotary=kwargs["position_embeddings"])

    handle = layer.register_forward_pre_hook(note, with_kwargs=True)
    with routing.route(subject.model, plan((Cut(3, 0.5),))) as trace, torch.no_grad():
        subject.model(**inputs)
    handle.remove()
    with torch.no_grad():
        normed = layer.input_layernorm(seen["hidden"])
        query, key = (
            getattr(attention, f"{part}_norm", torch.nn.Identity())(
                getattr(attention, f"{part}_proj")(normed).unflatten(-1, (-1, attention.head_dim))
            ).transpose(1, 2)
            for part in "qk"
        )
        rotate = sys.modules[type(attention).__module__].apply_rotary_pos_emb
        query, key = rotate(query, key, *seen["rotary"])
    groups = query.shape[1] // key.shape[1]
    products = query[0, :, -1:].double() @ key[0].repeat_interleave(groups, 0).double().transpose(-1, -2)
    expected = (products * attention.scaling).softmax(-1).mean(0)[0]
    visual = inputs["input_ids"][0] == subject.model.config.image_token_id
    assert torch.allclose(trace.stages[0].scores[0].double(), expected[visual], rtol=1e-5, atol=0)
