"""Settings shared by the engine's tests: one thread, so that parallel test workers do not fight for cores.

REROUTE_TEST_DEVICE=cuda puts the tiny models, and with them their inputs, on a GPU.
"""

import os

import pytest
import torch

from routing.checks import subjects

DEVICE = os.environ.get("REROUTE_TEST_DEVICE", "cpu")
_build = subjects.build


def _build_there(family, attention):
    """The tiny model of a family where the tests run."""
    return _build(family, attention).to(DEVICE)


subjects.build = _build_there  # before any module of tests asks for a model


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
