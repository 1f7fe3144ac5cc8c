"""The whole search: the schedule is found on one half of the questions and scored on the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from statistics import median_low
from typing import TYPE_CHECKING

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.data.items import Item, spread
from reroute_cli.measure.scores import BOX_HIT, BOX_IOU, JudgedImages, Score
from reroute_cli.records.metrics import DENSE_ARM
from reroute_cli.run.features import FeatureStore
from reroute_cli.run.schedules import Arm, ScheduleChoice
from reroute_cli.run.trial import Trial, hold_trial, target_for
from reroute_cli.studies import SILENT, StudyProgress
from reroute_cli.studies.tune import report
from reroute_cli.studies.tune.moves import defaults
from reroute_cli.studies.tune.plans import Candidate, SearchSpace, least_tokens
from reroute_cli.studies.tune.search import (
    FEWEST,
    FINEST,
    Effort,
    Entry,
    Mark,
    SearchLog,
    descend,
    even,
    search,
)
from routing.families import no_vision_stage
from routing.methods import METHODS

if TYPE_CHECKING:
    from reroute_cli.models.load import Loaded
    from reroute_cli.records.store import RecordFile
    from reroute_cli.records.tune import TuneReport
    from reroute_cli.studies.tune.request import SplitQuestions, TuneRequest
    from routing.solve import Target

FOUND = "tuned"  # the arm of what was found
_LOOKED_AT = 32  # questions whose visual tokens are counted, to know what a budget is for
_PER_QUESTION = 16  # answers of a search for each question of its last rung
_MOST_OVER = 1.1  # times the budget: whole patches may take smaller images a little above it
_FINER = {BOX_HIT.name: BOX_IOU}  # what tells schedules of the same score apart
Logs = tuple[tuple[SearchSpace, SearchLog], ...]  # every search by its budget, the one that counts last
_DEVIATIONS = 1.959963984540054  # standard errors from a value to the end of its 95% confidence interval


@dataclass
class Asking:
    """How questions are asked, and what came of it so far.

    done: called after every answer. store: of images that are encoded for all trials. answered, resumed: new
    answers, and those that the file had before.
    """

    loaded: Loaded
    file: RecordFile
    max_new_tokens: int
    batch_size: int
    done: Callable[[], None]
    store: FeatureStore
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
            store=self.store,
        )
        self.answered += trial.counts.answered
        self.resumed += max(0, trial.counts.resumed - known)
        self.seconds += trial.counts.wall_s
        return trial


class ModelJudge:
    """Marks schedules by asking the model the first questions of the searched half.

    Answers go through the records file, so what is there already is not asked again, and the marks are the
    same.
    """

    def __init__(self, asking: Asking, items: Sequence[Item], score: Score) -> None:
        self._asking, self._items, self._score = asking, items, score
        self._asked: dict[str, int] = {}

    def judge(self, candidates: Sequence[Candidate], questions: int) -> list[Mark]:
        """The marks of these candidates over the first so many questions."""
        return self.marks([Arm(one.identity, one.choice) for one in candidates], questions)

    def marks(self, arms: Sequence[Arm], questions: int) -> list[Mark]:
        """The marks of any arms over the first so many questions."""
        known = sum(min(questions, self._asked.get(arm.name, 0)) for arm in arms)
        trial = self._asking.hold(arms, self._items[:questions], known)
        self._asked.update({arm.name: max(questions, self._asked.get(arm.name, 0)) for arm in arms})
        marks = [_mark(trial, place, self._score) for place in range(len(arms))]
        return [
            _resized(mark, trial, place) if arm.choice.resizes and not mark.broken else mark
            for place, (arm, mark) in enumerate(zip(arms, marks, strict=True))
        ]


def _mark(trial: Trial, place: int, score: Score) -> Mark:
    """One arm's mark over the items that any arm has answered; one that fails at one of those is broken."""
    asked = [row for row in trial.rows if any(said.error is None for said in row.said)]
    mine = [replace(row, said=(row.said[place],)) for row in asked]
    failed = [said.error for row in mine for said in row.said if said.error is not None]
    if failed or not mine:
        reasons = failed or [said.error for row in trial.rows for said in row.said if said.error is not None]
        return Mark(0.0, broken=reasons[0] if reasons else "there was nothing to answer")
    images = JudgedImages(mine)
    found, finer = images.estimate(score, 0), _FINER.get(score.name)
    if found is None:
        return Mark(0.0, broken=f"none of the questions has a {score.title}")
    fine = images.estimate(finer, 0) if finer is not None else None
    error = None if found.low is None else (found.value - found.low) / _DEVIATIONS
    return Mark(found.value, found.value if fine is None else fine.value, error)


