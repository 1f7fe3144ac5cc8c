"""Requests in batches: in order, each as alone, whatever happens to its neighbours."""

import pytest

from reroute_cli.data.images import open_image
from reroute_cli.data.prompts import Chat, Turn
from reroute_cli.integrations.lmms_eval.requests import ChatEngine, ChatRequest
from reroute_cli.measure import passes as run
from reroute_cli.run.answer import answer_only
from reroute_cli.run.schedules import ScheduleChoice
from tests.cli.integrations.lmms_eval.rows import LINES, SAMPLES

ROUTED = ScheduleChoice("pdrop", "reroute", 0.8)


def wish(line, most=12, *, pictures=1, question=None):
    """A request about a line of the sample manifest."""
    turn = Turn("user", (*[None] * pictures, question or line["question"]))
    return ChatRequest(line["id"], Chat((turn,), (str(SAMPLES / line["image"]),) * pictures), most)


def asked(loaded, line, choice, *, pictures=1, most=12):
    """What `ask` answers to it."""
    opened = [open_image(str(SAMPLES / line["image"]))] * pictures
    return answer_only(loaded, opened, line["question"], choice, most)


@pytest.fixture
def passes(monkeypatch):
    """How many requests each pass of the model had, in order."""
    sizes, timed_rows = [], run.timed_rows

    def counted(job, most):
        sizes.append(len(job.inputs["input_ids"]))
        return timed_rows(job, most)

    monkeypatch.setattr(run, "timed_rows", counted)
    return sizes


def test_a_batch_answers_as_ask_does(pocket, passes):
    """Five questions about five pictures in passes of three get what `ask` answers to each."""
    lines = LINES[:15:3]
    found = list(ChatEngine(pocket, ROUTED, 3).answers(map(wish, lines)))
    assert [answer.text for answer in found] == [asked(pocket, line, ROUTED) for line in lines]
    assert passes == [3, 2, 1, 1, 1, 1, 1]


def test_several_pictures_are_one_prompt(pocket):
    """Two pictures before a question get what `ask` answers to both."""
    (found,) = ChatEngine(pocket, ROUTED, 1).answers([wish(LINES[0], pictures=2)])
    assert found.text == asked(pocket, LINES[0], ROUTED, pictures=2)
    assert found.visual == 512
    assert found.average == pytest.approx(512 * 0.2, rel=0.03)


def test_a_text_alone_is_answered_as_the_bare_model_does(pocket):
    """Without a picture nothing is removed: transformers' own generate gives the same words."""
    (found,) = ChatEngine(pocket, ROUTED, 1).answers([wish(LINES[0], pictures=0)])
    tokenizer = pocket.processor.tokenizer
    inputs = tokenizer(f"USER: \n{LINES[0]['question']} ASSISTANT:", return_tensors="pt")
    made = pocket.model.generate(**inputs, do_sample=False, max_new_tokens=12)
    new = made[0, inputs["input_ids"].shape[1] :]
    assert found.text == tokenizer.decode(new, skip_special_tokens=True).strip()
    assert (found.visual, found.average, found.kv) == (0, 0.0, found.dense_kv)


def test_only_like_requests_share_a_pass(pocket, passes):
    """A text alone, another longest answer: those that differ are answered apart, and all in order."""
    first, second, third, fourth, fifth, sixth = LINES[:6]
    wishes = [
        wish(first),
        wish(second),
        wish(third, pictures=0),
        wish(fourth, 5),
        wish(fifth, 5),
        wish(sixth),
    ]
    found = list(ChatEngine(pocket, ScheduleChoice(), 4).answers(wishes))
    assert passes == [3, 1, 2]
    assert [answer.visual for answer in found] == [256, 256, 0, 256, 256, 256]
    dense = ScheduleChoice()
    assert found[0].text == asked(pocket, first, dense)
    assert found[4].text == asked(pocket, fifth, dense, most=5)


