"""One method: where it decides and what it needs there, what it can be asked for, its published budgets.

Knows the record; no writer and no method.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from reroute_cli.console.typed import TYPED_OTHERWISE
from reroute_cli.records.lists import MethodStagePart, ShownMethod
from reroute_cli.views import wording as w
from reroute_cli.views.document import NOT_KNOWN, Block, Cell, Document, Heading, Text, Tone

NEEDS = {
    "attention": "the tower's attention from its CLS token",
    "received": "the tower's attention from all tokens",
    "shallow": "attention from all tokens in a shallow layer of the tower",
    "keys": "the tower's keys",
    "states": "the tower's hidden states",
    "text": "the text of the prompt",
}
"""What `routing.methods.selection.Need` is called here."""

DECODER_NEEDS = {
    "text": "the text behind the image",
    "attention": "the attention that it pays",
    "keys": "the layer's keys",
    "states": "the hidden states",
}
"""What `routing.methods.Scorer.needs` is called here, where other than the last tokens rank."""


def document(found: ShownMethod, *, verbose: bool = False) -> Document:  # noqa: ARG001  it says all it has
    """Headline, paper, decisions, options, budgets."""
    year = "" if found.year is None else f" {found.year}"
    headline = Text(f"{found.name} ({found.title}{year}): {found.summary}", Tone.HEADLINE)
    decisions = list(_decisions(found))
    otherwise = "it decides at no layer: all visual tokens go through all of them"
    if found.resizes:
        otherwise = "it makes images smaller before the processor, and decides at no layer"
    return Document(
        "method",
        (
            headline,
            *([] if found.paper is None else [Text(found.paper, whole=True)]),
            *([] if found.refused is None else [Text(found.refused, Tone.WARNING)]),
            *(decisions or [Text(otherwise)]),
            *_options(found),
            *_budgets(found),
        ),
    )


def _decisions(found: ShownMethod) -> Iterator[Block]:
    """A row for each place at which an action decides; decoder layers that ask the same are one row."""
    rows = []
    for action, stages in found.stages.items():
        for where, group in groupby(stages, key=lambda stage: stage.where):
            same = list(group)
            layers = "layers " if len(same) > 1 else "layer "
            layers += ", ".join(str(stage.layer) for stage in same)
            at = w.PLACES.get(where, layers)
            at += f", from {layers} on" if where in w.PLACES and same[0].layer else ""
            rows.append((Cell(action, role=action), Cell(at), Cell(_needs(same[0]))))
    if rows:
        yield Heading(f"Where it decides in the {found.layers} decoder layers of {found.model}, and what by")
        yield w.table("Where it decides", w.columns("action", "where", "it needs"), rows)


def _needs(stage: MethodStagePart) -> str:
    """'the attention of the last prompt token'; 'the tower's keys, the text of the prompt'."""
    if stage.where in w.PLACES:
        return ", ".join(NEEDS[need] for need in stage.needs) or "nothing but the features"
    if not stage.needs:
        return "nothing: it draws"
    if stage.queries is None:
        return ", ".join(DECODER_NEEDS[need] for need in stage.needs)
    last = "last prompt token" if stage.queries == 1 else f"last {stage.queries} prompt tokens"
    return f"the attention of the {last}"


def _options(found: ShownMethod) -> Iterator[Block]:
    """What it can be asked for, what numbers may be, and which options have a name of their own here."""
    rows = []
    for name, what in found.options.items():
        bounds = [found.bounds[name]] if name in found.bounds else []
        here = [f"here {TYPED_OTHERWISE[name]}"] if name in TYPED_OTHERWISE else []
        rows.append((w.words(name), Cell("; ".join([what, *bounds, *here]))))
    if rows:
        yield Heading("Options: --set NAME=VALUE, or under 'options' in a profile")
        yield w.table("Options", w.columns("option", "what it does"), rows)


def _budgets(found: ShownMethod) -> Iterator[Block]:
    """Every profile of it with its true average, beside that of the one solved again for the same budget."""
    numbers = ("named for", "averages", "-exact")
    by_name = {one.profile: one for one in found.budgets}
    rows = []
    for one in found.budgets:
        if one.origin == "exact":
            continue
        again = by_name.get(f"{one.profile}-exact")
        rows.append(
            (
                w.words(one.profile),
                w.words(one.origin),
                w.counted(one.budget),
                Cell(f"{one.visual_tokens_per_layer:.1f}", one.visual_tokens_per_layer),
                NOT_KNOWN if again is None else Cell(f"{again.visual_tokens_per_layer:.1f}"),
            )
        )
    if rows:
        yield Heading("Profiles: visual tokens per layer that they are named for, and their true averages")
        yield w.table("Profiles", w.columns("profile", "origin", *numbers, right=numbers), rows)
