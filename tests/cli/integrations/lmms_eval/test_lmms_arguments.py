"""`--model_args` as options: each does what the option of its name does; what is wrong is said."""

from pathlib import Path

import pytest

from profiles.errors import ProfileError
from reroute_cli.console.errors import UsageError
from reroute_cli.console.options import ModelOptions
from reroute_cli.integrations.lmms_eval.arguments import read_arguments
from reroute_cli.run.schedules import ScheduleChoice


def test_nothing_given_is_the_embedded_model_dense():
    """Without arguments the options have the defaults of the command line."""
    found = read_arguments({"device": None, "max_batch_size": None})
    assert (found.load, found.choice) == (ModelOptions(), ScheduleChoice())
    assert (found.batch_size, found.max_new_tokens, found.costs) == (1, 1024, None)


def test_every_argument_arrives():
    """Numbers may come as text or as the numbers that lmms-eval made of them."""
    given = {
        "pretrained": "a/b",
        "method": "pdrop",
        "action": "reroute",
        "ratio": 0.889,
        "layers": "3+5+8",
        "seed": 7,
        "device": "cuda:1",
        "dtype": "bfloat16",
        "attn": "eager",
        "load_format": "dummy",
        "generation": "neutral",
        "batch_size": "8",
        "max_new_tokens": 32,
        "costs": "costs.json",
    }
    found = read_arguments(given)
    assert found.load == ModelOptions(
        "a/b", "cuda:1", "bfloat16", "eager", "dummy", generation="neutral", seed=7
    )
    assert found.choice == ScheduleChoice("pdrop", "reroute", 0.889, seed=7, layers=(3, 5, 8))
    assert (found.batch_size, found.max_new_tokens, found.costs) == (8, 32, Path("costs.json"))


def test_a_single_cut_is_a_list_of_one():
    """`layers=3` reaches the plug-in as the number 3."""
    assert read_arguments({"method": "fastv", "ratio": 0.5, "layers": 3}).choice.layers == (3,)


def test_budget_and_profile_arrive():
    """An amount in tokens and a whole schedule by name are taken, too."""
    assert read_arguments({"method": "fastv", "budget": 64}).choice.budget == 64
    assert read_arguments({"profile": "pocket-reroute"}).choice.profile == "pocket-reroute"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"trust": 1}, "no model argument 'trust': those of reroute are pretrained, method, action"),
        ({"model": "a", "pretrained": "b"}, "the same argument"),
        ({"method": "fastv", "ratio": 1.5}, "^ratio 1.5 is out of range"),
        ({"method": "fastv"}, "add ratio 0.667 or budget TOKENS"),
        ({"method": "fastv", "ratio": "half"}, "ratio half is no number"),
        ({"method": "fastv", "ratio": float("nan")}, "ratio nan is no number"),
        ({"method": "fastv", "ratio": True}, "ratio True is no number"),
        ({"method": "fast", "ratio": 0.5}, "there is no method 'fast'"),
        ({"method": "fastv", "ratio": 0.5, "action": "drop"}, "action 'drop' is none of prune, reroute"),
        ({"method": "fastv", "ratio": 0.5, "layers": "8+3"}, r"layers '8\+3' is no list of decoder layers"),
        ({"dtype": "int4"}, "dtype 'int4' is none of"),
        ({"batch_size": "auto"}, "batch_size auto is no whole number from 1 to 4096"),
        ({"batch_size": 0}, "batch_size 0 is no whole number"),
        ({"max_new_tokens": 2.5}, "max_new_tokens 2.5 is no whole number"),
        ({"seed": -1}, "seed -1 is no whole number"),
        ({"max_batch_size": 4}, "no model argument 'max_batch_size'"),
        ({"profile": "pocket-reroute", "ratio": 0.5}, "drop ratio or drop profile"),
    ],
)
def test_what_is_wrong_is_one_sentence_about_the_argument(given, words):
    """The sentence names the argument as it is written here, not as an option of the command line."""
    with pytest.raises(UsageError, match=words) as caught:
        read_arguments(given)
    assert "--" not in str(caught.value)


def test_an_unknown_profile_is_known_before_a_model_is_loaded():
    """A profile is read with the arguments."""
    with pytest.raises(ProfileError, match="no profile has this name"):
        read_arguments({"profile": "nothing-like-it"})
