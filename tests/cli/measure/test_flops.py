"""The FLOP counter against closed forms, by part."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as sdpa
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from reroute_cli.measure import flops as module
from reroute_cli.measure.flops import FlopMeter
from routing.checks.subjects import FAMILIES, ONE, tiny
from routing.cost import ModelShape, PromptSize, cost, layer_flops, lm_head_flops

LENGTH, WIDTH, HEADS, VOCABULARY, PATCHES = 7, 16, 2, 11, 5


class Scoring(nn.Module):
    """Named as the engine names its own: what it computes is billed apart."""

    def forward(self, x):
        return x @ x.transpose(-1, -2)


class Decoder(nn.Module):
    """One linear map, one attention, one ranking."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.outside = [Scoring()]  # like the engine's: no part of the model

    def forward(self, x):
        self.outside[0](x)
        q, k, v = (
            part.view(*x.shape[:2], HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in self.qkv(x).chunk(3, -1)
        )
        return sdpa(q, k, v, is_causal=x.shape[1] > 1).transpose(1, 2).reshape(x.shape)


class Model(nn.Module):
    """The least that a meter needs: a vision part, a decoder, a head."""

    def __init__(self):
        super().__init__()
        self.vision = nn.Conv2d(3, WIDTH, 4, stride=4)
        self.language = Decoder()
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def get_decoder(self):
        return self.language

    def get_output_embeddings(self):
        return self.head

    def forward(self, x, pixels=None):
        if pixels is not None:
            self.vision(pixels)
        return self.head(self.language(x)[:, -1:])


def linear(rows, inner, outer):
    """2 FLOPs per multiply-add."""
    return 2 * rows * inner * outer


@pytest.fixture
def counted():
    """A prefill of LENGTH tokens and one picture, then two decode steps of one token."""

    @torch.no_grad()
    def count():
        model = Model()
        meter = FlopMeter(model)
        with meter:
            model(torch.randn(1, LENGTH, WIDTH), torch.randn(1, 3, 4, 4 * PATCHES))
            meter.first_token(torch.zeros(1, 1, dtype=torch.long), None)
            for _ in range(2):
                model(torch.randn(1, 1, WIDTH))
        return meter.flops

    return count


def test_every_part_equals_its_closed_form(counted):
    """Convolution, linear maps, the full attention rectangle, scoring and decode: integer for integer."""
    flops = counted()
    attention = 2 * linear(LENGTH, WIDTH, LENGTH)
    assert flops.vision == linear(PATCHES, 3 * 4 * 4, WIDTH)
    assert flops.prefill == linear(LENGTH, WIDTH, 3 * WIDTH) + attention + linear(1, WIDTH, VOCABULARY)
    step = linear(1, WIDTH, 3 * WIDTH) + 2 * linear(1, WIDTH, 1) + linear(1, WIDTH, VOCABULARY)
    assert flops.decode == 2 * step
    assert flops.scoring == linear(LENGTH, WIDTH, LENGTH) + 2 * linear(1, WIDTH, 1)
    assert flops.unknown == set()


def test_counting_twice_gives_the_same_number(counted):
    """The second count in a process is the first one again."""
    assert counted() == counted()


def test_cpu_attention_is_counted_like_gpu_attention():
    """torch alone counts the CPU's fused attention as nothing; the meter counts the rectangle."""
    from torch.utils.flop_counter import FlopCounterMode

    q = torch.randn(1, HEADS, LENGTH, 8)
    meter = FlopMeter(Model())
    with torch.no_grad(), FlopCounterMode(display=False) as plain:
        sdpa(q, q, q)
    with torch.no_grad(), meter:
        sdpa(q, q, q)
    assert plain.get_total_flops() == 0
    assert meter.flops.total == 2 * linear(HEADS * LENGTH, 8, LENGTH)


@pytest.mark.parametrize(
    ("grad", "named"),
    [
        (torch.no_grad, "aten._scaled_dot_product_flash_attention_for_cpu.default"),
        (torch.inference_mode, "aten.scaled_dot_product_attention.default"),
    ],
)
def test_an_attention_kernel_without_a_formula_is_named(monkeypatch, grad, named):
    """A kernel that nobody can count makes the count unknown instead of too low."""
    monkeypatch.delitem(module._KERNELS, "_scaled_dot_product_flash_attention_for_cpu")
    meter = FlopMeter(Model())
    q = torch.randn(1, HEADS, LENGTH, 8)
    with grad(), meter:
        sdpa(q, q, q)
    assert (meter.flops.total, meter.flops.unknown) == (0, {named})


def test_experts_cost_what_they_cost_one_by_one(monkeypatch):
    """One kernel for all experts does the same work as a matrix product for each of them."""
    subject = tiny("qwen3_vl_moe")
    totals = {}
    for how in ("grouped_mm", "eager"):
        monkeypatch.setattr(subject.model.config.get_text_config(), "_experts_implementation", how)
        if how == "eager":
            monkeypatch.delitem(module._KERNELS, "_grouped_mm")  # it must not run now
        with FlopMeter(subject.model) as meter, torch.no_grad():
            subject.model(**subject.inputs(ONE))
        assert not meter.flops.unknown
        totals[how] = meter.flops.total
    assert totals["grouped_mm"] == totals["eager"]


def test_a_matrix_product_without_a_formula_is_named(monkeypatch):
    """Experts that nobody can count make the count unknown instead of too low."""
    monkeypatch.delitem(module._KERNELS, "_grouped_mm")
    subject = tiny("qwen3_vl_moe")
    with FlopMeter(subject.model) as meter, torch.no_grad():
        subject.model(**subject.inputs(ONE))
    assert meter.flops.unknown == {"aten._grouped_mm.default"}


@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("keys", [1, 2, 4])
def test_grouped_heads_cost_as_much_as_heads_of_their_own(keys, grad):
    """Four query heads do the same work however many key heads they share."""
    q, k, v = (torch.randn(2, heads, n, 8) for heads, n in ((4, 5), (keys, LENGTH), (keys, LENGTH)))
    meter = FlopMeter(Model())
    with grad(), meter:
        sdpa(q, k, v, enable_gqa=keys < 4)
    assert meter.flops.total == 2 * 2 * 4 * linear(5, 8, LENGTH)
    assert meter.flops.unknown == set()


ATEN = torch.ops.aten


@pytest.mark.parametrize("keys", [4, 2])
@pytest.mark.parametrize(
    ("kernel", "more"),
    [
        (ATEN._scaled_dot_product_flash_attention, ()),
        (ATEN._scaled_dot_product_efficient_attention, (None, False)),
        (ATEN._scaled_dot_product_cudnn_attention, (None, False)),
        (ATEN._scaled_dot_product_fused_attention_overrideable, ()),
        (ATEN._scaled_dot_product_flash_attention_for_cpu, ()),
    ],
)
def test_every_fused_kernel_counts_the_same_rectangle(kernel, more, keys):
    """The kernels of GPUs too, by their shapes alone: all query heads, grouped keys or not, narrow values."""
    q, k = (torch.empty(2, heads, rows, 8, device="meta") for heads, rows in ((4, 5), (keys, LENGTH)))
    for values in (k, k[..., :6]):
        meter = FlopMeter(Model())
        with meter:
            kernel(q, k, values, *more)
        width = values.shape[-1]
        assert meter.flops.total == 2 * 4 * (linear(5, 8, LENGTH) + linear(5, LENGTH, width))


def test_what_counts_is_left_as_it_was_also_by_an_exception():
    """After the block, and after an exception in it, no hook, no mode and no lock is left behind."""
    hooks = torch.nn.modules.module
    before = [len(table) for name, table in vars(hooks).items() if name.startswith("_global_forward")]
    model = Model()
    meter = FlopMeter(model)
    with pytest.raises(RuntimeError, match="stop here"), meter:  # noqa: PT012
        model(torch.randn(1, LENGTH, WIDTH))
        raise RuntimeError("stop here")
    after = [len(table) for name, table in vars(hooks).items() if name.startswith("_global_forward")]
    assert (after, len(before) >= 4) == (before, True)
    assert _get_current_dispatch_mode_stack() == []
    counted = meter.flops.total
    model(torch.randn(1, LENGTH, WIDTH))
    assert meter.flops.total == counted > 0


@pytest.mark.parametrize("name", ["rotary_emb", "rotary_pos_emb", "patch_positional_embedding"])
@pytest.mark.parametrize("part", ["vision", "language"])
def test_position_tables_count_nothing_wherever_they_are_made(name, part):
    """Older releases multiply matrices for them, newer ones do not: the count is the same."""
    model, plain = Model(), Model()
    table = nn.Linear(3, 3)
    getattr(model, part).add_module(name, table)

    def look_up(*_):
        table(torch.ones(2, 3))

    getattr(model, part).register_forward_pre_hook(look_up)
    found = []
    for each in (plain, model):
        with torch.no_grad(), FlopMeter(each) as meter:
            each(torch.randn(1, LENGTH, WIDTH), torch.randn(1, 3, 4, 4))
        found.append(meter.flops)
    assert found[0] == found[1]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_meter_counts_anew_after_an_exception_inside_the_model(error):
    """The decoder raised half-way in the first use; the second bills every part as a new meter does."""
    model = Model()
    meter, fresh = FlopMeter(model), FlopMeter(model)
    inputs = torch.randn(1, LENGTH, WIDTH), torch.randn(1, 3, 4, 4)

    def fail(*_):
        raise error

    breaking = model.language.qkv.register_forward_hook(fail)
    with pytest.raises(error), torch.no_grad(), meter:
        model(*inputs)
    breaking.remove()
    for one in (meter, fresh):
        with torch.no_grad(), one:
            model(*inputs)
    assert meter.flops == fresh.flops
    assert meter.flops.vision > 0


def test_an_exception_that_the_model_survives_moves_no_flops_between_parts():
    """A decoder that raises and is tried again: what follows outside of it is vision, not prefill."""
    model = Model()
    meter = FlopMeter(model)
    with torch.no_grad(), meter:
        with pytest.raises(RuntimeError):
            model.language(torch.randn(1, LENGTH, WIDTH + 1))
        model.vision(torch.randn(1, 3, 4, 4))
    assert (meter.flops.prefill, meter.flops.vision) == (0, linear(1, 3 * 4 * 4, WIDTH))


def test_the_part_is_known_by_the_module_not_by_who_calls_it():
    """The decoder called by itself, not through the model, is still the decoder."""
    model = Model()
    meter = FlopMeter(model)
    with torch.no_grad(), meter:
        model.language(torch.randn(1, 1, WIDTH))
    assert (meter.flops.vision, meter.flops.prefill > 0) == (0, True)


def test_a_meter_can_be_used_again_and_starts_from_zero():
    """The second use of one meter shows the second run only, its prefill as prefill."""
    model = Model()
    meter = FlopMeter(model)
    found = []
    for _ in range(2):
        with torch.no_grad(), meter:
            model(torch.randn(1, LENGTH, WIDTH))
            meter.first_token(torch.zeros(1, 1, dtype=torch.long), None)
        found.append(meter.flops)
    assert found[0] == found[1]
    assert found[0].decode == 0


@pytest.mark.parametrize(
    ("method", "action"), [(None, None), ("pdrop", "prune"), ("fastv", "reroute"), ("nuwa", "reroute")]
)
def test_a_real_answer_costs_what_arithmetic_says(pocket, picture, method, action):
    """Counted while running equals routing.cost's closed forms, dense and routed, part by part."""
    from reroute_cli.data.images import open_image
    from reroute_cli.data.prompts import build_prompt
    from reroute_cli.measure import passes as run
    from reroute_cli.run.prompts import target_of
    from reroute_cli.run.schedules import ScheduleChoice

    prompt = build_prompt(pocket.processor, [open_image(picture)], "where is the cup?")
    ratio = 0.667 if method else None
    schedule = ScheduleChoice(method, action, ratio).build(target_of(pocket, 256))
    flops = run.count_flops(run.make_job(pocket, prompt, schedule, 3), 3)
    shape = ModelShape.from_config(pocket.model.config.to_dict())
    expected = cost(shape, schedule, [PromptSize(prompt.tokens - 256, 256)], 3, 4, [(1, 16, 16)])
    assert (flops.prefill, flops.decode) == (expected.prefill_flops, expected.decode_flops)
    if method != "nuwa":  # its vision stage has a scoring cost of its own
        assert (flops.vision, flops.scoring) == (expected.vision_flops, expected.scoring_flops)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_s_decoder_is_told_from_its_vision_part(family):
    """Prefill is the decoder's closed form, integer for integer, and what is left is vision."""
    model = tiny(family).model
    inputs = tiny(family).inputs(ONE)
    meter = FlopMeter(model)
    with torch.no_grad(), meter:
        model(**inputs, logits_to_keep=1)
    shape = ModelShape.from_config(model.config.to_dict())
    length = inputs["input_ids"].shape[1]
    assert meter.flops.prefill == len(shape.layers) * layer_flops(shape, length, length) + lm_head_flops(
        shape
    )
    assert meter.flops.vision > 0
