"""The whole search: questions split, model asked, the schedule found on one half and scored on the other.

Knows trials, searches and budgets; not the terminal, and not how a report is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median_low

from reroute_cli.arms import Arm
from reroute_cli.batch_inputs import BatchItem
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import Progress
from reroute_cli.evaluation.feasible import target_for
from reroute_cli.evaluation.score import Score
from reroute_cli.evaluation.trial import Trial
from reroute_cli.inputs import spread
from reroute_cli.metrics import DENSE_ARM
from reroute_cli.models import Loaded
from reroute_cli.schedules import ScheduleChoice, Target
from reroute_cli.tuning.floor import FINEST, Descent, descend, even
from reroute_cli.tuning.halves import Halves, split
from reroute_cli.tuning.jury import Asking, ModelJury
from reroute_cli.tuning.moves import defaults
from reroute_cli.tuning.plans import Candidate, Room, least_tokens
from reroute_cli.tuning.search import FEWEST, Course, Effort, Entry, search
from reroute_cli.tuning.wish import Wish, asks_for, chosen_score

FOUND = "tuned"  # the arm of what was found
_LOOKED_AT = 32  # questions whose visual tokens are counted, to know what a budget is for
_PER_QUESTION = 16  # answers of a search for each question of its last rung


@dataclass(frozen=True)
class Questions:
    """What is asked. score: what the search is for. other: questions that it is not of."""

    halves: Halves
    score: Score
    other: int


@dataclass(frozen=True)
class Found:
    """What came out. room: the budget. dense: its score on the searched half, where a floor needed it.

    courses: every search by its budget, the one that counts last. trial: the arms on the reported half;
    place: of the found schedule among them. published: names of the arms that are methods as they are.
    """

    room: Room
    entry: Entry
    courses: tuple[tuple[Room, Course], ...]
    dense: float | None
    trial: Trial
    place: int
    published: tuple[str, ...]
    unreachable: dict[str, str]


def choose_questions(
    items: Sequence[BatchItem], scores: Iterable[Score], name: str | None, limit: int | None, seed: int
) -> Questions:
    """The questions that the score is of, or `limit` of them, spread evenly, in two halves."""
    score = chosen_score(name, scores, items)
    asked = asks_for(score, items)
    chosen = [asked[index] for index in spread(len(asked), limit or len(asked))]
    return Questions(split(chosen, seed), score, len(items) - len(asked))


def tune(asking: Asking, questions: Questions, wish: Wish, progress: Progress) -> Found:
    """Search, then ask the reported half."""
    searched = questions.halves.searched.items
    target = common_target(asking.loaded, searched)
    room, missing = _room(asking.loaded, target, wish)
    jury = ModelJury(asking, searched, questions.score)
    arms = 2 + len(room.methods) * len(room.actions)
    progress.expect(wish.answers + arms * len(questions.halves.reported.items))
    if wish.floor is None:
        entry, courses, dense = _at_budget(room, jury, wish, len(searched))
    else:
        entry, courses, dense, room = _above_floor(room, jury, wish, len(searched))
    broken = {name: why for _, course in courses[-1:] for name, why in _broken(course).items()}
    progress.tell("reporting")
    return _reported(asking, questions, wish, _Search(room, entry, courses, dense, missing | broken))


@dataclass(frozen=True)
class _Search:
    room: Room
    entry: Entry
    courses: tuple[tuple[Room, Course], ...]
    dense: float | None
    missing: dict[str, str]


def _at_budget(
    room: Room, jury: ModelJury, wish: Wish, questions: int
) -> tuple[Entry, tuple[tuple[Room, Course], ...], None]:
    given, _ = defaults(room, _amount(room, wish))
    effort = Effort(wish.answers, min(questions, max(FEWEST, wish.answers // _PER_QUESTION)))
    course = search(room, jury, effort, wish.seed, given=given)
    if course.best is None:
        why = next((entry.mark.broken for entry in course.entries.values()), "there was none to ask")
        raise Failure(f"the model can't run any schedule at {room.average:.1f} tokens per layer: {why}")
    return course.best, ((room, course),), None


def _above_floor(
    room: Room, jury: ModelJury, wish: Wish, questions: int
) -> tuple[Entry, tuple[tuple[Room, Course], ...], float, Room]:
    assert wish.floor is not None
    most = min(questions, max(FEWEST, wish.answers // FINEST))
    effort = Effort(wish.answers - most, most)
    dense = jury.dense(most, wish.seed)
    if dense.broken:
        raise Failure(f"the dense model gave no answer: {dense.broken}")
    floor = wish.floor.value(dense.value)
    if floor > dense.value:
        raise Failure(
            f"--floor {wish.floor} is above the dense model itself, which has {dense.value:.3f} over "
            f"{most} questions of the searched half: give at most that, or a share like 95%"
        )
    made = descend(room, least_tokens(room.target), jury, effort, wish.seed, floor)
    probe = made.cheapest
    if probe is None or probe.course.best is None:
        raise Failure(_nothing_above(made, wish, floor))
    ordered = sorted(made.probes, key=lambda one: one is probe)
    return probe.course.best, tuple((one.room, one.course) for one in ordered), dense.value, probe.room


def _nothing_above(made: Descent, wish: Wish, floor: float) -> str:
    marks = [(one.course.best.mark, one.room) for one in made.probes if one.course.best is not None]
    if not marks:
        return "the model can't run any schedule that was tried"
    mark, room = max(marks, key=lambda pair: pair[0].value)
    return (
        f"no schedule stays above {floor:.3f} by a standard error over the searched half: the nearest has "
        f"{mark.value:.3f} ± {mark.error or 0:.3f} at {room.average:.1f} tokens per layer; lower --floor "
        f"{wish.floor}, or give more --answers"
    )


def common_target(loaded: Loaded, items: Sequence[BatchItem]) -> Target:
    """The model, with the middle one of the counts of visual tokens that these questions have."""
    found = [target_for(loaded, items[index]) for index in spread(len(items), _LOOKED_AT)]
    targets = {target.visual: target for target in found if target is not None and target.visual}
    if not targets:
        raise Failure("none of the questions can be asked: `reroute eval` says what is wrong with each")
    return targets[median_low([target.visual for target in found if target is not None and target.visual])]


def _room(loaded: Loaded, target: Target, wish: Wish) -> tuple[Room, dict[str, str]]:
    """The budget that was asked for (all tokens under a floor), and what of the methods can't be had."""
    from routing.vision import TOWERS

    methods, missing = wish.methods, {}
    if "nuwa" in methods and loaded.family not in TOWERS:
        methods = tuple(name for name in methods if name != "nuwa")
        why = f"the vision stage (Nuwa) works with {', '.join(TOWERS)}; {loaded.family} is not among them"
        missing = {f"nuwa-{action}": why for action in wish.actions}
        if not methods:
            raise UsageError(f"{why}: give other --methods")
    full = target.layers * target.visual
    room = Room(target, full, methods, wish.actions, _vision_scorer(target), wish.seed)
    if wish.floor is not None:
        return room, missing
    room = Room(target, _layer_tokens(target, wish), methods, wish.actions, room.vision_scorer, wish.seed)
    return room, missing | defaults(room, _amount(room, wish))[1]


