"""Numbers as people read them."""

import pytest

from reroute_cli.console import units


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0 FLOPs"),
        (999, "999 FLOPs"),
        (1000, "1.00 KFLOPs"),
        (8_504_000_000_000, "8.50 TFLOPs"),
    ],
)
def test_flops_scale_by_a_thousand(count, text):
    """FLOPs use decimal prefixes."""
    assert units.flops(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (524288, "512 KiB"),
        (335544320, "320 MiB"),
    ],
)
def test_bytes_scale_by_1024(count, text):
    """Bytes use binary prefixes."""
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0123, "12.3 ms"), (0.95, "950 ms"), (1.5, "1.50 s"), (12.34, "12.3 s")],
)
def test_seconds_below_one_are_milliseconds(value, text):
    """Times have three digits that matter."""
    assert units.seconds(value) == text


def test_a_ratio_without_a_whole_is_unknown():
    """0.41 of dense is '0.41×'; nothing of nothing is no number."""
    assert units.ratio(41, 100) == "0.41×"
    assert units.ratio(None, 100) == units.ratio(1, 0) == units.ratio(1, None) == "–"


def test_tokens_show_a_fraction_only_where_there_is_one():
    """Averages have one decimal, counts none."""
    assert (units.tokens(28.583), units.tokens(256.0), units.tokens(256)) == ("28.6", "256", "256")
