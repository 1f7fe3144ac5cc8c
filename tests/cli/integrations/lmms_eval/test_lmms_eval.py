"""The model `reroute` inside the installed lmms-eval: answers, scores and costs are those of batch."""

import json
from importlib.metadata import entry_points

import pytest

pytest.importorskip("lmms_eval")

from tests.cli.integrations.lmms_eval.rows import BOXES, CHATS, WORDS

SCHEDULES = {
    "dense": {},
    "routed": {"method": "pdrop", "action": "reroute", "ratio": "0.889"},
    "cuts": {"method": "fastv", "action": "reroute", "ratio": "0.6", "layers": "2+4+8"},
    "profile": {"profile": "pocket-reroute"},
}


def arguments(schedule):
    """A schedule as `--model_args` has it."""
    return ",".join(f"{name}={value}" for name, value in schedule.items())


def options(schedule):
    """A schedule as the command line has it."""
    return [word for name, value in schedule.items() for word in (f"--{name}", value.replace("+", ","))]


def said(results, task):
    """What each document got, in order."""
    return [sample["filtered_resps"][0] for sample in results["samples"][task]]


@pytest.fixture
def batch(run, manifest, tmp_path):
    """`reroute batch` over lines of the sample manifest: its records and its summary."""

    def asked(lines, schedule):
        summary = tmp_path / "summary.json"
        fixed = ("--max-new-tokens", "16", "--summary", str(summary))
        result = run("batch", "--manifest", manifest(lines), *fixed, *options(schedule))
        assert result.exit_code == 0, result.output
        records = [json.loads(line) for line in result.stdout.splitlines()]
        return records, json.loads(summary.read_text())

    return asked


def test_lmms_eval_finds_the_model_by_its_entry_point():
    """The installed package offers one model, and lmms-eval makes a chat model of it."""
    from lmms_eval.models import MODEL_REGISTRY_V2, get_model, list_available_models

    (point,) = (point for point in entry_points(group="lmms_eval.models") if point.name == "reroute")
    assert point.dist.name == "reroute"
    assert point.load()() == MODEL_REGISTRY_V2.get_manifest("reroute")
    assert "reroute" in list_available_models()
    assert get_model("reroute").is_simple is False


@pytest.mark.parametrize(
    ("name", "size"), [("dense", 3), ("routed", 1), ("routed", 4), ("cuts", 3), ("profile", 3)]
)
def test_answers_are_those_of_batch(evaluate, batch, name, size):
    """Every document gets what `reroute batch` answers, and the score is the one that it gives itself."""
    schedule = SCHEDULES[name]
    records, summary = batch(WORDS, schedule)
    results = evaluate(["scenes_words"], arguments(schedule), batch_size=size)
    assert said(results, "scenes_words") == [record["answer"] for record in records]
    assert results["results"]["scenes_words"]["right,none"] == summary["accuracy"]["words"]["value"]


def test_boxes_reach_the_task_as_the_model_writes_them(evaluate, batch):
    """A task that reads boxes as shares of the sides scores what `reroute batch` scores in pixels."""
    records, summary = batch(BOXES, {})
    results = evaluate(["scenes_boxes"])
    assert said(results, "scenes_boxes") == [record["answer"] for record in records]
    share = summary["accuracy"]["boxes"]["acc_at_05"]["value"]
    assert 0 < share == results["results"]["scenes_boxes"]["acc_at_05,none"]


