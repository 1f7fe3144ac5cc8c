"""What the framework calls things is bound by role; what cannot be bound is refused by name."""

import inspect
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import DynamicCache

import routing
from routing import host
from routing.checks.reference import decoder
from routing.checks.runs import HALF_THEN_QUARTER, generate, plan
from routing.checks.subjects import ALL, COUSINS, ONE, fresh, tiny
from routing.host import BASE_ROLES, LAYER_ROLES, NAMES, Role, bind, cache_of
from tests.routing.future import RENAMED, future

SCHEDULE = plan(HALF_THEN_QUARTER, "reroute")


def _refused(model, match, schedule=SCHEDULE):
    """`route` refuses the model on entry with a message like `match`."""
    with pytest.raises(routing.UnsupportedModelError, match=match), routing.route(model, schedule):
        pytest.fail("entered")


@pytest.mark.parametrize("role", list(RENAMED))
def test_a_renamed_argument_of_a_layer_is_refused_by_role(role):
    """A release that renames an argument: `route` names the role, the class and the versions."""
    subject = fresh("llava")
    layers = decoder(subject.model).layers
    layers[3] = future(role)(layers[3])
    with pytest.raises(routing.UnsupportedModelError) as told, routing.route(subject.model, SCHEDULE):
        pytest.fail("entered")
    message = str(told.value)
    assert message.startswith(f"Future.forward has no argument for the {role} (known as ")
    assert f"transformers {host.version('transformers')}, torch {host.version('torch')}" in message


@pytest.mark.parametrize("role", BASE_ROLES)
def test_a_renamed_argument_of_the_base_model_is_refused_by_role(role, monkeypatch):
    """The same for what the engine reads of the base model."""
    monkeypatch.setitem(host.NAMES, role, ("of_another_age",))
    _refused(fresh("llava").model, f"no argument for the {role} ")


def test_a_renamed_argument_of_the_head_is_refused_by_role(monkeypatch):
    """Assisted decoding says with `logits_to_keep` which token asks: without it the wrong one would."""
    monkeypatch.setitem(host.NAMES, Role.LOGITS_TO_KEEP, ("of_another_age",))
    _refused(fresh("llava").model, "no argument for the logits to keep")


def test_a_model_that_cannot_be_bound_still_runs_dense(monkeypatch):
    """A dense schedule hooks nothing, so it needs no names."""
    monkeypatch.setitem(host.NAMES, Role.POSITION_IDS, ("of_another_age",))
    subject = tiny("llava")
    with routing.route(subject.model, routing.Schedule()):
        assert generate(subject.model, subject.inputs(ONE), 2).tokens


@pytest.mark.parametrize("name", [*ALL, *COUSINS])
def test_every_layer_of_every_family_binds_every_role(name):
    """Under the installed release each argument is found, at the place it has in the signature."""
    for layer in decoder(tiny(name).model).layers:
        roles = [role for role in LAYER_ROLES if role is not Role.LAYER_INPUTS]  # Gemma 4's alone
        bound = bind(layer, roles)
        parameters = list(inspect.signature(layer.forward).parameters)
        for role in roles:
            word, place = bound.arguments[role]
            assert word in NAMES[role]
            assert parameters[place] == word


class _Layer(nn.Module):
    def forward(self, hidden_states, cache=None, attention_mask=None, **kwargs):
        return hidden_states, cache, attention_mask


def _call(forward, *args, **kwargs):
    return forward(*args, **kwargs)


def _wrapped(module):
    """The module with its forward replaced on the instance by one that says nothing of its arguments."""
    forward = module.forward
    module.forward = partial(_call, forward)
    return module


@pytest.mark.parametrize("make", [lambda module: module, _wrapped], ids=["plain", "wrapped"])
def test_values_are_read_and_written_where_the_call_has_them(make):
    """By place or by name, and under an older name where the caller uses that."""
    bound = bind(make(_Layer()), (Role.HIDDEN_STATES, Role.CACHE, Role.ATTENTION_MASK))
    assert bound.read(Role.CACHE, ("h", "c"), {}) == "c"
    assert bound.read(Role.CACHE, ("h",), {"cache": "c"}) == "c"
    assert bound.read(Role.CACHE, ("h",), {"past_key_values": "c"}) == "c"
    assert bound.read(Role.CACHE, ("h",), {"cache": None, "past_key_values": "c"}) == "c"
    assert bound.read(Role.CACHE, ("h",), {}) is None
    assert bound.write(Role.CACHE, "x", ("h", "c"), {"other": 1}) == (("h", "x"), {"other": 1})
    assert bound.write(Role.CACHE, "x", ("h",), {"past_key_values": "c"}) == (
        ("h",),
        {"past_key_values": "x"},
    )
    assert bound.write(Role.ATTENTION_MASK, "m", ("h",), {}) == (("h",), {"attention_mask": "m"})


