"""Marks by asking the model: trials over the first questions of the searched half.

Knows trials and scores; not how a search chooses. Answers go through the records file, so what is there
already is not asked again, and the marks are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

from reroute_cli.arms import Arm
from reroute_cli.data.items import Item
from reroute_cli.measure.scores import BOX_HIT, BOX_IOU, JudgedImages, JudgedItem, Score
from reroute_cli.metrics import DENSE_ARM
from reroute_cli.models.load import Loaded
from reroute_cli.record_file import RecordFile
from reroute_cli.run.trial import Trial, hold_trial
from reroute_cli.schedules import ScheduleChoice
from reroute_cli.tuning.plans import Candidate
from reroute_cli.tuning.search import Mark

_FINER = {BOX_HIT.name: BOX_IOU}  # what tells schedules of the same score apart
_DEVIATIONS = 1.959963984540054  # standard errors from a value to the end of its 95% interval


@dataclass
class Asking:
    """How questions are asked, and what came of it so far. done: called after every answer."""

    loaded: Loaded
    file: RecordFile
    max_new_tokens: int
    batch_size: int
    done: Callable[[], None]
    answered: int = 0
    resumed: int = 0
    seconds: float = 0.0

    def hold(self, arms: Sequence[Arm], items: Sequence[Item], known: int = 0) -> Trial:
        """A trial of these arms over these items. known: how many of its answers were counted before."""
        passed = count()

        def done() -> None:
            if next(passed) >= known:
                self.done()

        trial = hold_trial(
            self.loaded,
            arms,
            items,
            self.file,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            done=done,
        )
        self.answered += trial.counts.answered
        self.resumed += max(0, trial.counts.resumed - known)
        self.seconds += trial.counts.wall_s
        return trial


class ModelJury:
    """Asks candidates the questions of the searched half."""

    def __init__(self, asking: Asking, items: Sequence[Item], score: Score) -> None:
        self._asking, self._items, self._score = asking, items, score
        self._asked: dict[str, int] = {}

    def judge(self, candidates: Sequence[Candidate], questions: int) -> list[Mark]:
        """The marks of these candidates over the first so many questions."""
        return self._marks([Arm(one.identity, one.choice) for one in candidates], questions)

    def dense(self, questions: int, seed: int) -> Mark:
        """The dense model's mark."""
        return self._marks([Arm(DENSE_ARM, ScheduleChoice(seed=seed))], questions)[0]

    def _marks(self, arms: Sequence[Arm], questions: int) -> list[Mark]:
        known = sum(min(questions, self._asked.get(arm.name, 0)) for arm in arms)
        trial = self._asking.hold(arms, self._items[:questions], known)
        self._asked.update({arm.name: max(questions, self._asked.get(arm.name, 0)) for arm in arms})
        return [_mark(trial.rows, place, self._score) for place in range(len(arms))]


def _mark(rows: Sequence[JudgedItem], place: int, score: Score) -> Mark:
    """One arm's mark over the items that any arm has answered; one that fails at one of those is broken."""
    asked = [row for row in rows if any(said.error is None for said in row.said)]
    mine = [replace(row, said=(row.said[place],)) for row in asked]
    failed = [said.error for row in mine for said in row.said if said.error is not None]
    if failed or not mine:
        reasons = failed or [said.error for row in rows for said in row.said if said.error is not None]
        return Mark(0.0, broken=reasons[0] if reasons else "there was nothing to answer")
    pictures = JudgedImages(mine)
    found, finer = pictures.estimate(score, 0), _FINER.get(score.name)
    if found is None:
        return Mark(0.0, broken=f"none of the questions has a {score.title}")
    fine = pictures.estimate(finer, 0) if finer is not None else None
    error = None if found.low is None else (found.value - found.low) / _DEVIATIONS
    return Mark(found.value, found.value if fine is None else fine.value, error)
