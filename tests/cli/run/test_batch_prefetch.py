"""Work done ahead: in order, bounded, in other threads, and dropped when nobody wants it any more."""

import threading
import time
from contextlib import closing

import pytest

from reroute_cli.run.prepare import Waiting, ahead


def test_results_come_in_order_whatever_finishes_first():
    """The slowest is the first, and is still handed out first."""

    def work(number):
        time.sleep(0.05 if number == 0 else 0)
        return number * number

    assert list(ahead(work, range(9), workers=4, depth=5)) == [number * number for number in range(9)]


def test_no_more_is_begun_than_was_allowed():
    """With a depth of 3, the fourth thing is not taken before the first result was asked for."""
    taken = []

    def things():
        for number in range(100):
            taken.append(number)
            yield number

    with closing(ahead(str, things(), workers=2, depth=3)) as made:
        assert taken == []
        assert next(made) == "0"
        assert taken == [0, 1, 2]
        assert next(made) == "1"
        assert taken == [0, 1, 2, 3]


def test_the_work_is_done_while_somebody_else_is_busy():
    """Four things of 50 ms are there after the 200 ms that their taker was busy with something else."""
    waiting = Waiting()
    made = waiting.over(ahead(lambda _: time.sleep(0.05), range(4), workers=1, depth=4))
    with closing(made):
        next(made)
        before = waiting.seconds
        time.sleep(0.4)
        list(made)
    assert before >= 0.04
    assert waiting.seconds - before < 0.04


def test_waiting_for_the_things_themselves_counts():
    """Where what is worked on comes slowly, its taker waits for it as for the work."""

    def things():
        for number in range(3):
            time.sleep(0.05)
            yield number

    waiting = Waiting()
    for _ in waiting.over(ahead(str, things(), workers=2, depth=2)):
        time.sleep(0.1)
    assert 0.14 <= waiting.seconds < 0.25


@pytest.mark.parametrize("waiting", [None, Waiting()], ids=["unwatched", "watched"])
def test_a_closed_iterator_leaves_no_work_behind(waiting):
    """What was not begun is dropped, and no thread stays."""
    done = []

    def work(number):
        time.sleep(0.02)
        done.append(number)

    made = ahead(work, range(50), workers=1, depth=50)
    made = made if waiting is None else waiting.over(made)
    next(made)
    made.close()
    time.sleep(0.2)
    assert len(done) < 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reroute-ahead")]


def test_an_exception_of_the_work_arrives_where_its_result_would():
    """Results before it come first."""

    def work(number):
        return 1 / (2 - number)

    made = ahead(work, range(4), workers=2, depth=4)
    assert [next(made), next(made)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(made)
