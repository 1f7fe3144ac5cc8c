"""The work of a run, ready before anything is measured: prompts made, schedules solved, lengths checked.

Whatever is wrong with an item is found here, before the long part. Knows models and prompts; measures
nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from reroute_cli.arms import Arm
from reroute_cli.chat import Turn, prompt_of
from reroute_cli.data.images import Picture
from reroute_cli.data.items import Item, told
from reroute_cli.measure import passes
from reroute_cli.models.load import Loaded
from reroute_cli.prompts import Prompt
from reroute_cli.run.answer import count_visual, target_of
from routing import Schedule


@dataclass(frozen=True)
class Task:
    """One item, ready: its prompt on the host, and a schedule for each arm.

    digest: SHA-256 over the images' bytes and the question, or all turns.
    """

    item: Item
    digest: str
    prompt: Prompt
    visual: int
    schedules: tuple[Schedule, ...]

    def preprocess(self, loaded: Loaded) -> float:
        """Seconds to make the prompt anew from the opened images; opening them is not timed."""
        pictures = [image.open() for image in self.item.images]
        return prompt_of(loaded.processor, pictures, self.item.question, self.item.turns).seconds


@dataclass(frozen=True)
class Work:
    """Everything that a run does: each task under each arm, the dense arm first."""

    loaded: Loaded
    arms: tuple[Arm, ...]
    tasks: tuple[Task, ...]


def prepare(loaded: Loaded, items: Sequence[Item], arms: tuple[Arm, ...], new_tokens: int) -> Work:
    """Make every prompt and schedule; raises what their parts raise, and says with which item."""
    tasks = tuple(_task(loaded, item, arms, new_tokens) for item in items)
    return Work(loaded, arms, tasks)


def _task(loaded: Loaded, item: Item, arms: Sequence[Arm], new_tokens: int) -> Task:
    with told(item):
        pictures = [image.open() for image in item.images]
        prompt = prompt_of(loaded.processor, pictures, item.question, item.turns)
        passes.check_context(loaded, prompt, new_tokens)
        visual = count_visual(loaded, prompt)
    target = target_of(loaded, visual)
    schedules = tuple(arm.choice.build(target) for arm in arms)
    return Task(item, _digest(pictures, item.question, item.turns), prompt, visual, schedules)


def _digest(pictures: Sequence[Picture], question: str, turns: Sequence[Turn]) -> str:
    said = [[turn.message() for turn in turns]] if turns else []
    parts = json.dumps([[picture.digest for picture in pictures], question, *said])
    return hashlib.sha256(parts.encode()).hexdigest()
