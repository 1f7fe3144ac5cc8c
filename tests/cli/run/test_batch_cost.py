"""What a batch costs: like lengths share passes, and rows that have ended take no more steps or time."""

import time
from contextlib import closing
from types import SimpleNamespace

import pytest

from reroute_cli.console.options import ModelOptions
from reroute_cli.data.images import open_image
from reroute_cli.data.prompts import build_prompt
from reroute_cli.measure import passes
from reroute_cli.models.load import load
from reroute_cli.run import batch
from reroute_cli.run.batch import BatchEngine, collate, gathered, padding
from reroute_cli.run.prepare import WORKERS, Waiting, ahead
from routing import Schedule, Stage
from tests.cli.checkpoints import checkpoint

QUESTIONS = {
    "samples/desk.png": "where is the cup?",
    "samples/harbour.png": "is there a cup in the image?",
    "samples/garden.png": "where is the ball? Answer with a box, please.",
}
ROUTED = Schedule((Stage(2, 0.5),))
LONGEST = 16


def lengths_of(groups):
    """Groups of lengths as `gathered` makes them of entries that are their own lengths."""
    return [list(group) for group in groups if group]


def test_padding_is_counted_after_sorting():
    """Lengths 10 and 100 in turn: in pairs of equals nothing is padding, in a pass of all four 180 of 400."""
    assert padding([10, 100, 10, 100], 2) == 0
    assert padding([10, 100, 10, 100], 4) == pytest.approx(180 / 400)


def test_equal_lengths_are_not_waited_for():
    """Where a pass would be padded by a tenth at most, it is handed out as soon as it is full."""
    assert lengths_of(gathered([90, 100, 95, 100, 7], 2, lambda n: ("k", n))) == [[90, 100], [95, 100], [7]]


def test_unequal_lengths_are_gathered_until_they_sort_into_even_passes():
    """At most four passes together: 10, 100 wait for their like; what never evens out waits no longer."""
    found = lengths_of(gathered([10, 100, 100, 10, 5], 2, lambda n: ("k", n)))
    assert found == [[10, 100, 100, 10], [5]]
    uneven = [1, 10, 100, 1000, 10000, 10**5, 10**6, 10**7, 8, 8]
    assert lengths_of(gathered(uneven, 2, lambda n: ("k", n))) == [uneven[:8], [8, 8]]


def test_each_pass_has_the_nearest_in_length_and_answers_come_in_order(pocket, monkeypatch):
    """Six prompts of two lengths and two kinds: no pass is mixed, and the first is answered first."""
    tried = []

    def answered(_loaded, prompts, _halvings, **_options):
        tried.append([one.name for one in prompts])
        return prompts

    monkeypatch.setattr(batch, "answer_pass", answered)
    made = [("a", 90), ("a", 30), ("b", 30), ("a", 90), ("a", 30), ("b", 31)]
    prompts = [
        SimpleNamespace(kind=kind, prompt=SimpleNamespace(tokens=tokens), name=name)
        for name, (kind, tokens) in enumerate(made)
    ]
    assert list(BatchEngine(pocket, 2).answers(prompts)) == prompts
    assert tried == [[0, 3], [1, 4], [2, 5]]


def test_the_model_does_not_wait_for_images_that_threads_decode_in_time():
    """Images of 80 ms each under passes of 4 items and 120 ms: four threads decode a pass's images meanwhile.

    One thread would need 320 ms for a pass's images; after the first batch, nothing is waited for.
    """
    waiting, size = Waiting(), 4
    made = ahead(lambda _: time.sleep(0.08), range(24), workers=WORKERS, depth=4 * size + WORKERS)
    with closing(waiting.over(made)) as images:
        for _ in range(size):
            next(images)
        first = waiting.seconds
        for number in range(size, 24):
            if number % size == 0:
                time.sleep(0.12)
            next(images)
    assert first >= 0.08
    assert waiting.seconds - first < 0.1


@pytest.fixture
def penalised(tmp_path):
    """The embedded model with settings whose processors count tokens of the prompt and of the answer."""
    settings = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "min_new_tokens": 3}
    return load(ModelOptions(checkpoint(tmp_path / "model", settings), device="cpu"))


@pytest.mark.parametrize("schedule", [Schedule(), ROUTED], ids=["dense", "routed"])
@pytest.mark.parametrize("name", ["pocket", "penalised"])
def test_decoding_steps_are_one_less_than_tokens_row_by_row(request, name, schedule):
    """Answers of natural lengths: ids of single runs, and the rows of all steps are the sum of tokens - 1."""
    loaded = request.getfixturevalue(name)
    prompts = [build_prompt(loaded.processor, [open_image(path)], text) for path, text in QUESTIONS.items()]
    alone = [passes.timed_pass(passes.Job(loaded, one.inputs, schedule), LONGEST).new for one in prompts]
    assert len(set(map(len, alone))) > 1
    rows = []
    handle = loaded.model.model.register_forward_pre_hook(
        lambda _module, _args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    inputs = collate([one.inputs for one in prompts], passes.pad_token(loaded))
    try:
        timed = passes.timed_rows(passes.Job(loaded, inputs, schedule), LONGEST)
    finally:
        handle.remove()
    assert [row.new for row in timed.rows] == alone
    assert rows[0] == len(prompts)
    assert sum(rows[1:]) == sum(len(new) - 1 for new in alone)


def test_an_answer_ends_when_its_own_last_token_is_there(pocket):
    """A row that leaves early has an earlier end; the longest has that of the pass."""
    prompts = [build_prompt(pocket.processor, [open_image(path)], text) for path, text in QUESTIONS.items()]
    inputs = collate([one.inputs for one in prompts], passes.pad_token(pocket))
    timed = passes.timed_rows(passes.Job(pocket, inputs, Schedule()), LONGEST)
    ends = {len(row.new): timed.clock.until(len(row.new)) for row in timed.rows}
    short, long = min(ends), max(ends)
    assert timed.clock.ttft < ends[short] < ends[long] == timed.clock.end_to_end
    with pytest.raises(RuntimeError, match="tokens were timed"):
        timed.clock.until(long + 1)
