"""A choice at the entrance of the decoder in types of every mix of layer kinds, on copies of configs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from routing import Schedule, Stage, VisionStage
from routing.checks.copies import tiny_copy
from routing.checks.defaults import default_config, model_types
from routing.checks.runs import generate, generate_routed
from routing.checks.subjects import RAGGED, Copied
from routing.families import describe_config, locate
from routing.methods.divprune import choose
from routing.methods.selection import Seen
from tests.routing.tiny_vision import choose_one

SURVEY = json.loads((Path(__file__).parents[2] / "fixtures" / "survey.json").read_text())["types"]
PROVEN = [one for one in SURVEY if one.get("held") and not one["failed"] and one["type"] in model_types()]
# One of each mix:
TYPES = {str((sorted(one["kinds"]), one["first_layer"] > 0)): one["type"] for one in PROVEN}


@pytest.mark.parametrize("action", ["prune", "reroute"])
@pytest.mark.parametrize("kind", TYPES.values())
def test_the_choice_is_that_of_the_decoders_input_alone_and_in_a_batch(kind: str, action: str) -> None:
    """What is kept follows from what enters the first layer; a ragged batch keeps and answers the same."""
    subject = Copied(kind, tiny_copy(default_config(kind), "sdpa", window=12))
    info = describe_config(subject.model.config)
    later = min(info.first_layer + 2, info.layers - 1 if info.last_layer is None else info.last_layer)
    stages = (Stage(later, 0.4),) if action == "reroute" else ()
    vision = VisionStage(0.5, layer=info.first_layer, selection="divprune")
    schedule = Schedule(stages, action=action, vision=vision)
    batch = generate_routed(subject, schedule, *RAGGED, new=2)
    for row, sample in enumerate(RAGGED):
        alone = generate_routed(subject, schedule, sample, new=2)
        assert alone.tokens[0] == batch.tokens[row]
        if subject.visual(sample):
            assert alone.kept() == batch.kept(row)
            entered = _entered(subject, sample)
            expected = choose_one(choose, Seen(entered), max(1, len(entered) // 2), vision).kept
            assert alone.kept()[0] == tuple(expected.tolist())


def _entered(subject: Copied, sample: Any) -> torch.Tensor:
    """The visual tokens (V, d) of one sample as the first layer of the unhooked model gets them."""
    caught: list[torch.Tensor] = []
    first, marks = locate(subject.model).layers[0], describe_config(subject.model.config).image_token_ids
    handle = first.register_forward_pre_hook(
        lambda _layer, args, kwargs: caught.append(args[0] if args else kwargs["hidden_states"]),
        with_kwargs=True,
    )
    generate(subject.model, subject.inputs(sample), 1)
    handle.remove()
    hidden = caught[0] if caught[0].ndim == 3 else caught[0].movedim(0, 2)  # several streams stand first
    return hidden[0, [token in marks for token in subject.ids(sample)]].flatten(1)
