"""The page of an evaluation: the headline, honest words, 80 columns, from rows made by hand."""

import re

import pytest

from reroute_cli.measure.scores import PLAIN, JudgedImages
from reroute_cli.records.evaluation import Evaluation
from reroute_cli.studies.questions import headlines, scores_part, whole
from reroute_cli.views.document import TEXT
from reroute_cli.views.evaluation import document, headline, warnings
from reroute_cli.views.wording import plain_number, signed_number
from reroute_cli.views.write.csv import document_csv
from reroute_cli.views.write.markdown import markdown
from reroute_cli.views.write.terminal import page as terminal_page
from tests.cli.judged import DENSE, arm, rows

MODEL = {
    "id": "pocket", "revision": None, "family": "llava", "config_digest": "0", "layers": 12,
    "dtype": "float32", "attention": "sdpa", "device": "cpu", "weights": "loaded",
    "reasons": {"revision": "it is local"},
}  # fmt: skip


def report(table, arms, *, groups=None, errors=0):
    """A report of these rows, as `eval` makes it, but for models and costs."""
    made = rows(table)
    kinds = groups or {}
    overall = whole(made)
    named = {name: JudgedImages(overall.rows[part]) for name, part in kinds.items()}
    left_out = len(made) - len(overall.rows)
    return Evaluation.model_validate(
        {
            "created": "2026-01-01",
            "model": MODEL,
            "workload": {
                "questions": {
                    "benchmark": "manifest", "title": "mine", "split": "", "provenance": {},
                    "asked": len(made), "available": len(made), "digest": "0",
                },
                "max_new_tokens": 8, "batch_size": 8, "seed": 0,
            },
            "environment": {},
            "counts": {"questions": len(made), "answered": 1, "errors": errors, "left_out": left_out},
            "headlines": headlines(overall.rows, PLAIN),
            "arms": [
                {
                    "name": one.name,
                    "choice": {
                        "method": one.method, "action": one.action, "profile": None,
                        "ratio": one.choice.ratio, "budget": None, "decision_layers": None,
                    },
                    "made": {
                        "schedules": 0, "ended_by_limit": 0, "achieved_ratio": None, "first": None,
                        "reasons": {"achieved_ratio": "by hand", "first": "by hand"},
                    },
                    "overall": scores_part(overall, PLAIN, arms, place).model_dump(),
                    "groups": {n: scores_part(p, PLAIN, arms, place).model_dump() for n, p in named.items()},
                    "cost": None,
                }
                for place, one in enumerate(arms)
            ],
            "items": [],
            "this_run": {"answered": 1, "resumed": 0, "wall_s": 1.0, "waiting_s": 0.0},
            "first_error": "a: it\x1b[31m broke [bold]" if errors else None,
        }
    )  # fmt: skip


def drawn(found, monkeypatch, *, verbose=False):
    """The page as an 80-column terminal without colours gets it."""
    import io

    from reroute_cli.console.output import draw

    monkeypatch.setenv("COLUMNS", "80")
    return draw(tuple(terminal_page(document(found, verbose=verbose))), io.StringIO())


PAIR = (DENSE, arm("pdrop", "prune"), arm("pdrop", "reroute"))
WORSE = [[(True, place % 2 > 0, place % 10 > 0)] for place in range(100)]


def test_one_schedule_is_told_in_one_sentence():
    """The score of dense's, and the difference with its interval."""
    made = report([[(0.9, 0.9 if place % 4 else 0.1)] for place in range(100)], PAIR[:2])
    assert re.fullmatch(
        r"pdrop prune at 0\.5: box Acc@0\.5 0\.75 of dense's 1\.00, −0\.25 \[−0\.\d\d, −0\.\d\d\]",
        headline(made),
    )


def test_of_several_the_best_is_named():
    """The highest of a score, whose it is, and how many there are."""
    assert headline(report(WORSE, PAIR)).startswith(
        "2 schedules at 0.5, at best: answers right 0.90 of dense's 1.00"
    )
    assert headline(report(WORSE, PAIR)).endswith("(pdrop reroute)")


def test_dense_alone_has_its_scores():
    """With their intervals."""
    assert re.fullmatch(
        r"dense: answers right 0\.50 \[0\.\d\d, 0\.\d\d\]",
        headline(report([[(place % 2 == 0,)] for place in range(40)], PAIR[:1])),
    )


