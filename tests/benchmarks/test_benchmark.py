"""The arithmetic of the benchmark: lengths, limits, shares, medians and the order of calls, by hand."""

import pytest

from reroute_cli.models.shapes import read_shape
from routing import VisionStage
from routing.cost import ModelShape
from routing.methods import SELECTIONS
from routing.schedule import Action, Schedule, Stage
from tests.benchmarks import batch_results
from tests.benchmarks.batch_results import Course, arm_results
from tests.benchmarks.limits import Arm, Workload, flops_share, lengths, median, scored, stage_starts
from tests.benchmarks.questions import result as question_result
from tests.benchmarks.questions import table as question_table
from tests.benchmarks.results import arm_result, table
from tests.benchmarks.rounds import Timed, interleave
from tests.benchmarks.selection import MODELS, seen_of, shares

SHAPE = ModelShape.from_config(
    {
        "model_type": "llama",
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 10,
    }
)
WORK = Workload(SHAPE, text=4, visual=10)
STAGES = (Stage(1, 0.5), Stage(3, 0.2))


def test_lengths_are_text_and_what_each_stage_keeps():
    """14 before the first decision, then 4 + 5, then 4 + 2; a stage starts where the length changes."""
    assert lengths(WORK, Schedule(STAGES)) == (14, 9, 9, 6)
    assert stage_starts((14, 9, 9, 6), 14) == (1, 3)
    assert stage_starts((9, 9), 14) == (0,)


def test_pruning_ranks_survivors_and_rerouting_everything():
    """The floor projects 14 and 9 keys under pruning, 14 twice under rerouting, none where all are kept."""
    assert scored(WORK, Schedule(STAGES)) == ((1, 14), (3, 9))
    assert scored(WORK, Schedule(STAGES, Action.REROUTE)) == ((1, 14), (3, 14))
    assert scored(WORK, Schedule((Stage(1, 1.0), Stage(3, 0.5)))) == ((3, 14),)


def test_limit_a_is_the_share_of_layer_flops():
    """Per position 2·8·(4·8 + 3·16) of linear maps, and 4·8 for every pair of positions, by hand."""
    cost = {n: 1280 * n + 32 * n * n for n in (14, 9, 6)}
    assert flops_share(WORK, Schedule(STAGES)) == (cost[14] + 2 * cost[9] + cost[6]) / (4 * cost[14])
    assert flops_share(WORK, Schedule()) == 1


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(1, 1, 1), (5, 1, 5), (6, 1, 6), (8, 1, 8), (9, 2, 8), (11, 2, 10), (20, 6, 15)],
)
def test_the_interval_of_a_median_follows_the_sign_test(count, low, high):
    """Order statistics of the textbook table for 95%; for fewer than six values, all of them."""
    found = median(list(range(count, 0, -1)))
    assert (found.low, found.high) == (low, high)
    assert found.median == (count + 1) / 2


def test_calls_alternate_and_the_first_round_does_not_count():
    """Backwards, forwards, backwards: every call in every round, told from the second round on."""
    made, told, ticks = [], [], iter(range(100))
    calls = {name: Timed(lambda name=name: made.append(name)) for name in "abc"}
    interleave(calls, 2, lambda: None, lambda *each: told.append(each), clock=lambda: next(ticks))
    assert "".join(made) == "cba" + "abc" + "cba"
    assert told == [(name, 1) for name in "abccba"]


def test_shares_are_taken_round_by_round():
    """A slow round that slows everything alike leaves every share as it is."""
    arm = Arm("pdrop", Action.REROUTE, 0.5)
    work = Workload(SHAPE, text=4, visual=100)
    slow = (1.0, 3.0, 1.0)
    raw = {"routed": [2.0 * s for s in slow], "compact": [1.5 * s for s in slow]}
    raw |= {"floor": [0.4 * s for s in slow], "extra": [0.3 * s for s in slow], "deciding": []}
    found = arm_result(arm, work, [4.0 * s for s in slow], raw)
    middle = {name: share["median"] for name, share in found["shares"].items()}
    assert middle == pytest.approx(
        {
            "of_limit_a": 4 * found["flops_share"] / 2,
            "of_limit_b": 0.75,
            "of_limit_b_and_floor": 0.95,
            "of_limit_b_and_extra": 0.9,
        }
    )
    assert table([found])[-1].endswith("| 0.950 (0.950–0.950) | unknown |")


