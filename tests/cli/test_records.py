"""The record: strict, complete, and honest about what is not known."""

import pytest
from pydantic import ValidationError

from reroute_cli.records.answer import LatencyPart, MemoryPart

LATENCY = {"preprocess_s": 0.1, "ttft_s": 0.2, "e2e_s": 0.2, "warmup": 0, "runs": 1}


def test_a_null_needs_its_reason():
    """A section with an unexplained null can't be built; with the reason it can."""
    with pytest.raises(ValidationError, match="null without a reason: tpot_s"):
        LatencyPart(**LATENCY, tpot_s=None)
    assert LatencyPart(**LATENCY, tpot_s=None, reasons={"tpot_s": "one token"}).tpot_s is None


def test_a_reason_needs_its_null():
    """A number that is known is not excused."""
    with pytest.raises(ValidationError, match="reason for what is known"):
        LatencyPart(**LATENCY, tpot_s=0.1, reasons={"tpot_s": "one token"})


def test_unknown_fields_are_refused():
    """A record holds what the schema says and nothing else."""
    with pytest.raises(ValidationError, match="extra"):
        LatencyPart(**LATENCY, tpot_s=0.1, speed="fast")


def test_memory_is_bytes_not_text():
    """A formatted number is no number."""
    with pytest.raises(ValidationError, match="weights_bytes"):
        MemoryPart(weights_bytes="29.8 MiB")
