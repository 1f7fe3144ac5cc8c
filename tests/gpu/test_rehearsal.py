"""The lines that run on a card alone have run before: steps of `python -m tests.gpu` with a pretended one."""

from unittest import mock

import pytest

from tests.cli.shrunk import shrunk
from tests.gpu import instruments
from tests.gpu.outcome import Job, Outcome, read_outcome
from tests.gpu.rehearsal import rehearsed
from tests.gpu.steps import STEPS


@pytest.mark.parametrize("name", ["device", "clock", "memory", "energy", "flops", "peaks", "bfloat16"])
def test_a_step_does_on_a_card_what_it_says(name, tmp_path, monkeypatch):
    """No name, argument or device is wrong, and what it measures is written down."""
    monkeypatch.setenv("REROUTE_CHECK", "off")
    monkeypatch.setattr(instruments, "HELD", 1 << 20)
    monkeypatch.setattr(instruments, "SIDE", 64)
    job = Job("cuda", tmp_path, Outcome(name, 120.0))
    with mock.patch("reroute_cli.models.load.known", shrunk), rehearsed():
        STEPS[name].run(job)
    written = read_outcome(tmp_path / "steps" / f"{name}.json")
    assert len(written.measures) == len(job.outcome.measures) > 2
    assert any(measure.least is not None or measure.most is not None for measure in written.measures)