def test_costs_travel_with_the_scores(evaluate, batch, tmp_path):
    """Sample logs, the results' throughput and the file of costs hold what batch's records say."""
    schedule, file = SCHEDULES["routed"], tmp_path / "costs.json"
    records, summary = batch(WORDS, schedule)
    results = evaluate(["scenes_words"], f"{arguments(schedule)},costs={file}", batch_size=4)
    for sample, record in zip(results["samples"]["scenes_words"], records, strict=True):
        tokens, kv = record["tokens"], record["kv_cache"]
        assert sample["token_counts"] == [
            {
                "input_tokens": tokens["prompt_tokens"],
                "output_tokens": tokens["new_tokens"],
                "visual_tokens": tokens["visual_tokens"],
                "visual_tokens_per_layer": tokens["visual_tokens_per_layer"],
                "kv_end_bytes": kv["kv_end_bytes"],
                "dense_kv_end_bytes": kv["dense_kv_end_bytes"],
            }
        ]
    means = summary["means"]
    share = means["kv_end_bytes"] / means["dense_kv_end_bytes"]
    assert results["throughput"]["total_gen_tokens"] == sum(
        record["tokens"]["new_tokens"] for record in records
    )
    assert results["throughput"]["avg_visual_tokens_per_layer"] == pytest.approx(
        means["visual_tokens_per_layer"]
    )
    assert results["throughput"]["avg_kv_end_ratio"] == pytest.approx(share)
    costs = json.loads(file.read_text())
    assert costs["schedule"]["method"] == "pdrop"
    assert costs["schedule"]["ratio"] == 0.889
    assert costs["batch_size"] == 4
    assert costs["tasks"]["scenes_words"] == costs["total"]
    assert costs["total"]["answered"] == costs["total"]["requests"] == len(WORDS)
    found = costs["total"]["means"]
    assert found["visual"]["visual_tokens_per_layer"] == pytest.approx(means["visual_tokens_per_layer"])
    assert found["kv_end_bytes"] == pytest.approx(means["kv_end_bytes"])
    assert found["kv_end_ratio"] == pytest.approx(share)


def test_two_tasks_have_their_own_costs(evaluate, tmp_path):
    """Each task of a run is counted by itself, and the total is their sum."""
    file = tmp_path / "costs.json"
    evaluate(["scenes_words", "scenes_boxes"], f"costs={file}", batch_size=8)
    costs = json.loads(file.read_text())
    counts = {task: part["requests"] for task, part in costs["tasks"].items()}
    assert counts == {"scenes_words": len(WORDS), "scenes_boxes": len(BOXES)}
    assert costs["total"]["requests"] == len(WORDS) + len(BOXES)


@pytest.mark.parametrize("size", [1, 4])
def test_chats_of_all_kinds_share_a_run(evaluate, tmp_path, size):
    """One picture, two, none, and control tokens in the text: each has its answer, and what it took."""
    file = tmp_path / "costs.json"
    arguments = f"method=pdrop,action=reroute,ratio=0.7,costs={file}"
    results = evaluate(["scenes_chats"], arguments, batch_size=size)
    samples = results["samples"]["scenes_chats"]
    visual = [sample["token_counts"][0]["visual_tokens"] for sample in samples]
    assert visual == [256 * parts.count("PICTURE") for parts in CHATS]
    kept = [sample["token_counts"][0]["visual_tokens_per_layer"] for sample in samples]
    assert [count > 0 for count in kept] == [count > 0 for count in visual]
    assert all(average <= 0.31 * count for average, count in zip(kept, visual, strict=True))
    costs = json.loads(file.read_text())["total"]
    assert (costs["answered"], costs["escaped"], costs["failed"]) == (5, 2, 0)
    assert costs["means"]["visual"]["answers"] == 4


def test_a_request_that_fails_is_an_empty_answer(evaluate, tmp_path, said_by_log):
    """A missing picture costs its own document alone, is counted, and is said."""
    file = tmp_path / "costs.json"
    results = evaluate(["scenes_broken"], f"costs={file}", batch_size=3)
    first, empty, last = said(results, "scenes_broken")
    assert empty == ""
    assert first == last != ""
    assert results["samples"]["scenes_broken"][1]["token_counts"] == [None]
    costs = json.loads(file.read_text())["total"]
    assert (costs["requests"], costs["answered"], costs["failed"]) == (3, 2, 1)
    assert "/nowhere/missing.png' does not exist" in costs["first_error"]
    assert "1 of 3 requests have no answer" in said_by_log()


@pytest.fixture
def said_by_log():
    """What lmms-eval's log got, as text."""
    from loguru import logger

    lines = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="INFO")
    yield lambda: "\n".join(lines)
    logger.remove(sink)


