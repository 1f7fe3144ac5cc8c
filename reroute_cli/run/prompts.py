"""A prompt as it is asked under one schedule; of smaller images, where the method makes them so.

Of smaller images the original's prompt is kept as well: the amount, and all that is called dense, is of that
one. Knows images, prompts, schedules, and the family's arithmetic of visual tokens; runs no model.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import Failure
from reroute_cli.records.answer import ResizedImage, ResizedPart
from routing.families import family_of, locate
from routing.families.family import number
from routing.methods.downsample import smaller
from routing.solve import Target

if TYPE_CHECKING:
    from reroute_cli.data.images import Picture
    from reroute_cli.data.prompts import Prompt
    from reroute_cli.models.load import Loaded
    from reroute_cli.run.schedules import ScheduleChoice
    from routing import Schedule
    from routing.grids import ImageGrids, Size

_PATCH = 14  # pixels of a patch's side where a config does not say it: that of CLIP's large towers


@dataclass(frozen=True)
class Shrunk:
    """What a prompt of smaller images was before: its prompt, that one's visual tokens, and all sizes."""

    prompt: Prompt
    visual: int
    part: ResizedPart


@dataclass(frozen=True)
class PreparedPrompt:
    """A prompt that the model can answer. visual: how many of its tokens are visual tokens.

    shrunk: what it was before its images were made smaller, None where they were not.
    """

    prompt: Prompt
    visual: int
    schedule: Schedule
    max_new_tokens: int
    shrunk: Shrunk | None = None

    @property
    def kind(self) -> Hashable:
        """What all prompts of one pass have in common."""
        return self.schedule, self.max_new_tokens, frozenset(self.prompt.inputs)

    @property
    def original(self) -> Prompt:
        """The prompt of the images as they are."""
        return self.prompt if self.shrunk is None else self.shrunk.prompt

    @property
    def original_visual(self) -> int:
        """Visual tokens of the images as they are."""
        return self.visual if self.shrunk is None else self.shrunk.visual


def count_visual(loaded: Loaded, prompt: Prompt) -> int:
    """Visual tokens of a prompt; raises Failure where there are none to reduce."""
    if visual := prompt.count(loaded.image_token_ids):
        return visual
    raise Failure(f"the processor of '{loaded.name}' made no visual tokens that its config knows of")


def target_of(loaded: Loaded, visual: int) -> Target:
    """What a schedule must fit: this model and this many visual tokens."""
    tower = getattr(loaded.model.config, "vision_config", None)
    kind = str(getattr(tower, "model_type", ""))
    return Target(loaded.layers, loaded.first_layer, visual, kind, loaded.last_layer)


def begin_alike(loaded: Loaded, prompts: Sequence[PreparedPrompt]) -> bool:
    """Whether prompts show the same images before anything that tells them apart, and the model can use it.

    All that a processor made beside the tokens must be equal, and the tokens up to the last image's.
    """
    if len(prompts) < 2 or loaded.refusal is not None:
        return False
    from routing.prefix import why_not_shared

    first, *others = (one.prompt for one in prompts)
    end = first.tokens - first.behind(loaded.image_token_ids)
    for other in others:
        if other.tokens - other.behind(loaded.image_token_ids) != end:
            return False
        for name, value in first.inputs.items():
            mine, own = value, other.inputs[name]
            if value.shape == first.inputs["input_ids"].shape:
                mine, own = mine[:, :end], own[:, :end]
            if mine is not own and not mine.equal(own):
                return False
    return why_not_shared(locate(loaded.model)) is None


def prepared(
    loaded: Loaded,
    choice: ScheduleChoice,
    pictures: Sequence[Picture],
    make: Callable[[Sequence[Picture]], Prompt],
    prompt: Prompt,
    max_new_tokens: int,
) -> PreparedPrompt:
    """What is asked under this schedule about these images.

    make: the prompt of other images in their place. prompt: of the images as they are. Raises what building
    the schedule raises, and Failure where the size of an image does not tell its visual tokens.
    """
    visual = count_visual(loaded, prompt)
    schedule = choice.build(target_of(loaded, visual))
    if not choice.resizes:
        return PreparedPrompt(prompt, visual, schedule, max_new_tokens)
    grids = partial(family_of(loaded.family).grids, loaded.model.config, loaded.processor.image_processor)
    start = perf_counter()
    sizes = [picture.size for picture in pictures]
    part = resized(grids, sizes, choice.asked_ratio(visual) or 0.0, loaded.model.config)
    images = [one.resized(made.size) for one, made in zip(pictures, part.images, strict=True)]
    seconds = perf_counter() - start
    asked = make(images)
    counts = visual, count_visual(loaded, asked)
    told = (
        sum(one.original_visual_tokens for one in part.images),
        sum(one.visual_tokens for one in part.images),
    )
    if counts != told:
        raise Failure(
            f"the processor of '{loaded.name}' makes {counts[0]} and {counts[1]} visual tokens of images "
            f"whose sizes say {told[0]} and {told[1]}: it can't be told how small they must be"
        )
    asked = replace(asked, seconds=asked.seconds + seconds)
    return PreparedPrompt(asked, counts[1], schedule, max_new_tokens, Shrunk(prompt, visual, part))


def resized(
    grids: Callable[[Size], ImageGrids], sizes: Sequence[Size], ratio: float, config: Any
) -> ResizedPart:
    """What images of these sizes become at a reduction ratio, in numbers.

    grids: of an image of any size, what the family's processor makes of it. config: the model's, loaded or as
    a dict. Raises Failure where a size does not tell the visual tokens.
    """
    patch, images = number(config, "vision_config.patch_size", _PATCH), []
    try:
        for size in sizes:
            made = smaller(size, ratio, grids, patch)
            images.append(
                ResizedImage(
                    original_size=size,
                    size=made,
                    original_visual_tokens=grids(size).visual,
                    visual_tokens=grids(made).visual,
                )
            )
    except NotImplementedError as error:
        raise Failure(
            "how many visual tokens a smaller image would have is not known of this model: choose another "
            "method"
        ) from error
    saves = any(one.visual_tokens < one.original_visual_tokens for one in images)
    return ResizedPart(images=images, saves=saves)
