"""When a warm-up ends, on series whose course is known; nothing here is timed."""

import random

import pytest

from reroute_cli.measure.warmup import LAST, MOST, WITHIN, agree, warm_up, warmup_part


def _ends_after(rounds):
    """How many rounds are run where they take these seconds."""
    left = iter(rounds)
    found = warm_up(lambda: next(left), MOST, until_steady=True, tell=lambda _: None)
    assert found == rounds[: len(found)]
    return len(found)


def test_a_steady_series_ends_at_the_fewest_rounds():
    """Equal seconds under both arms: three rounds agree, two do not yet."""
    assert _ends_after([[0.2, 0.1]] * 20) == LAST == 3
    assert not agree([[0.2, 0.1]] * 2)


def test_a_falling_series_ends_once_it_is_flat():
    """10, 5, 2.5, then 1 for ever: the first three rounds within 5% are the fourth to the sixth."""
    assert _ends_after([[seconds] for seconds in (10, 5, 2.5, 1, 1, 1, 1, 1)]) == 6


def test_a_noisy_series_ends_at_the_most_and_says_so():
    """Seconds that jump by a third never agree: ten rounds, and the record does not claim otherwise."""
    noise = random.Random(3)
    rounds = [[1.0 + (place % 2) / 3 + noise.random() / 100] for place in range(20)]
    assert _ends_after(rounds) == MOST
    assert not warmup_part(rounds[:MOST]).agreed


def test_one_arm_that_still_falls_keeps_the_others_waiting():
    """The dense arm is steady from the start; the routed one gets faster until the fifth round."""
    routed = (3.0, 2.0, 1.5, 1.2, 1.0, 1.0, 1.0, 1.0)
    assert _ends_after([[1.0, seconds] for seconds in routed]) == 7


@pytest.mark.parametrize("asked", [0, 1, 7])
def test_a_number_of_rounds_is_that_number(asked):
    """Without looking, equal rounds go on for as long as was asked, and each is told."""
    told = []
    assert warm_up(lambda: [1.0], asked, until_steady=False, tell=told.append) == [[1.0]] * asked
    assert told == [f"warm-up {number} of {asked}" for number in range(1, asked + 1)]


@pytest.mark.parametrize(("last", "agreed"), [(1 + WITHIN, True), (1.051, False)])
def test_the_share_is_of_the_fastest_round(last, agreed):
    """5% above the fastest still agrees, 5.1% does not."""
    assert agree([[9.0], [1.0], [1.02], [last]]) is agreed


def test_the_record_has_the_rule_and_every_round():
    """What it was held to, and the seconds of all rounds, by which a reader may judge anew."""
    part = warmup_part([[1.0, 2.0]] * 3)
    assert (part.agreed, part.last, part.within, part.most) == (True, 3, 0.05, 10)
    assert part.seconds == [[1.0, 2.0]] * 3
