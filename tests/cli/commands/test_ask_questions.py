"""`reroute ask IMAGE -Q QUESTION -Q QUESTION`: several questions about one image, answered together."""

import json

import pytest

import reroute_cli as reroute
from reroute_cli.data.images import open_image
from reroute_cli.data.prompts import run_processor
from reroute_cli.run.prompts import PreparedPrompt, begin_alike
from reroute_cli.run.questions import ProcessedOnce
from routing import Schedule
from tests.cli.run.test_batch_equal import alike

QUESTIONS = ("where is the cup?", "what colour is the cup?", "is there a key in the image?")
MORE = ("-Q", QUESTIONS[1], "-Q", QUESTIONS[2])
SCHEDULES = {
    "dense": (),
    "pdrop-reroute": ("--method", "pdrop", "--action", "reroute", "--ratio", "0.8"),
    "visionzip": ("--method", "visionzip", "--ratio", "0.75"),
    "downsample": ("--method", "downsample", "--ratio", "0.5"),
    "profile": ("-p", "pocket-reroute"),
}
SHORT = ("--max-new-tokens", "2")
TOO_LONG = "what " * 1000

pytestmark = pytest.mark.usefixtures("warm")


def same(record):
    """What a record says of a question, whatever the pass: FLOPs, and none of what only one pass measures."""
    flops = {name: value for name, value in record["flops"].items() if "source" not in name}
    return {**alike(record), "flops": flops, "memory": None, "reasons": None}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_every_question_gets_what_it_gets_alone(run, record, picture, schedule):
    """Records as JSON lines in the questions' order, each equal to that of its question asked alone."""
    result = run("ask", picture, QUESTIONS[0], *MORE, "--json", *schedule)
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [same(one) for one in found] == [same(record(picture, each, *schedule)) for each in QUESTIONS]
    assert [one["latency"]["batch_size"] for one in found] == [3, 3, 3]


def test_answers_stand_a_line_each_on_stdout_and_cards_on_stderr(run, record, picture):
    """The questions' order, whether the first of them is the last word or stands behind -Q."""
    answers = "".join(record(picture, each)["answer"] + "\n" for each in QUESTIONS)
    for words in ((picture, QUESTIONS[0], *MORE), (picture, "-Q", QUESTIONS[0], *MORE)):
        result = run("ask", *words)
        assert result.stdout == answers
        places = [result.stderr.index(f"{each}\nvisual tokens/layer 256") for each in QUESTIONS]
        assert places == sorted(places)


def test_one_question_behind_the_option_is_asked_as_ever(run, record, picture):
    """-Q alone prints the whole record of `ask`, its FLOPs counted."""
    asked = json.loads(run("ask", picture, "-Q", QUESTIONS[0], "--json").stdout)
    assert asked["flops"]["source"] == "measured"
    assert same(asked) == same(record(picture, QUESTIONS[0]))


