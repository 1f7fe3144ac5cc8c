"""Questions about a scene, with the right answer and the things the answer looks at.

Knows scenes; knows nothing of tokens, models or training. Every wording is fixed: the embedded model knows
no other.
"""

import random
from dataclasses import dataclass

from samples.pocket_training.scenes import IMAGE_SIZE, NAMES, Box, Scene, Thing

KINDS = ("where", "size", "side", "relation", "exists", "count", "region", "beside")
BOX_KINDS = frozenset(("where", "size", "side", "relation"))
REFERRING_KINDS = frozenset(("size", "side", "relation"))
MARGIN = 8
"""Pixels by which a middle must lie on one side of another to count as left or right of it."""


@dataclass(frozen=True)
class Question:
    """kind is one of KINDS; targets are indices of the scene's things that the answer is read from."""

    kind: str
    text: str
    answer: str
    targets: tuple[int, ...] = ()


def box_text(box: Box) -> str:
    """LLaVA's convention: [x1,y1,x2,y2] as fractions of the picture, two decimals."""
    return "[" + ",".join(f"{value / IMAGE_SIZE:.2f}" for value in box) + "]"


def all_questions(scene: Scene, chance: random.Random) -> list[Question]:
    """Every question of the scene in random order; as many absent as present kinds are asked for."""
    asked = [
        *_where(scene), *_twins(scene), *_relations(scene), *_existence(scene, chance),
        _count(scene), *_regions(scene), *_beside(scene),
    ]  # fmt: skip
    chance.shuffle(asked)
    return asked


def pick(asked: list[Question], limits: dict[str, int]) -> list[Question]:
    """The first questions of each kind, at most `limits[kind]` of it."""
    taken: dict[str, int] = {}
    chosen = []
    for question in asked:
        taken[question.kind] = taken.get(question.kind, 0) + 1
        if taken[question.kind] <= limits.get(question.kind, 0):
            chosen.append(question)
    return chosen


def _by_kind(scene: Scene) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for index, thing in enumerate(scene.things):
        groups.setdefault(thing.kind, []).append(index)
    return groups


def _singles(scene: Scene) -> list[int]:
    return [group[0] for group in _by_kind(scene).values() if len(group) == 1]


def _pairs(scene: Scene) -> list[tuple[int, int]]:
    """Indices (left, right) of the two things of one kind."""
    pairs = [group for group in _by_kind(scene).values() if len(group) == 2]
    ordered = [sorted(pair, key=lambda index: scene.things[index].centre_x) for pair in pairs]
    return [(left, right) for left, right in ordered]


def _locate(scene: Scene, kind: str, text: str, index: int) -> Question:
    return Question(kind, text, box_text(scene.things[index].box), (index,))


def _where(scene: Scene) -> list[Question]:
    singles = _singles(scene)
    return [_locate(scene, "where", f"where is the {scene.things[i].name}?", i) for i in singles]


def _twins(scene: Scene) -> list[Question]:
    asked = []
    for left, right in _pairs(scene):
        name = scene.things[left].name
        small, large = sorted((left, right), key=lambda index: scene.things[index].size)
        asked.append(_locate(scene, "size", f"where is the smaller {name}?", small))
        asked.append(_locate(scene, "size", f"where is the larger {name}?", large))
        if scene.things[right].centre_x - scene.things[left].centre_x > 1.5 * MARGIN:
            asked.append(_locate(scene, "side", f"where is the {name} on the left?", left))
            asked.append(_locate(scene, "side", f"where is the {name} on the right?", right))
    return asked


def _relations(scene: Scene) -> list[Question]:
    """`the X left of the Y`: Y stands between the two X."""
    asked = []
    for left, right in _pairs(scene):
        name = scene.things[left].name
        for middle in _singles(scene):
            other = scene.things[middle]
            if _is_left(scene.things[left], other) and _is_left(other, scene.things[right]):
                asked.append(
                    _locate(scene, "relation", f"where is the {name} left of the {other.name}?", left)
                )
                asked.append(
                    _locate(scene, "relation", f"where is the {name} right of the {other.name}?", right)
                )
    return asked


def _is_left(one: Thing, other: Thing) -> bool:
    return one.centre_x < other.centre_x - MARGIN


def _existence(scene: Scene, chance: random.Random) -> list[Question]:
    groups = _by_kind(scene)
    present = chance.sample(sorted(groups), min(3, len(groups)))
    absent = chance.sample([kind for kind in range(len(NAMES)) if kind not in groups], len(present))
    asked = [Question("exists", _is_there(kind), "yes", tuple(groups[kind])) for kind in present]
    return asked + [Question("exists", _is_there(kind), "no") for kind in absent]


def _count(scene: Scene) -> Question:
    number = len(scene.things)
    return Question("count", "how many objects are there?", str(number), tuple(range(number)))


def _is_there(kind: int) -> str:
    name = NAMES[kind]
    return f"is there {'an' if name[0] in 'aeiou' else 'a'} {name} in the image?"


def _regions(scene: Scene) -> list[Question]:
    things = enumerate(scene.things)
    return [Question("region", f"what is at {box_text(t.box)}?", t.name, (index,)) for index, t in things]


def _beside(scene: Scene) -> list[Question]:
    """`what is left of the Y?`, asked where exactly one thing is and nothing is nearly so."""
    asked = []
    for index in _singles(scene):
        for side, sign in (("left", 1), ("right", -1)):
            distances = {
                other: sign * (scene.things[index].centre_x - thing.centre_x)
                for other, thing in enumerate(scene.things)
                if other != index
            }
            near = [other for other, distance in distances.items() if distance > -MARGIN]
            if len(near) == 1 and distances[near[0]] > MARGIN:
                text = f"what is {side} of the {scene.things[index].name}?"
                asked.append(Question("beside", text, scene.things[near[0]].name, (near[0],)))
    return asked
