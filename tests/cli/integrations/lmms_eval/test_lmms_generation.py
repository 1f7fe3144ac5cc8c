"""A task's generation_kwargs: heeded, refused, or named; never passed over in silence."""

import pytest

from reroute_cli.console.errors import UsageError
from reroute_cli.integrations.lmms_eval.requests import TaskGeneration, cut, read_generation

USUAL = {"max_new_tokens": 16, "temperature": 0.0, "top_p": 1.0, "num_beams": 1, "do_sample": False}


def test_the_usual_settings_are_a_length_and_nothing_else():
    """What most tasks write asks for a greedy answer of a length; top_p means nothing without sampling."""
    assert read_generation(USUAL | {"until": ["\n\n"]}, "task") == TaskGeneration(16, (), ())


@pytest.mark.parametrize(
    ("until", "stops"), [("Q:", ("Q:",)), (["a", "", "\n\n"], ("a", "\n\n")), (None, ()), ([], ())]
)
def test_stop_strings_of_a_task_count(until, stops):
    """A string, a list or nothing; the lone empty line that lmms-eval fills in is none of a task's."""
    assert read_generation({"until": until}, "task").until == stops


def test_the_default_of_lmms_eval_is_what_is_left_out():
    """The constant is what a task without `until` has, by the installed package."""
    task = pytest.importorskip("lmms_eval.api.task")
    from reroute_cli.integrations.lmms_eval.requests import FILLED_IN

    made = task.TaskConfig(task="x", output_type="generate_until", generation_kwargs={"max_new_tokens": 3})
    assert made.generation_kwargs["until"] == FILLED_IN


@pytest.mark.parametrize(
    "greedy",
    [{}, {"temperature": 0}, {"do_sample": True, "temperature": 0}, {"do_sample": False, "temperature": 0.2}],
)
def test_greedy_is_accepted(greedy):
    """Temperature 0 and do_sample=False each mean a greedy answer."""
    assert read_generation(greedy, "task").most is None


@pytest.mark.parametrize(
    "sampled", [{"temperature": 0.2}, {"do_sample": True}, {"do_sample": True, "temperature": 1.0}]
)
def test_sampling_is_refused_with_the_remedy(sampled):
    """A temperature without do_sample=False is sampling to lmms-eval's own models."""
    with pytest.raises(UsageError, match=r"task 'x' asks for sampling .* temperature=0,do_sample=False"):
        read_generation(sampled, "x")


@pytest.mark.parametrize(
    ("name", "value"), [("num_beams", 4), ("repetition_penalty", 1.2), ("n", 3), ("min_new_tokens", 5)]
)
def test_other_searches_are_refused(name, value):
    """What would change a greedy answer and is not offered names itself and its neutral value."""
    with pytest.raises(UsageError, match=f"asks for {name}={value}.* add --gen_kwargs {name}="):
        read_generation({name: value}, "x")


@pytest.mark.parametrize(
    "kwargs", [{"max_new_tokens": 0}, {"max_new_tokens": "many"}, {"until": 3}, {"until": [1]}]
)
def test_malformed_settings_are_refused(kwargs):
    """A length of nothing and stop strings that are no strings are one sentence each."""
    with pytest.raises(UsageError, match="task 'x' asks for"):
        read_generation(kwargs, "x")


def test_settings_without_a_meaning_are_named():
    """They come back by name, to be said once."""
    found = read_generation(USUAL | {"image_aspect_ratio": "pad", "nframes": 8}, "x")
    assert found.unused == ("image_aspect_ratio", "nframes")


@pytest.mark.parametrize(
    ("text", "until", "left"),
    [("a b Q: c", ("Q:",), "a b"), ("a b c", ("c", "b"), "a"), ("abc", ("x",), "abc"), ("abc", (), "abc")],
)
def test_a_text_ends_before_its_first_stop_string(text, until, left):
    """The first one in the text counts, whichever it is in the list."""
    assert cut(text, until) == left