def test_a_request_that_fails_leaves_the_others_as_they_are(pocket):
    """A missing picture in the middle is one error; those before and after it are answered."""
    lines = LINES[:3]
    missing = wish(lines[1] | {"image": "missing.png"})
    found = list(ChatEngine(pocket, ROUTED, 3).answers([wish(lines[0]), missing, wish(lines[2])]))
    assert [bool(answer.error) for answer in found] == [False, True, False]
    assert "does not exist" in found[1].error
    assert found[2].text == asked(pocket, lines[2], ROUTED)


@pytest.mark.parametrize("error", [MemoryError("full"), ValueError("odd")], ids=["memory", "other"])
def test_a_pass_that_fails_is_cut_down(pocket, monkeypatch, error):
    """Where more than one request is too much for a pass, each is answered alone, with the same words."""
    timed_rows = run.timed_rows

    def narrow(job, most):
        if len(job.inputs["input_ids"]) > 1:
            raise error
        return timed_rows(job, most)

    lines = LINES[:4]
    expected = [asked(pocket, line, ROUTED) for line in lines]
    monkeypatch.setattr(run, "timed_rows", narrow)
    found = list(ChatEngine(pocket, ROUTED, 4).answers(map(wish, lines)))
    assert [answer.text for answer in found] == expected


def test_a_request_that_no_pass_can_answer_is_an_error(pocket, monkeypatch):
    """Alone and still too much: the sentence says so, and the run goes on to its end."""

    def full(job, most):
        raise MemoryError("no room")

    monkeypatch.setattr(run, "timed_rows", full)
    found = list(ChatEngine(pocket, ROUTED, 2).answers(map(wish, LINES[:3])))
    assert [answer.text for answer in found] == ["", "", ""]
    assert all("out of memory" in answer.error for answer in found)


def test_an_answer_ends_where_the_context_does(pocket):
    """Where more new tokens are allowed than the model has positions for, the answer is as long as fits."""
    (short,) = ChatEngine(pocket, ROUTED, 1).answers([wish(LINES[0], 5000)])
    (plain,) = ChatEngine(pocket, ROUTED, 1).answers([wish(LINES[0])])
    assert (short.shortened, plain.shortened) == (True, False)
    assert short.text == plain.text


@pytest.mark.parametrize(("most", "room"), [(700, 700), (1000, 736), (5000, 736)])
def test_lengths_that_the_context_cuts_are_alike(pocket, most, room):
    """pocket has 1024 positions: a prompt of 270 tokens leaves 754, and the multiple of 32 below is taken."""
    ready = ChatEngine(pocket, ROUTED, 1).prepare(wish(LINES[0], most))
    assert 1024 - ready.prompt.prompt.tokens in range(736, 768)
    assert ready.prompt.max_new_tokens == room


def test_a_prompt_beyond_the_context_is_an_error(pocket):
    """Three pictures and a long text: one sentence says how many tokens the model reads."""
    too_long = wish(LINES[0], pictures=3, question="where is the cup? " * 60)
    (found,) = ChatEngine(pocket, ROUTED, 1).answers([too_long])
    assert "reads 1024" in found.error


def test_the_cache_is_counted_as_batch_counts_it(pocket, record):
    """KV bytes of an answer, and of the same dense, are those that `ask` finds in the cache."""
    line = LINES[0]
    options = ("--method", "pdrop", "--action", "reroute", "--ratio", "0.8", "--max-new-tokens", "12")
    expected = record(str(SAMPLES / line["image"]), line["question"], *options)
    (found,) = ChatEngine(pocket, ROUTED, 1).answers([wish(line)])
    assert (found.kv, found.dense_kv) == (
        expected["kv_cache"]["kv_end_bytes"],
        expected["kv_cache"]["dense_kv_end_bytes"],
    )
    assert found.average == expected["tokens"]["visual_tokens_per_layer"]
    assert (found.prompt, found.new) == (
        expected["tokens"]["prompt_tokens"],
        expected["tokens"]["new_tokens"],
    )
