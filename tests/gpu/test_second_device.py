"""The engine on a device that is not the host's, without a GPU: nothing is mixed up, and few waits."""

import pytest
import torch

import routing
from routing import Schedule, VisionStage
from routing.checks.check import check
from routing.checks.reference import Cut
from routing.checks.runs import HALF_THEN_QUARTER, close, generate, plan
from routing.checks.subjects import FAMILIES, ONE, RAGGED, fresh, tiny
from routing.methods import SELECTIONS
from tests.gpu.pretend import DEVICE, TwoDevicesError, on_card, pretending
from tests.routing.rankings import RANKINGS

FOUR = (Cut(1, 0.5), Cut(2, 0.4), Cut(3, 0.3, 2), Cut(4, 0.1))
READING = ("engine.py", "layout.py")  # the prompt's tokens and its mask, once each


def _same(name, schedule, samples, new=4):
    """The waits of our own code in a generation on the second device, which gives what the CPU gives."""
    with routing.route(tiny(name).model, schedule) as expected:
        on_cpu = generate(tiny(name).model, tiny(name).inputs(*samples), new)
    subject = fresh(name)
    inputs = on_card(subject.inputs(*samples))
    with pretending() as waits:
        subject.model.to("cuda:0")
        with routing.route(subject.model, schedule) as trace:
            found = generate(subject.model, inputs, new)
    assert found.tokens == on_cpu.tokens
    assert close(found.logits.as_subclass(torch.Tensor), on_cpu.logits)
    kept = [[[row.tolist() for row in stage.kept] for stage in one.stages] for one in (trace, expected)]
    assert kept[0] == kept[1]
    return waits.ours


@pytest.mark.parametrize("samples", [(ONE,), RAGGED], ids=["alone", "ragged"])
@pytest.mark.parametrize(("scorer", "action"), RANKINGS)
def test_the_host_waits_to_read_the_prompt_and_for_nothing_else(scorer, action, samples):
    """Its ids and, where one arrives, its mask: nothing in layers, decisions or decoding, whatever ranks."""
    for cuts in (FOUR[:1], FOUR):
        waits = _same("llava", plan(cuts, action, scorer=scorer), samples)
        files = [wait.split(":")[0].rsplit("/", 1)[-1] for wait in waits]
        assert files in (list(READING), list(READING[: len(samples)])), waits


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_keeps_its_devices_apart(name):
    """Kept sets, tokens and logits are the CPU's in a ragged batch; the prompt is read and no more."""
    assert len(_same(name, plan(HALF_THEN_QUARTER, "reroute"), RAGGED)) == len(READING)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_selection_keeps_its_devices_apart(selection, name):
    """What is chosen before the decoder is what the CPU chooses."""
    stage = VisionStage(0.5, selection=selection, scorer="column_mean")
    _same(name, Schedule((), vision=stage), RAGGED, new=2)


def test_the_proof_of_the_engine_runs_on_any_device():
    """All invariants hold where the truths, too, are computed on a second device."""
    with pretending():
        (found,) = check(["llava"], device="cuda:0")
    assert found.passed, [finding for finding in found.findings if not finding.passed]


def test_both_devices_in_one_function_are_refused():
    """As a GPU refuses them; a number without a dimension it takes."""
    here, there = torch.ones(3), on_card(torch.ones(3))
    with pytest.raises(TwoDevicesError, match="add"):
        torch.add(here, there)
    with pytest.raises(TwoDevicesError, match="cat"):
        torch.cat([here, there])
    assert (there + torch.tensor(1.0)).device == DEVICE


def test_results_are_where_a_gpu_would_make_them():
    """Of what is there, there; moved, and made with a device, where that says."""
    with pretending():
        there = on_card(torch.ones(2, 3))
        assert (there @ there.T).device == there.new_zeros(2).device == DEVICE
        assert torch.arange(3, device=there.device).device == torch.ones(3).to(there).device == DEVICE
        assert there.cpu().device == torch.arange(3).device == torch.device("cpu")
        there[0] = 2.0
        assert there.cpu()[0].tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("call", "count"),
    [
        (lambda x: x.sum().item(), 1),
        (lambda x: bool((x > 0).any()), 1),
        (lambda x: x.tolist(), 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x.cpu(), 1),
        (lambda x: torch.ones(3).to(x.device), 1),
        (lambda x: torch.ones(3).to(x.device, non_blocking=True), 0),
        (lambda x: torch.tensor([1, 2], device=x.device), 1),
        (lambda x: x[torch.tensor([0])], 1),
        (lambda x: x.__setitem__(on_card(torch.tensor([0])), 1.0), 1),  # the number is copied there
        (lambda x: x.__setitem__(x > 0, 1.0), 0),  # is filled
        (lambda x: x[1:].masked_fill(x[1:] > 0, 1.0).topk(1).values, 0),
        (lambda x: x.index_fill_(0, on_card(torch.tensor([0])), 1.0), 0),
        (lambda x: x.argsort(stable=True).cumsum(0), 0),
    ],
)
def test_what_waits_for_a_gpu_is_counted(call, count):
    """Reading values, shapes that depend on them, and copies between devices that are not asynchronous."""
    with pretending() as waits:
        call(on_card(torch.rand(4)))
    assert len(waits.others) == count, waits
