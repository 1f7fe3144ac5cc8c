"""One kind of measurement at a time, whatever trackers they are and whichever thread asks."""

import threading

import pytest
import torch

from reroute_cli.measure.clock import TokenClock, alone
from reroute_cli.measure.flops import FlopMeter
from reroute_cli.measure.memory import NvmlSampler
from routing.checks.subjects import tiny
from tests.cli.measure.fake_nvml import Driver

TRACKERS = {
    "time": lambda: TokenClock("cpu", tiny("llava").model),
    "FLOPs": lambda: FlopMeter(tiny("llava").model),
    "GPU memory": lambda: NvmlSampler("abc"),
}


@pytest.mark.parametrize("inner", TRACKERS)
@pytest.mark.parametrize("outer", TRACKERS)
def test_no_tracker_opens_inside_another(outer, inner, monkeypatch):
    """The error names both kinds; the refused one leaves nothing behind, and the open one goes on."""
    driver = Driver(monkeypatch)
    first, second = TRACKERS[outer](), TRACKERS[inner]()
    with first:
        state = _left_behind()
        with pytest.raises(RuntimeError, match=f"^{inner} can't be measured while {outer} is"):
            second.__enter__()
        assert _left_behind() == state
    with second:
        pass
    assert driver.inits == driver.shutdowns == [outer, inner].count("GPU memory")


def _left_behind():
    """Hooks of the model and of torch as a whole, and threads."""
    hooks = torch.nn.modules.module
    everywhere = [len(table) for name, table in vars(hooks).items() if name.startswith("_global_forward")]
    model = [len(part._forward_pre_hooks) for part in tiny("llava").model.modules()]
    return everywhere, model, threading.active_count()


def test_another_thread_has_to_wait_its_turn_too():
    """While one thread measures, another one is refused; afterwards it may."""
    refused = []

    def attempt():
        try:
            with alone("memory"):
                pass
        except RuntimeError as error:
            refused.append(str(error))

    with alone("time"):
        _in_a_thread(attempt)
    assert ["memory can't be measured while time is" in words for words in refused] == [True]
    _in_a_thread(attempt)
    assert len(refused) == 1


def _in_a_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_an_exception_gives_the_turn_back():
    """A measurement that failed does not block the next."""
    with pytest.raises(ZeroDivisionError), alone("time"):
        _ = 1 / 0
    with alone("FLOPs"):
        pass


def test_a_tracker_that_can_t_open_gives_the_turn_back(monkeypatch):
    """A model without a decoder, or a GPU on a machine that has none: the next tracker opens."""
    with pytest.raises(AttributeError):
        TokenClock("cpu", torch.nn.Linear(1, 1)).__enter__()
    model = tiny("llava").model
    before = _left_behind()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: (_ for _ in ()).throw(RuntimeError("no GPU")))
    with pytest.raises(RuntimeError, match="no GPU"):
        TokenClock("cuda", model).__enter__()
    assert _left_behind() == before
    with alone("FLOPs"):
        pass