def test_a_base_model_called_with_the_older_name_is_routed():
    """A caller's `past_key_values`, which 5.24 still translates, is the cache that routing fills."""
    subject = tiny("llava")
    expected, given = DynamicCache(), DynamicCache()
    with routing.route(subject.model, SCHEDULE), torch.no_grad():
        subject.model(**subject.inputs(ONE), past_key_values=expected)
        subject.model.model(**subject.inputs(ONE), past_key_values=given)
    lengths = [[layer.keys.shape[-2] for layer in cache.layers] for cache in (expected, given)]
    assert lengths[0] == lengths[1]
    assert len(set(lengths[0])) == 3


@pytest.mark.parametrize("path", host.LAYER_PARTS)
def test_a_missing_part_of_a_ranking_layer_is_refused_by_name(path):
    """Each part of a layer that ranking computes with: one sentence that names it."""
    subject = fresh("llava")
    layer = decoder(subject.model).layers[2]
    owner, _, name = path.rpartition(".")
    delattr(layer.get_submodule(owner), name)
    with (
        pytest.raises(
            routing.UnsupportedModelError, match=rf" has no {name} \(of LlamaDecoderLayer\.{path}\)"
        ),
        routing.route(subject.model, SCHEDULE),
    ):
        pytest.fail("entered")


def test_a_missing_rotary_function_is_refused_by_name(monkeypatch):
    """The function beside the attention class that turns queries and keys."""
    attention = decoder(tiny("llava").model).layers[2].self_attn
    monkeypatch.delattr(f"{type(attention).__module__}.{host.ROTATE}")
    _refused(tiny("llava").model, f"has no {host.ROTATE} for LlamaAttention")


def test_a_missing_position_scale_is_refused_by_name(monkeypatch):
    """Ministral 3 sharpens queries by position: without its function the ranking would be another one."""
    attention = decoder(tiny("ministral3").model).layers[2].self_attn
    monkeypatch.delattr(f"{type(attention).__module__}.{host.LENGTH_SCALE}")
    _refused(tiny("ministral3").model, f"has no {host.LENGTH_SCALE}")


def test_an_unknown_part_of_an_attention_is_refused_by_name():
    """A query norm under a new name would be left out of the ranking without a word."""
    subject = fresh("llava")
    decoder(subject.model).layers[2].self_attn.query_norm = nn.Identity()
    _refused(subject.model, "has a part query_norm")


def test_a_random_ranking_asks_nothing_of_the_layers():
    """Layers that rank nothing need none of the parts that ranking computes with."""
    subject = fresh("llava")
    decoder(subject.model).layers[2].self_attn.query_norm = nn.Identity()
    with routing.route(subject.model, plan(HALF_THEN_QUARTER, "reroute", scorer="random")):
        assert generate(subject.model, subject.inputs(ONE), 1).tokens


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("llava", "vision_tower.encoder.layers"),
        ("llava", "multi_modal_projector"),
        ("qwen2_5_vl", "visual.merger"),
        ("qwen2_5_vl", "visual.window_size"),
        ("qwen2_5_vl", "visual.blocks"),
    ],
)
def test_a_missing_part_of_a_vision_tower_is_refused_by_name(name, path):
    """What the vision stage reads of a tower: one sentence that names it."""
    subject = fresh(name)
    owner, _, part = path.rpartition(".")
    delattr(subject.model.model.get_submodule(owner), part)
    scorer = "cls" if name == "llava" else "column_mean"
    stage = routing.VisionStage(layer=0, keep_ratio=0.5, scorer=scorer)
    schedule = routing.Schedule(stages=(), vision=stage)
    _refused(subject.model, f"has no {part} ", schedule)


def test_the_cache_of_an_output_is_read_under_either_name(recwarn):
    """Newer outputs call it `cache`, older ones `past_key_values`; the installed one's gives no warning."""
    assert cache_of(SimpleNamespace(cache="new", past_key_values="warns")) == "new"
    assert cache_of(SimpleNamespace(past_key_values="old")) == "old"
    assert cache_of(SimpleNamespace(cache=None)) is None
    with torch.no_grad():
        output = tiny("llava").model(**tiny("llava").inputs(ONE))
    assert isinstance(cache_of(output), DynamicCache)
    assert not [each for each in recwarn if "past_key_values" in str(each.message)]


def test_an_output_without_a_known_cache_field_raises():
    """A renamed field of the output is told, not taken for "no cache"."""
    with pytest.raises(routing.RoutingError, match="no field for the cache"):
        cache_of(SimpleNamespace(kv_store=1))


def test_scoring_without_position_ids_raises_where_queries_depend_on_them():
    """Ministral 3's ranking without position ids would leave its scale out."""
    subject = fresh("ministral3")

    def drop(_layer, args, kwargs):
        return args, {**kwargs, "position_ids": None}

    decoder(subject.model).layers[2].register_forward_pre_hook(drop, with_kwargs=True)
    told = pytest.raises(routing.RoutingError, match="scales queries by position, and got no position ids")
    with routing.route(subject.model, SCHEDULE), torch.no_grad(), told:
        subject.model(**subject.inputs(ONE))


def test_torch_without_its_hook_tables_is_told():
    """Whether a projection can be shared depends on who watches it: not knowing is an error."""
    with pytest.raises(routing.RoutingError, match="has no _forward_pre_hooks"):
        host.hooks_of(SimpleNamespace())
