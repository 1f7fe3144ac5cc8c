"""The grammar of --slo: seconds by name, and one sentence for everything else."""

import pytest

from reroute_cli.console.errors import UsageError
from reroute_cli.console.group import given
from reroute_cli.console.objectives import read_objectives
from reroute_cli.console.study_options import MeasureOptions, read_warmup


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ttft:200ms,itl:30ms", {"ttft": 0.2, "itl": 0.03}),
        ("e2e:2s", {"e2e": 2.0}),
        (" tpot : .5 ms , e2e:1.25s", {"tpot": 0.0005, "e2e": 1.25}),
    ],
)
def test_objectives_are_seconds_by_name(text, expected):
    """ms and s, whole and broken numbers, spaces where they do no harm; the order is that typed."""
    found = read_objectives(text)
    assert found == pytest.approx(expected)
    assert list(found) == list(expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ttft:-200ms", "no time above 0"),
        ("ttft:0ms", "no time above 0"),
        ("ttft:nan", "no time above 0"),
        ("ttft:inf s", "no time above 0"),
        ("ttft:1e3ms", "no time above 0"),
        ("ttft:200", "no time above 0"),
        ("ttft:200us", "no time above 0"),
        ("ttft:٢ms", "no time above 0"),
        ("ttft", "no time above 0"),
        ("ttft:200ms:3", "no time above 0"),
        ("ttft:200ms,ttft:1s", "ttft twice"),
        ("e2el:2s", "names no objective"),
        ("TTFT:2s", "names no objective"),
        ("", "names no objective"),
        ("ttft:200ms,", "names no objective"),
        (":200ms", "names no objective"),
        ("\x1b[31mred:2s" + "x" * 500, "names no objective"),
    ],
)
def test_what_is_no_objective_is_one_sentence_with_exit_code_2(run, fails, text, words):
    """Negative, nought, no number, no unit, unknown, twice, empty, hostile: refused before a model loads."""
    fails(run("profile", "--slo", text), 2, "--slo", words)


def test_a_gap_needs_a_second_token(run, fails):
    """ITL and TPOT of one token do not exist, so nothing can meet them."""
    fails(
        run("profile", "--slo", "ttft:1s,tpot:1s", "--max-new-tokens", "1"), 2, "--slo tpot", "second token"
    )
    assert MeasureOptions(slo={"ttft": 1.0}, max_new_tokens=1).slo == {"ttft": 1.0}


@pytest.mark.parametrize("text", ["", "soon", "1.5", "AUTO", "nan"])
def test_a_warm_up_is_a_number_or_auto(run, fails, text):
    """Anything else is refused with what is allowed; a number out of range as that of any option."""
    fails(run("profile", "--warmup", text), 2, "--warmup", "whole number", "auto")
    with pytest.raises(UsageError):
        read_warmup(text)


def test_a_warm_up_out_of_range_is_refused(run, fails):
    """Negative and endless warm-ups, as before."""
    for text in ("-1", "1001"):
        fails(run("profile", f"--warmup={text}"), 2, "--warmup", "from 0 to 1000")


def test_python_gives_them_as_they_are_typed():
    """Text, a list of texts, a number or "auto", as for every keyword."""
    (both,) = given({"slo": ["ttft:1s", "itl:2ms"], "warmup": "auto"}, MeasureOptions)
    assert (both.slo, both.warmup) == ({"ttft": 1.0, "itl": 0.002}, None)
    (one,) = given({"slo": "e2e:3s", "warmup": 4, "batch_size": 2}, MeasureOptions)
    assert (one.slo, one.warmup, one.batch_size) == ({"e2e": 3.0}, 4, 2)


def test_auto_is_no_number():
    """`auto` stands for None, which the number 0 is not."""
    assert read_warmup("auto") is None
    assert read_warmup("0") == 0
    assert MeasureOptions().warmup == 1