def test_nothing_in_common_is_said():
    """Where every question failed under some arm there is no score to be shown, and no crash."""
    made = report([[(True, None)], [(None, True)]], PAIR[:2], errors=2)
    assert headline(made) == "nothing can be compared: there is no question that every schedule answered"
    assert document_csv(document(made)).count("\n") == 1
    assert "2 answers failed, 2 questions left out" in " ".join(warnings(made))


def test_a_difference_that_may_be_none_is_called_that():
    """An interval with 0 in it is told in words, with the number of questions; one without is not."""
    same = [[(place % 3 > 0, place % 3 > 0, place % 7 > 0)] for place in range(60)]
    (sentence,) = [text for text in warnings(report(same, PAIR)) if "not distinguishable" in text]
    assert sentence.startswith(
        "answers right: not distinguishable from 0 on 60 questions: pdrop prune minus dense"
    )
    assert "each question alike" in sentence
    assert not [text for text in warnings(report(WORSE, PAIR)) if "not distinguishable" in text]


@pytest.mark.parametrize("verbose", [False, True])
def test_the_page_fits_80_columns(monkeypatch, verbose):
    """No line is longer and no interval is torn in two, with two kinds of score, eight of question."""
    mixed = [[(0.9, 0.6, 0.3), (True, False, True)] for _ in range(20)]
    groups = {f"kind {n}": slice(n * 5, n * 5 + 5) for n in range(8)}
    page = drawn(report(mixed, PAIR, groups=groups), monkeypatch, verbose=verbose)
    assert max(map(len, page.splitlines())) <= 80
    table = page.split("\n\n")[1]
    assert "reroute minus prune" in table
    assert table.count("[") == table.count("]")
    assert all(line.count("[") == line.count("]") for line in table.splitlines())


def test_long_names_leave_the_intervals_whole(monkeypatch):
    """With decision layers in the names the last column is a table of its own."""
    arms = (DENSE, arm("fastv", "prune", cuts=(3, 5, 8)), arm("fastv", "reroute", cuts=(3, 5, 8)))
    named = tuple(type(one)(one.name.replace("fastv", "fastv@3+5+8"), one.choice) for one in arms)
    page = drawn(report(WORSE, named), monkeypatch)
    assert "fastv@3+5+8 reroute" in page
    assert all(line.count("[") == line.count("]") for line in page.split("\n\n")[1].splitlines())


def test_text_from_outside_is_text(monkeypatch):
    """Escapes never reach the terminal, and markup is neither drawn nor taken."""
    made = report([[(True, None)]], PAIR[:2], errors=1)
    page = drawn(made, monkeypatch)
    assert "\x1b" not in page
    assert "it broke [bold]" in page
    assert r"\[bold\]" in markdown(document(made))


def test_markdown_has_every_table():
    """As many as the page has, each with its rule."""
    made = report(WORSE, PAIR)
    tables = sum(len(table.parts()) for table in document(made).tables if TEXT in table.on)
    rules = [line for line in markdown(document(made)).splitlines() if line.startswith("| --")]
    assert len(rules) == tables == 2  # the one score with its differences, and the costs


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [
        (0.714, "0.71", "+0.71"),
        (-0.244, "−0.24", "−0.24"),
        (0.0, "0.00", "0.00"),
        (-0.001, "0.00", "0.00"),
        (0.004, "0.00", "0.00"),
        (1512.42, "1512.4", "+1512.4"),
    ],
)
def test_numbers_are_written_with_a_sign_where_they_have_one(value, plain, signed):
    """A rounded nothing has none."""
    assert (plain_number(value), signed_number(value)) == (plain, signed)


def test_of_very_many_kinds_the_largest_are_shown():
    """Fourteen at most without -v, and how many there are beyond them."""
    table = [[(True, place % 2 > 0, True)] for place in range(100)]
    groups = {f"k{n}": slice(n * 4, n * 4 + (4 if n % 2 else 3)) for n in range(24)}
    made = report(table, PAIR, groups=groups)
    text = markdown(document(made))
    assert [f"k{n}" in text for n in (1, 3, 23)] == [True] * 3
    assert "-v shows 10 more" in text
