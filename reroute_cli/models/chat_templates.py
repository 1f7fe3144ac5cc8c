"""Which chat template a model is asked with: the one that was given, its own, or its family's published one.

A template is taken only if it puts in an image and the question: without the image token an answer is about
no image at all. Templates are programs of other people: transformers runs them in a sandbox. Knows processors
and families; not options, models or files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.data.prompts import render_template
from routing.families import FAMILIES, family_of
from routing.families.family import Missing

OWN = "model"
_PROBE = "where is the cup"


@dataclass(frozen=True)
class ChosenTemplate:
    """The template that a processor was left with.

    identity: "model", or "family" or "file" with the SHA-256 of its text. remark: what to say about it, if
    anything.
    """

    identity: str = OWN
    remark: str | None = None


def choose_template(name: str, processor: Any, config: Any, given: str | None) -> ChosenTemplate:
    """Leave the processor with the template that it is to be asked with.

    given: the text of --chat-template, or None. Raises UsageError where the given one can't be used, Failure
    where none can.
    """
    known = config.model_type in FAMILIES
    if given is not None:
        if problem := _problem(processor, given, known):
            raise UsageError(f"--chat-template can't be used with '{name}': it {problem}")
        return ChosenTemplate(_identity("file", given))
    own, problem = processor.chat_template, ""
    for template in (own, processor.tokenizer.chat_template):
        if template:
            problem = _problem(processor, template, known)
            if not problem:
                return ChosenTemplate()
    published = family_of(config.model_type).chat_templates
    if isinstance(published, Missing) and known:  # its processor itself puts in the image
        processor.chat_template = own
        return ChosenTemplate()
    vocabulary = processor.tokenizer.get_vocab().keys()
    for one in () if isinstance(published, Missing) else published(config):
        if vocabulary >= set(one.tokens) and not _problem(processor, one.text, known):
            why = f"its own {problem}" if problem else "it has none of its own"
            remark = (
                f"'{name}' is asked with the chat template of {one.source}, as {why}; see --chat-template"
            )
            return ChosenTemplate(_identity("family", one.text), remark)
    lack = (
        f"the chat template of '{name}' {problem}" if problem else f"the model '{name}' has no chat template"
    )
    raise Failure(
        f"{lack}, and none is known for its decoder and tokenizer: give one with --chat-template FILE"
    )


def _problem(processor: Any, template: Any, known: bool) -> str:
    """What keeps a template from being used, empty where nothing does; the processor is left with it.

    known: the family has a file. Processors of others may have a mark of their own for an image.
    """
    processor.chat_template = template
    try:
        shown = render_template(processor, _PROBE, 1)
    except Failure as error:
        return f"fails ({error.__cause__})"
    token = getattr(processor, "image_token", "<image>")
    marked = not known and token not in shown and shown != render_template(processor, _PROBE, 0)
    if shown.count(token) != 1 and not marked:
        return f"puts in {shown.count(token)} '{token}' for one image"
    return "" if _PROBE in shown else "leaves out the question"


def _identity(kind: str, template: str) -> str:
    return f"{kind} {hashlib.sha256(template.encode()).hexdigest()}"