def _resized(mark: Mark, trial: Trial, place: int) -> Mark:
    """The mark of smaller images with their true average; broken where that is not what was asked for."""
    means, choice = trial.costs[place].means(), trial.arms[place].choice
    average, visual = means.visual_tokens_per_layer, means.visual_tokens
    asked = visual * (1 - (choice.asked_ratio(round(visual)) or 0.0))
    if average <= _MOST_OVER * asked:
        return replace(mark, average=average)
    why = f"smaller images have {average:.1f} visual tokens per layer, and {asked:.1f} were asked for"
    return replace(mark, average=average, broken=why)


@dataclass(frozen=True)
class TuneResult:
    """What came out. space: the budget. dense: its score on the searched half, where a floor needed it.

    logs: every search by its budget, the one that counts last. trial: the arms on the reported half; place:
    of the found schedule among them. published: names of the arms that are methods as they are.
    """

    space: SearchSpace
    entry: Entry
    logs: Logs
    dense: float | None
    trial: Trial
    place: int
    published: tuple[str, ...]
    unreachable: dict[str, str]


def tune(
    loaded: Loaded,
    questions: SplitQuestions,
    request: TuneRequest,
    file: RecordFile,
    where: report.Where,
    *,
    max_new_tokens: int,
    batch_size: int,
    feature_cache: int = 0,
    progress: StudyProgress = SILENT,
) -> TuneReport:
    """Search on one half of the questions, then score what was found on the other half.

    Args:
        loaded: the model.
        questions: in two halves, see `choose_questions`.
        request: the budget or the floor, and what may be searched.
        file: keeps the answers; what it holds already is not asked again.
        where: what the questions are called, for the report.
        max_new_tokens: the longest answer.
        batch_size: items answered together.
        feature_cache: bytes in which encoded images are kept for all schedules and questions.
        progress: told what is going on, and of every answer.

    Returns:
        The report; `profile_text` makes a profile of it.

    Raises:
        UsageError: a budget that is out of reach, with the nearest one; a method that the model can't run.
        Failure: the model can't be asked, or no schedule stays above the floor.
    """
    store = FeatureStore(feature_cache, loaded.device)
    asking = Asking(loaded, file, max_new_tokens, batch_size, progress.done, store)
    progress.tell("searching")
    searched = questions.halves.searched.items
    space, missing = _space(loaded, common_target(loaded, searched), request)
    judge = ModelJudge(asking, searched, questions.score)
    progress.expect(request.answers + (2 + request.published) * len(questions.halves.reported.items))
    logs: Logs
    dense: float | None = None
    if request.floor is None:
        effort = Effort(request.answers, min(len(searched), max(FEWEST, request.answers // _PER_QUESTION)))
        if request.published * effort.rungs[0] > request.answers:
            effort = replace(effort, most=FEWEST)
        log = search(space, judge, effort, request.seed, given=defaults(space, _amount(space, request))[0])
        if log.best is None:
            why = next((one.mark.broken for one in log.entries.values()), "there was none to ask")
            raise Failure(f"the model can't run any schedule at {space.average:.1f} tokens per layer: {why}")
        entry, logs = log.best, ((space, log),)
    else:
        entry, logs, dense = _above_floor(space, judge, request, len(searched))
    space, log = logs[-1]
    asked = (one for one in log.entries.values() if one.candidate.origin == "default")
    broken = {one.candidate.name: one.mark.broken for one in asked if one.mark.broken}
    progress.tell("reporting")
    found = _reported(asking, questions, request, entry, logs, dense, missing | broken)
    return report.make_report(where, questions, request, asking, found)


def _above_floor(
    space: SearchSpace, judge: ModelJudge, request: TuneRequest, questions: int
) -> tuple[Entry, Logs, float]:
    assert request.floor is not None
    most = min(questions, max(FEWEST, request.answers // FINEST))
    dense = judge.marks([Arm(DENSE_ARM, ScheduleChoice(seed=request.seed))], most)[0]
    if dense.broken:
        raise Failure(f"the dense model gave no answer: {dense.broken}")
    floor = request.floor.value(dense.value)
    if floor > dense.value:
        raise Failure(
            f"--floor {request.floor} is above the dense model itself, which has {dense.value:.3f} over "
            f"{most} questions of the searched half: give at most that, or a share like 95%"
        )
    effort = Effort(request.answers - most, most)
    made = descend(space, least_tokens(space.target), judge, effort, request.seed, floor)
    probe = made.cheapest
    if probe is None or probe.log.best is None:
        marks = [(one.log.best.mark, one.space) for one in made.probes if one.log.best is not None]
        if not marks:
            raise Failure("the model can't run any schedule that was tried")
        mark, nearest = max(marks, key=lambda pair: pair[0].value)
        raise Failure(
            f"no schedule stays above {floor:.3f} by a standard error over the searched half: the nearest "
            f"has {mark.value:.3f} ± {mark.error or 0:.3f} at {nearest.average:.1f} tokens per layer; lower "
            f"--floor {request.floor}, or give more --answers"
        )
    ordered = sorted(made.probes, key=lambda one: one is probe)
    return probe.log.best, tuple((one.space, one.log) for one in ordered), dense.value


def common_target(loaded: Loaded, items: Sequence[Item]) -> Target:
    """The model, with the middle one of the counts of visual tokens that these questions have."""
    found = [target_for(loaded, items[index]) for index in spread(len(items), _LOOKED_AT)]
    targets = {target.visual: target for target in found if target is not None and target.visual}
    if not targets:
        raise Failure("none of the questions can be asked: `reroute eval` says what is wrong with each")
    return targets[median_low([target.visual for target in found if target is not None and target.visual])]


def _space(loaded: Loaded, target: Target, request: TuneRequest) -> tuple[SearchSpace, dict[str, str]]:
    """The budget that was asked for (all tokens under a floor), and what of the methods can't be had."""
    methods, missing = request.methods, {}
    behind_vision = [
        name for name in methods if any(one.at_the_tower for one in METHODS[name].selections.values())
    ]
    if behind_vision and (why := no_vision_stage(loaded.family)):
        methods = tuple(name for name in methods if name not in behind_vision)
        missing = {f"{name}-{action}": why for name in behind_vision for action in request.actions}
        if not methods:
            raise UsageError(f"{why}: give other --methods")
    full, least = target.layers * target.visual, least_tokens(target)
    space = SearchSpace(
        target, full, methods, request.actions, request.settings, request.resizing, request.seed
    )
    if request.floor is not None:
        return space, missing
    share = (1 - request.ratio) * target.visual if request.ratio is not None else request.budget or 0.0
    tokens = round(share * target.layers)
    if not least <= tokens < full:
        nearest = least if tokens < least else full - 1
        dense = f"its first {target.first_layer} layers are dense, and " if target.first_layer else ""
        raise UsageError(
            f"{request} is out of reach for {target.visual} visual tokens in {target.layers} layers: {dense}"
            f"between {least / target.layers:.1f} and {(full - 1) / target.layers:.1f} tokens per layer can "
            f"be had; the nearest is --budget {nearest / target.layers:.1f}, or --ratio "
            f"{1 - nearest / full:.4f}"
        )
    space = replace(space, tokens=tokens)
    return space, missing | defaults(space, _amount(space, request))[1]


def _amount(space: SearchSpace, request: TuneRequest) -> ScheduleChoice:
    """The amount as it was typed, so that published methods are asked as every other command asks them."""
    if request.floor is not None:
        return even(space)
    return ScheduleChoice(
        space.methods[0], space.actions[0], ratio=request.ratio, budget=request.budget, seed=request.seed
    )


def _reported(
    asking: Asking,
    questions: SplitQuestions,
    request: TuneRequest,
    entry: Entry,
    logs: Logs,
    dense: float | None,
    missing: dict[str, str],
) -> TuneResult:
    """The dense model, the published methods and what was found, over the reported half."""
    space = logs[-1][0]
    given, refused = defaults(space, _amount(space, request))
    published = [one for one in given if one.name not in missing]
    same = [one for one in published if one.identity == entry.candidate.identity]
    arms = [
        Arm(DENSE_ARM, ScheduleChoice(seed=request.seed)),
        *(Arm(one.name, one.choice) for one in published),
    ]
    if same:  # what was found is a published method as it is
        entry = Entry(same[0], entry.questions, entry.mark)
    else:
        arms.append(Arm(FOUND, entry.candidate.choice))
    return TuneResult(
        space=space,
        entry=entry,
        logs=logs,
        dense=dense,
        trial=asking.hold(arms, questions.halves.reported.items),
        place=1 + published.index(same[0]) if same else len(arms) - 1,
        published=tuple(one.name for one in published),
        unreachable=missing | refused,
    )
