"""What a model family is, as data: one file beside this one says all that is particular about one.

Where its decoder and its visual tokens are, from which decoder layer on tokens may be reduced, what its
vision tower costs, what becomes of an image, how boxes are asked for and written, what its processor must
share with the model's config, and how its published checkpoints are asked. Knows no schedules, tensors or
hooks, and imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from routing.families.encoders import ENCODERS, MergedStage, PatchStage
from routing.grids import ImageGrids, Size, View
from routing.towers import Config, Tower

CLASS_TOKENS = {kind: ENCODERS[kind].class_tokens for kind in ("clip_vision_model", "siglip_vision_model")}
"""CLS tokens beside the patches of the towers with images of one size."""


@dataclass(frozen=True)
class Missing:
    """A fact that a family does not have. because: why, in words that go on 'the family has none: ...'."""

    because: str


@dataclass(frozen=True)
class Convention:
    """How coordinates are written.

    title: to show. full: what stands for the whole width and height; None: pixels of the resized image.
    y_first: the order is y1, x1, y2, x2.
    """

    title: str
    full: float | None
    y_first: bool = False

    def across(self, view: View) -> tuple[float, float]:
        """The numbers that stand for the full width and the full height of the view."""
        return (float(view.columns), float(view.rows)) if self.full is None else (self.full, self.full)


UNIT = Convention("0–1", 1.0)
THOUSAND = Convention("0–1000", 1000.0)


@dataclass(frozen=True)
class Grounding:
    """How a family is asked for the box of an expression, and how it writes one.

    question: with {ref} where the expression goes.
    """

    question: str
    boxes: Convention


NO_BOXES = Missing("it has no published way to write a box")


def setting(source: Any, path: str, default: Any = None) -> Any:
    """A dotted setting of a config or processor, which may be loaded or the dict of its JSON file.

    `default` where it is not given or null.
    """
    for name in path.split("."):
        source = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
        if source is None:
            return default
    return source


def number(source: Any, path: str, default: int | None = None) -> int:
    """The same as a whole number, of a pair or of height and width the first.

    Raises LookupError where there is none.
    """
    found = setting(source, path, default)
    if found is None:
        raise LookupError(f"{path} is missing")
    if isinstance(found, list | tuple):
        return int(found[0])
    return int(found) if isinstance(found, int | float | str) else number(found, "height")


def whole_view(_image: Any, size: Size) -> View:
    """The model sees all of an image, stretched or in tiles."""
    return View(0.0, 0.0, *size, *size)


def one_image_token(config: Any) -> tuple[int, ...]:
    """The ids whose positions are visual tokens, for families with a single placeholder."""
    return (int(config.image_token_id),)


def image_and_video_tokens(config: Any) -> tuple[int, ...]:
    """The same for families that mark video tokens with an id of their own."""
    return (int(config.image_token_id), int(config.video_token_id))


@dataclass(frozen=True)
class Shared:
    """What a processor must have as the model's config says it.

    values: dotted attribute of the processor -> the value that follows from the config. origin: the fields
    of the config that it follows from. holds: processor -> whether it agrees, where equal values are not the
    only way to. fills: a processor whose files do not say a value may be given it.
    """

    values: Mapping[str, Any]
    origin: str
    holds: Callable[[Any], bool] | None = None
    fills: bool = True


@dataclass(frozen=True)
class ChatTemplate:
    """How a published checkpoint is asked.

    text: a Jinja template. source: where it was published. tokens: what the tokenizer must have for it.
    """

    text: str
    source: str
    tokens: tuple[str, ...] = ()


def in_order(image: str) -> str:
    """Jinja of one message `m`: its parts as they come. image: what stands for one image."""
    return f'{{% for c in m.content %}}{{{{ "{image}" if c.type == "image" else c.text }}}}{{% endfor %}}'


def images_first(image: str, before: str = "", after: str = "") -> str:
    """Jinja of one message `m`: all its images, then its texts, each between `before` and `after`."""
    return (
        f'{{% for c in m.content if c.type == "image" %}}{{{{ "{image}" }}}}{{% endfor %}}'
        '{% for c in m.content if c.type == "text" %}'
        f'{{{{ "{before}" + c.text + "{after}" }}}}{{% endfor %}}'
    )


def chatml(content: str, source: str, system: str = "", tokens: tuple[str, ...] = ()) -> ChatTemplate:
    """Turns between <|im_start|> and <|im_end|>.

    content: Jinja of one message `m`. system: the system turn of a chat that brings none; empty: no turn.
    """
    opening = f'{{{{ "<|im_start|>system\\n{system}<|im_end|>\\n" }}}}'
    return ChatTemplate(
        (f'{{% if messages[0].role != "system" %}}{opening}{{% endif %}}' if system else "")
        + f'{{% for m in messages %}}{{{{ "<|im_start|>" + m.role + "\\n" }}}}{content}'
        '{{ "<|im_end|>\\n" }}{% endfor %}'
        '{% if add_generation_prompt %}{{ "<|im_start|>assistant\\n" }}{% endif %}',
        source,
        ("<|im_start|>", "<|im_end|>", *tokens),
    )


def any_layer(_config: Any) -> int:
    """Visual tokens enter once, before layer 0: every decoder layer may decide."""
    return 0


def patch_grid(config: Any, _processor: Any) -> tuple[Shared, ...]:
    """The patches of dynamic-resolution towers: a processor that cuts otherwise makes other tokens."""
    return tuple(
        Shared({f"image_processor.{mine}": getattr(config.vision_config, its)}, f"vision_config.{its}")
        for mine, its in (
            ("patch_size", "patch_size"),
            ("temporal_patch_size", "temporal_patch_size"),
            ("merge_size", "spatial_merge_size"),
        )
    )


@dataclass(frozen=True)
class Family:
    """One model family.

    model_types: values of `config.model_type` it covers.
    title: a name to show.
    grids: config, image processor, size of an image -> what the image becomes. Config and processor may be
    loaded or the dicts of config.json and preprocessor_config.json.
    tower: config.json as a dict, width of the decoder -> the vision tower as numbers; NotImplementedError
    says why where its cost is not modelled.
    grounding: how it is asked for a box and writes one.
    vision_stage: where visual tokens are chosen at its vision tower.
    chat_templates: config -> published templates, the first whose tokens the tokenizer has being the one.
    shared: config, processor -> what the processor must have as the config says it.
    text: model_type of the decoder where a config names none; None: llama, as in the library.
    decoder: attribute of the base model that holds the language model.
    visual_tokens: config -> token ids whose positions are visual tokens.
    first_layer: config -> first decoder layer that may decide (deepstack models inject features before it).
    view: image processor, size of an image -> the part of it that the model sees, to read boxes by.
    one_size: every image becomes one grid of the same size.
    bidirectional: attention inside the prompt is not causal, so masks always matter.
    task: what stands around a question for a short answer, with {question} in it, in families that know tasks
    and no instructions.
    """

    model_types: tuple[str, ...]
    title: str
    grids: Callable[[Any, Any, Size], ImageGrids]
    tower: Callable[[Config, int], Tower]
    grounding: Grounding | Missing
    vision_stage: PatchStage | MergedStage | Missing
    chat_templates: Callable[[Any], tuple[ChatTemplate, ...]] | Missing
    shared: Callable[[Any, Any], tuple[Shared, ...]]
    text: str | None = None
    decoder: str = "language_model"
    visual_tokens: Callable[[Any], tuple[int, ...]] = one_image_token
    first_layer: Callable[[Any], int] = any_layer
    view: Callable[[Any, Size], View] = whole_view
    one_size: bool = False
    bidirectional: bool = False
    task: str | None = None