def _vision_scorer(target: Target) -> str:
    """What Nuwa's own schedule ranks patches by on this model; half the tokens can always be had."""
    made = ScheduleChoice("nuwa", "prune", ratio=0.5).build(target)
    return "cls" if made.vision is None else made.vision.scorer


def _layer_tokens(target: Target, wish: Wish) -> int:
    """The budget in layer-tokens; raises UsageError, with the nearest one, where it is out of reach."""
    full, least = target.layers * target.visual, least_tokens(target)
    share = (1 - wish.ratio) * target.visual if wish.ratio is not None else wish.budget or 0.0
    tokens = round(share * target.layers)
    if least <= tokens < full:
        return tokens
    nearest = least if tokens < least else full - 1
    dense = f"its first {target.first_layer} layers are dense, and " if target.first_layer else ""
    raise UsageError(
        f"{wish} is out of reach for {target.visual} visual tokens in {target.layers} layers: {dense}"
        f"between {least / target.layers:.1f} and {(full - 1) / target.layers:.1f} tokens per layer can be "
        f"had; the nearest is --budget {nearest / target.layers:.1f}, or --ratio {1 - nearest / full:.4f}"
    )


def _amount(room: Room, wish: Wish) -> ScheduleChoice:
    """The amount as it was typed, so that published methods are asked as every other command asks them."""
    if wish.floor is not None:
        return even(room)
    return ScheduleChoice(
        room.methods[0], room.actions[0], ratio=wish.ratio, budget=wish.budget, seed=wish.seed
    )


def _broken(course: Course) -> dict[str, str]:
    """Published methods that the model can't run."""
    entries = (entry for entry in course.entries.values() if entry.candidate.origin == "default")
    return {entry.candidate.name: entry.mark.broken for entry in entries if entry.mark.broken}


def _reported(asking: Asking, questions: Questions, wish: Wish, done: _Search) -> Found:
    """The dense model, the published methods and what was found, over the reported half."""
    given, missing = defaults(done.room, _amount(done.room, wish))
    published = [one for one in given if one.name not in done.missing]
    same = [one for one in published if one.identity == done.entry.candidate.identity]
    arms = [Arm(DENSE_ARM, ScheduleChoice(seed=wish.seed)), *(Arm(one.name, one.choice) for one in published)]
    if not same:
        arms.append(Arm(FOUND, done.entry.candidate.choice))
    trial = asking.hold(arms, questions.halves.reported.items)
    return Found(
        room=done.room,
        entry=_renamed(done.entry, same),
        courses=done.courses,
        dense=done.dense,
        trial=trial,
        place=1 + published.index(same[0]) if same else len(arms) - 1,
        published=tuple(one.name for one in published),
        unreachable=done.missing | missing,
    )


def _renamed(entry: Entry, same: Sequence[Candidate]) -> Entry:
    """The entry as the published method that it is the same as, if it is."""
    return Entry(same[0], entry.questions, entry.mark) if same else entry
