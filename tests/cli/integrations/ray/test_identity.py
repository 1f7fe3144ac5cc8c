"""The driver knows what a model will be without loading it: the keys of all answers depend on it."""

import pytest

from reroute_cli.console.options import ModelOptions
from reroute_cli.models.load import (
    load,
    without_weights,
)
from reroute_cli.run.answer import (
    model_part,
    settings_of,
)
from reroute_cli.run.schedules import ScheduleChoice


@pytest.mark.parametrize(
    "options",
    [
        ModelOptions(),
        ModelOptions(dtype="bfloat16", attn="eager"),
        ModelOptions(load_format="dummy", seed=3),
        ModelOptions("QWEN", load_format="dummy"),
        ModelOptions("smolvlm-256m", load_format="dummy"),
    ],
    ids=["pocket", "bfloat16 eager", "dummy pocket", "a folder", "a short name"],
)
def test_a_model_is_known_before_it_is_loaded(options, tiny_qwen):
    """Keys, the model's part of a record and what a profile is made for are those of the loaded model."""
    if options.model == "QWEN":
        options = ModelOptions(tiny_qwen, load_format="dummy")
    known, loaded = without_weights(options, "cpu"), load(options)
    choice = ScheduleChoice("fastv", ratio=0.5, seed=options.seed)
    assert settings_of(known, choice, 7) == settings_of(loaded, choice, 7)
    assert model_part(known) == model_part(loaded)
    assert (known.layers, known.first_layer, known.image_token_ids) == (
        loaded.layers,
        loaded.first_layer,
        loaded.image_token_ids,
    )


def test_a_gpu_that_the_driver_lacks_is_taken_for_a_new_one():
    """bfloat16; a worker that loads another dtype says so."""
    assert without_weights(ModelOptions(), "cuda").dtype == "bfloat16"