def test_several_images_are_one_prompt_of_every_question(run, record, picture, tmp_path, drawn):
    """All words before the first option are images where the last is a file."""
    other = tmp_path / "other.png"
    drawn((120, 90)).save(other)
    result = run("ask", picture, str(other), "-Q", QUESTIONS[0], *MORE, "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [same(one) for one in found] == [same(record(picture, str(other), each)) for each in QUESTIONS]


def test_a_question_that_fails_leaves_the_others_their_answers(run, record, picture):
    """Its line is empty, stderr says why, and the exit code is that of a failure."""
    result = run("ask", picture, QUESTIONS[0], "-Q", TOO_LONG, "-Q", QUESTIONS[1], "-q")
    first, last = (record(picture, each)["answer"] for each in QUESTIONS[:2])
    assert result.exit_code == 4
    assert result.stdout == f"{first}\n\n{last}\n"
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith("error: 'what what")
    assert "use fewer images, a shorter question" in sentence


def test_a_schedule_that_the_model_cannot_have_fails_once(run, picture):
    """What is wrong for all questions is one sentence, and nothing is answered."""
    words = ("--method", "pdrop", "--ratio", "0.5", "--layers", "3,99")
    result = run("ask", picture, QUESTIONS[0], *MORE, *words)
    alone = run("ask", picture, QUESTIONS[0], *words)
    assert (result.exit_code, result.stdout, result.stderr) == (alone.exit_code, "", alone.stderr)


def test_the_file_holds_the_records(run, picture, tmp_path):
    """-o writes JSON lines, which are read like those of a batch."""
    file = tmp_path / "answers.jsonl"
    result = run("ask", picture, QUESTIONS[0], *MORE, "-q", "--json", "-o", str(file))
    assert file.read_text() == result.stdout
    assert tuple(one.question for one in reroute.read(file)) == QUESTIONS


def test_the_library_answers_a_list_with_a_list(pocket, record, picture):
    """The same records in Python; a question that fails is a record with the error."""
    found = reroute.ask(pocket, picture, [*QUESTIONS[:2], TOO_LONG])
    alone = [record(picture, each) for each in QUESTIONS[:2]]
    assert [same(one.as_dict()) for one in found[:2]] == [same(one) for one in alone]
    assert "use fewer images" in found[2].error
    with pytest.raises(reroute.UsageError, match="no question is given"):
        reroute.ask(pocket, picture, [])


def test_images_without_a_question_and_questions_without_an_image_are_refused(run, picture):
    """One sentence each, before a model is loaded."""
    assert "no image is named" in run("ask", "-Q", QUESTIONS[0], "nope.png").stderr
    assert "the question comes last" in run("ask", picture).stderr
    assert "the question is empty" in run("ask", picture, "-Q", " ").stderr


def test_images_are_read_and_processed_once(run, picture, monkeypatch, pocket):
    """However many questions: one look at the file, one call of the image processor."""
    from reroute_cli.data import images

    kind, calls = type(pocket.processor.image_processor), []
    preprocess, opened = kind.preprocess, images.open_image
    monkeypatch.setattr(kind, "preprocess", lambda *a, **k: calls.append("processed") or preprocess(*a, **k))
    monkeypatch.setattr(images, "open_image", lambda *a: calls.append("read") or opened(*a))
    assert run("ask", picture, QUESTIONS[0], *MORE, "-q").exit_code == 0
    assert calls == ["read", "processed"]


def test_other_images_and_other_settings_are_processed_anew():
    """What was made is given again for the very same images under the same settings alone."""
    made = []
    once = ProcessedOnce(lambda images, **settings: made.append(settings) or {"place": len(made)})
    one, other = object(), object()
    results = [once([one]), once([one]), once([one], size=3), once([other]), once([[one]]), once([one])]
    assert [result["place"] for result in results] == [1, 1, 2, 3, 4, 1]
    assert results[0] is not results[1]


def together(result):
    """Of every record: whether its pass computed the images once, and the answer."""
    found = [json.loads(line) for line in result.stdout.splitlines()]
    return [one["latency"]["shared_prefix"] for one in found], [one["answer"] for one in found]


@pytest.mark.parametrize("schedule", list(SCHEDULES.values())[:2], ids=list(SCHEDULES)[:2])
def test_images_are_computed_once_where_the_model_can(run, picture, monkeypatch, schedule):
    """The records and the card say so; where the engine says that a model can't, the answers are the same."""
    words = ("ask", picture, QUESTIONS[0], *MORE, "--json", *schedule)
    once = run(*words)
    monkeypatch.setattr("routing.prefix.why_not_shared", lambda location: "it can't")
    each = run(*words)
    assert together(once) == ([True] * 3, together(each)[1])
    assert together(each)[0] == [False] * 3
    assert "times are one run of 3 prompts together, their images computed once" in flat(once.stderr)
    assert "times are one run of 3 prompts together, without warm-up" in flat(each.stderr)


def flat(text):
    """Text without its line breaks."""
    return " ".join(text.split())


def test_items_of_a_batch_share_an_image_that_all_of_them_show(run, picture, tmp_path, drawn):
    """A pass about one image computes it once; in the next pass images differ."""
    drawn((90, 120)).save(tmp_path / "other.png")
    images = [picture, picture, picture, str(tmp_path / "other.png")]
    lines = [
        json.dumps({"image": image, "question": f"{QUESTIONS[0]} {at}"}) for at, image in enumerate(images)
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    result = run("batch", "--manifest", str(tmp_path / "manifest.jsonl"), "--batch-size", "2", *SHORT)
    assert together(result)[0] == [True, True, False, False]


def test_prompts_with_words_before_their_images_share_nothing(pocket, picture):
    """A question before its image tells prompts apart; words after it, and equal ones before it, do not."""
    pixels = [open_image(picture).pixels]

    def prompt(text):
        return PreparedPrompt(run_processor(pocket.processor, pixels, text), 256, Schedule(), 4)

    one, other, before = map(prompt, ("the <image> cup", "the <image> where is the lamp", "lamp <image> cup"))
    assert begin_alike(pocket, [one, other])
    assert not begin_alike(pocket, [one, other, before])
    assert not begin_alike(pocket, [one])
    pixels = [open_image(picture).resized((80, 60)).pixels]
    assert not begin_alike(pocket, [one, prompt("the <image> cup")])
