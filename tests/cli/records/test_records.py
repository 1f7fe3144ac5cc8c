"""The record: strict, complete, and honest about what is not known."""

import pytest
from pydantic import ValidationError

from reroute_cli.records.answer import AnyAnswer, FailedAnswer, LatencyPart, MemoryPart
from reroute_cli.records.base import ModelPart
from reroute_cli.records.report import Ratio, Series
from tests.cli import reports

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


def test_a_ratio_without_an_interval_says_why():
    """Both ends are null with a reason, or numbers; null alone can't be built."""
    with pytest.raises(ValidationError, match="null without a reason: high, low"):
        Ratio(value=0.5, low=None, high=None, confidence=0.95)
    reasons = dict.fromkeys(("low", "high"), "one pair")
    assert Ratio(value=0.5, low=None, high=None, confidence=0.95, reasons=reasons).low is None


def test_a_series_counts_its_values():
    """n is the number of raw values, not of items."""
    with pytest.raises(ValidationError, match="n is 3, but there are 2 values"):
        Series(**reports.series([[1.0], [2.0]], "s") | {"n": 3})


def _failed(**change):
    model = ModelPart(
        id="pocket",
        revision="1",
        family="llava",
        config_digest="c",
        layers=12,
        dtype="float32",
        attention="sdpa",
        device="cpu",
        weights="loaded",
    )
    said = {"id": "a", "key": "k", "image": "a.png", "images": ["a.png"], "question": "?", "model": model}
    return FailedAnswer(**said, **{"error": "it is damaged"} | change)


def test_a_failed_item_has_an_error_and_nothing_else():
    """Every part of an answer is null with its reason, and a reader of any answer takes it."""
    plain = _failed().as_dict()
    nulls = {name for name, value in plain.items() if value is None}
    parts = {"boxes", "schedule", "tokens", "flops", "kv_cache", "latency", "memory"}
    assert nulls - {"environment", "generation", "reroute"} == parts
    assert parts == set(plain["reasons"])
    assert isinstance(AnyAnswer.model_validate(plain).root, FailedAnswer)


@pytest.mark.parametrize("change", [{"error": ""}, {"error": None}, {"answer": "yes"}], ids=str)
def test_a_failed_item_can_t_pretend(change):
    """It has a sentence that says why, and no answer."""
    with pytest.raises(ValidationError):
        _failed(**change)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda plain: plain["arms"].reverse(), "the first arm is 'dense'"),
        (lambda plain: plain["arms"][2].update(name="nuwa-prune"), "names are unique"),
        (lambda plain: plain["arms"][1]["items"].pop(), "other items than the workload"),
        (lambda plain: plain["arms"][1]["metrics"].pop("ttft"), "must be measured or unknown"),
        (lambda plain: plain["arms"][1]["unknown"].update(ttft="x"), "must be measured or unknown"),
        (lambda plain: plain["process"]["metrics"].pop("weights"), "must be measured or unknown"),
        (
            lambda plain: reports.set_values(plain["arms"][1], "ttft", [[0.1]] * 2),
            "2 lists of values, not 3, one for each pass",
        ),
    ],
)
def test_a_report_that_lacks_something_can_t_be_built(damage, words):
    """Dense first, unique names, the same items everywhere, every metric once."""
    plain = reports.make()
    damage(plain)
    with pytest.raises(ValidationError, match=words):
        reports.build(plain)