def test_a_batch_is_compared_with_batch_1_round_by_round():
    """Twice as fast in every round is 2.00 without spread, and beside generate; waiting is of the run's."""
    slow = (1.0, 3.0, 1.0, 2.0, 1.0, 1.0)
    courses = {
        1: [Course(8 * one, 16 * one, 0.0) for one in slow],
        4: [Course(4 * one, 10 * one, one) for one in slow],
    }
    plain = {1: courses[1], 4: [Course(6 * one, 15 * one, 0.0) for one in slow]}
    found = arm_results(courses, plain)
    assert {key: found["4"]["times_faster"][key] for key in ("value", "low", "high")} == {
        "value": 2.0,
        "low": 2.0,
        "high": 2.0,
    }
    assert found["4"]["times_less_processor"]["value"] == 1.6
    assert found["4"]["times_faster_than_generate"]["value"] == 1.5
    assert found["4"]["times_less_processor_than_generate"]["value"] == 1.5
    assert (found["1"]["times_faster"]["value"], found["4"]["waiting_share"]) == (1.0, 0.25)
    report = {
        "model": {"name": "m", "device": "cpu", "dtype": "float32"},
        "environment": {"cpu": {"model": "c", "torch_threads": 2}},
        "items": 8,
        "max_new_tokens": 4,
        "rounds": 6,
        "results": {"dense": found},
    }
    ratios = (f"{ratio} [{ratio}, {ratio}]" for ratio in ("2.00", "1.60", "1.50", "1.50"))
    assert batch_results.table(report)[-1] == f"| dense | 4 | 2.00 | {' | '.join(ratios)} | 25.0% |"


def test_the_benchmark_shape_has_the_prompt_of_the_prefill_benchmark(tmp_path):
    """576 visual tokens, about 64 of text, 16 layers of width 1024: what subject.py times by itself."""
    from transformers import AutoConfig, AutoProcessor

    from reroute_cli.data.images import open_image
    from reroute_cli.data.prompts import build_prompt
    from tests.benchmarks.batching import SAMPLES
    from tests.benchmarks.shape import write_shape
    from tests.benchmarks.subject import IMAGE, benchmark_config

    folder = write_shape(tmp_path)
    config = AutoConfig.from_pretrained(folder)
    assert config.text_config.to_dict() == benchmark_config().text_config.to_dict() | {"eos_token_id": None}
    processor = AutoProcessor.from_pretrained(folder)
    prompt = build_prompt(processor, [open_image(str(SAMPLES / "desk.png"))], "where is the cup?")
    assert int((prompt.inputs["input_ids"] == IMAGE).sum()) == 576
    assert 60 <= prompt.tokens - 576 <= 68


@pytest.mark.parametrize("name", ["plain", "hybrid", "window"])
def test_every_decoder_is_measured_against_both_limits(name):
    """On a small one: every arm has its seconds and shares, and runs on the lengths of its schedule."""
    from dataclasses import replace

    import torch

    from tests.benchmarks.prefill import measure, options_of
    from tests.benchmarks.subject import DECODERS

    small = {"hidden": 64, "layers": 8, "heads": 4, "mlp": 96, "text": 8, "visual": 24}
    settings = {
        key: {"linear_num_key_heads": 4, "linear_num_value_heads": 4, "sliding_window": 16}.get(key, 16)
        for key in DECODERS[name].settings
    }
    decoder = replace(DECODERS[name], settings=settings, **small)
    options = options_of(["--rounds", "1", "--methods", "pdrop", "--ratios", "0.667"])
    with torch.no_grad():
        found = measure("float32", decoder, options, lambda _line: None)
    assert [arm["action"] for arm in found["arms"]] == ["prune", "reroute"]
    for arm in found["arms"]:
        assert arm["lengths"][0] == 32 > arm["lengths"][-1] > 8
        assert set(arm["seconds"]) == {"routed", "compact", "floor", "extra", "deciding"}
        assert all(share["median"] > 0 for share in arm["shares"].values())


@pytest.mark.parametrize("model", MODELS)
def test_no_method_spends_more_than_a_twentieth_of_a_dense_prefill_on_choosing(model):
    """By FLOPs, on 7B models and their own image, everything before and inside the decoder together."""
    found = list(shares(model))
    assert {one.method for one in found} >= {"fastv", "pdrop", "nuwa", "divprune"}
    assert all(0 < one.total < 0.05 for one in found), found


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_timed_noise_is_what_a_selection_takes(name):
    """Each selection chooses among the tokens of LLaVA-1.5-7B's one image."""
    selection = SELECTIONS[name]
    seen = seen_of(read_shape("llava-1.5-7b"), selection.needs)
    (chosen,) = selection.choose([seen], [64], VisionStage(64 / 576, selection=name))
    assert len(chosen.kept) == 64
    assert chosen.scores.shape == (576,)


def test_ways_of_asking_are_compared_with_a_pass_for_each_question():
    """Medians, their quotients and shares of FLOPs, by hand, and the row of the table."""
    raw = {"dense 2 alone": [2.0, 4.0], "dense 2 together": [2.0, 2.0], "dense 2 shared": [1.0, 1.5]}
    flops = {"dense 2 alone": 100, "dense 2 together": 100, "dense 2 shared": 60}
    ways = question_result(raw, flops, "dense 2")
    assert [ways[way]["times_faster"]["value"] for way in ways] == [1, 1.5, 2.4]
    assert [ways[way]["flops_share"] for way in ways] == [1, 1, 0.6]
    report = {
        "model": {"name": "m", "dtype": "float32", "device": "cpu"},
        "environment": {"cpu": {"model": "c", "torch_threads": 1}},
        "max_new_tokens": 16,
        "rounds": 2,
        "results": {"dense": {"2": ways}},
    }
    assert question_table(report)[-1] == "| dense | 2 | 3.000 s | 2.000 s | 1.50 | 1.250 s | 2.40 | 0.600 |"