def test_the_log_says_what_it_cost_and_what_was_not_used(evaluate, said_by_log):
    """One line a task names schedule, tokens and cache; a setting that means nothing here is named once."""
    evaluate(["scenes_boxes"], arguments(SCHEDULES["routed"]))
    lines = [line for line in said_by_log().splitlines() if "scenes_boxes" in line]
    (line,) = (line for line in lines if "visual tokens/layer" in line)
    assert "4 of 4 answered · visual tokens/layer 27.7 of 256 (counted) · KV cache 0.1" in line
    assert "pdrop reroute, ratio 0.889 · pocket" in line
    assert sum("image_aspect_ratio" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("scenes_videos", {}, "asks about video; reroute takes images and text"),
        ("scenes_words", {"gen_kwargs": "temperature=0.7,do_sample=True"}, "add --gen_kwargs temperature=0"),
        ("scenes_words", {"gen_kwargs": "num_beams=4"}, "add --gen_kwargs num_beams=1"),
        ("scenes_words", {"gen_kwargs": "until=0."}, "asks for until=0.0: give a string"),
        ("scenes_words", {"model_args": "method=nuwa,ratio=0.05"}, "nearest"),
        ("scenes_words", {"model_args": "budgets=3"}, "there is no model argument 'budgets'"),
        ("scenes_words", {"model_args": "batch_size=2", "batch_size": 4}, "batch_size is 2 in --model_args"),
    ],
    ids=["video", "sampling", "beams", "until", "ratio", "argument", "batch size"],
)
def test_what_can_not_be_done_is_refused_before_anything_is_answered(
    evaluate, monkeypatch, task, options, words
):
    """The run ends with one sentence, and the model was not run once."""
    from reroute_cli.console.errors import CliError
    from reroute_cli.measure import passes as run
    from routing.errors import RoutingError

    monkeypatch.setattr(run, "timed_rows", None)
    with pytest.raises((CliError, RoutingError), match=words):
        evaluate([task], **options)


def test_gen_kwargs_from_the_command_line_count(evaluate, batch):
    """--gen_kwargs until=e cuts every answer at its first e, and max_new_tokens makes it as short."""
    words, _ = batch(WORDS, {})
    cut = evaluate(["scenes_words"], gen_kwargs="until=e")
    assert said(cut, "scenes_words") == [record["answer"].split("e")[0].strip() for record in words]
    assert "y" in said(cut, "scenes_words")
    boxes, _ = batch(BOXES, {})
    short = evaluate(["scenes_boxes"], gen_kwargs="max_new_tokens=3")
    lengths = [sample["token_counts"][0]["output_tokens"] for sample in short["samples"]["scenes_boxes"]]
    assert lengths == [min(3, record["tokens"]["new_tokens"]) for record in boxes]


def test_what_the_response_cache_has_is_not_asked_again(evaluate, tmp_path):
    """A second run under --use_cache gives the same answers and asks the model for nothing."""
    file, cache = tmp_path / "costs.json", str(tmp_path / "cache")
    first, second = (
        evaluate(["scenes_words"], f"costs={file}", use_cache=cache, batch_size=6) for _ in range(2)
    )
    assert said(first, "scenes_words") == said(second, "scenes_words")
    assert json.loads(file.read_text())["total"]["requests"] == 0


def test_the_model_is_given_back(warm, unpatched):
    """After `clean` nothing holds the model, and asking again is one sentence."""
    from lmms_eval.models import get_model

    from reroute_cli.console.errors import Failure

    model = get_model("reroute").create_from_arg_string("method=fastv,ratio=0.5")
    assert any(value is warm for value in vars(vars(model)["_engine"]).values())
    model.clean()
    assert vars(model)["_engine"] is None
    with pytest.raises(Failure, match="was given back"):
        model.generate_until([])


def test_other_kinds_of_requests_are_refused(warm):
    """Likelihoods and several rounds are one sentence each."""
    from lmms_eval.models import get_model

    model = get_model("reroute").create_from_arg_string("")
    with pytest.raises(NotImplementedError, match="loglikelihood"):
        model.loglikelihood([])
    with pytest.raises(NotImplementedError, match="one turn at a time"):
        model.generate_until_multi_round([])
