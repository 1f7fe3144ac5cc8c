"""The questions that are too hard for a smaller image, beside all: a table for evaluations and sweeps.

Knows parts of records; no writer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reroute_cli.records.evaluation import ScorePart, SubsetPart
from reroute_cli.views import wording as w
from reroute_cli.views.document import BLANK, Cell, Column, Table

_BESIDE = 14  # characters of the longest name that leave room for three intervals in 80 columns


def subset_tables(
    subsets: Sequence[SubsetPart],
    titles: Mapping[str, Cell],
    everything: Mapping[str, Mapping[str, ScorePart]],
    headlines: Sequence[str],
) -> Iterator[Table]:
    """One table a subset. titles, everything: of each arm its cell and its scores over all questions.

    headlines: names of the scores that are shown, as far as a subset has them.
    """
    for subset in subsets:
        dense, *_ = subset.arms.values()
        shown = [key for key in headlines if key in dense.scores]
        twins = any(part.to_prune for part in subset.arms.values())
        beside = max(len(titles[name].text) for name in subset.arms) <= _BESIDE
        headers, rows = [Column("schedule", "schedule")], []
        for at, key in enumerate(shown):
            score, part = dense.scores[key], f"hard, n={dense.scores[key].n}" + " " * at
            headers.append(Column(key, w.short(score.title, 40), help=w.INTERVAL, part=part))
            headers.append(Column(f"{key} all", "all questions", help=w.INTERVAL, part=part))
            if twins:
                apart = part if beside else f"{w.short(score.title, 40)}, hard"
                headers.append(Column(f"{key} prune", "reroute minus prune", help=w.PAIRED, part=apart))
        for name, own in subset.arms.items():
            found = {"schedule": titles[name]}
            for key in shown:
                found[key] = w.scored(own.scores.get(key))
                found[f"{key} all"] = w.scored(everything[name].get(key))
                found[f"{key} prune"] = w.changed(own.to_prune.get(key), BLANK)
            rows.append(found)
        if shown:
            caption = f"The questions that dense answers right and {subset.control} wrong, beside all"
            yield Table(caption, tuple(headers), tuple(rows))


def subset_warnings(subsets: Sequence[SubsetPart]) -> Iterator[str]:
    """Which questions a subset has, and whether they are too few."""
    for subset in subsets:
        said = f"hard for {subset.control}: {subset.n} of {w.count(subset.compared, 'question')}"
        if subset.few:
            yield f"{said}, on {w.count(subset.images, 'image')}: too few to tell schedules apart"
        else:
            yield f"{said}; they are chosen by dense, right on all, and {subset.control}, right on none"
