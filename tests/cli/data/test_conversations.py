"""Manifests in the forms that people have: several images, chats, LLaVA's data; errors quote little."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from reroute_cli.console.errors import Failure
from reroute_cli.data.items import Truth, batch_items, choose_items
from reroute_cli.data.prompts import Turn
from reroute_cli.run.prepare import ByteRoom, keyed_items, make_request
from reroute_cli.run.schedules import ScheduleChoice

ASK = "where is the cup?"
GOOD = {"image": "a.png", "question": ASK}
USER = {"role": "user"}
IMAGE = {"type": "image"}
PLAIN = [USER | {"content": [IMAGE, {"type": "text", "text": ASK}]}]
LONG = "q" * 300_000


def words(text):
    """A text part."""
    return {"type": "text", "text": text}


def human(text):
    """A turn of LLaVA's user."""
    return {"from": "human", "value": text}


def gpt(text):
    """A turn of LLaVA's assistant."""
    return {"from": "gpt", "value": text}


@pytest.fixture
def manifest(tmp_path):
    """Write these items as a manifest beside two images, as lines or as one array."""
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (8, 6), colour).save(tmp_path / name)

    def write(*entries, name="items.jsonl"):
        text = json.dumps(entries) if name.endswith(".json") else "\n".join(map(json.dumps, entries))
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.fixture
def read(manifest):
    """The items of these entries as a batch reads them; `profile` reads the same images and questions."""

    def items(*entries, name="items.jsonl"):
        path = manifest(*entries, name=name)
        found = batch_items(None, None, path, None).chosen
        if not any(item.problem for item in found):
            measured = choose_items([], None, path, len(entries)).chosen
            assert [(item.id, item.images, item.question, item.turns) for item in measured] == [
                (item.id, item.images, item.question, item.turns) for item in found
            ]
        return found

    return items


@pytest.mark.parametrize("key", ["image", "images"])
def test_an_item_takes_a_list_of_images(read, key):
    """In their order, under either name."""
    (item,) = read({key: ["b.png", "a.png"], "question": ASK})
    assert ([image.name for image in item.images], item.problem) == (["b.png", "a.png"], "")


@pytest.mark.parametrize(
    "entry",
    [
        {"images": ["a.png"], "question": ASK},
        {"messages": [USER | {"content": [{"type": "image", "image": "a.png"}, words(ASK)]}]},
        {"messages": [USER | {"content": [{"type": "image", "path": "a.png"}, words(ASK)]}]},
        {"messages": [USER | {"content": [{"type": "image", "url": "a.png"}, words(ASK)]}]},
        {
            "messages": [
                USER | {"content": [{"type": "image_url", "image_url": {"url": "a.png"}}, words(ASK)]}
            ]
        },
        {"messages": PLAIN, "image": "a.png"},
        {"messages": PLAIN, "images": ["a.png"]},
        {"conversations": [human(f"<image>\n{ASK}")], "image": "a.png"},
        {"conversations": [human(f"{ASK}")], "question": ASK, "image": "a.png"},
    ],
    ids=str,
)
def test_one_question_in_any_form_is_the_item_of_the_plain_form(read, entry):
    """Hugging Face's, OpenAI's and LLaVA's way to write it give the same item, so the same key and answer."""
    (found,), (plain,) = read(entry), read(GOOD)
    assert found == plain


def test_turns_keep_their_order_and_past_answers(read):
    """System, user and assistant as written; the question is the last that the user says."""
    chat = [
        {"role": "system", "content": "be brief"},
        USER | {"content": [IMAGE, words("is there a cup?")]},
        {"role": "assistant", "content": [words("yes")]},
        USER | {"content": [words("and in"), {"type": "image", "path": "b.png"}, words("?")]},
    ]
    (item,) = read({"messages": chat, "image": "a.png"})
    assert item.turns == (
        Turn("system", ("be brief",)),
        Turn("user", (None, "is there a cup?")),
        Turn("assistant", ("yes",)),
        Turn("user", ("and in", None, "?")),
    )
    assert ([image.name for image in item.images], item.question) == (["a.png", "b.png"], "and in\n?")


@pytest.mark.parametrize("name", ["items.jsonl", "llava.json"])
def test_llava_s_data_is_read_as_lines_and_as_an_array(read, name):
    """Markers are images' places, space around them is none of the text, and gpt's last turn is the truth."""
    spoken = [
        human("<image>\nis there a cup?"),
        gpt("yes"),
        human("where is it? <image>"),
        gpt("on the desk"),
    ]
    (item,) = read({"id": 5, "image": ["a.png", "b.png"], "conversations": spoken}, name=name)
    assert item.turns == (
        Turn("user", (None, "is there a cup?")),
        Turn("assistant", ("yes",)),
        Turn("user", ("where is it?", None)),
    )
    assert (item.id, item.label) == ("5", Truth("words", ("on the desk",)))
    assert [image.name for image in item.images] == ["a.png", "b.png"]


def test_the_last_turn_of_an_assistant_is_the_truth_and_is_not_shown(read):
    """In data to train on; an answer of the item's own counts more, and an empty turn says none."""
    chat = [*PLAIN, {"role": "assistant", "content": "there"}]
    entry = {"messages": chat, "image": "a.png"}
    one, two, three = read(
        entry,
        entry | {"answer": "here"},
        {"messages": [*PLAIN, chat[-1] | {"content": ""}], "image": "a.png"},
    )
    assert [item.label for item in (one, two, three)] == [
        Truth("words", ("there",)),
        Truth("words", ("here",)),
        None,
    ]
    assert {(item.question, item.turns) for item in (one, two, three)} == {(ASK, ())}


def test_elements_of_an_array_are_called_items(read):
    """By their place where they have no id, in sentences too."""
    one, two = read(GOOD, 5, name="a.json")
    assert (one.id, two.id) == ("item 1", "item 2")
    assert two.problem.startswith("item 2 of ")


def test_a_file_called_json_may_hold_lines(manifest):
    """Only what begins as an array is one."""
    path = manifest(GOOD, GOOD | {"id": "x"})
    path = path.rename(path.with_suffix(".json"))
    assert [item.id for item in batch_items(None, None, path, None).chosen] == ["line 1", "x"]


@pytest.mark.parametrize(
    ("text", "sentence"), [("[1,", "is no JSON"), ("[]", "no item in it"), ("[" * 100_000, "is no JSON")]
)
def test_an_array_that_is_none_is_one_sentence(manifest, text, sentence):
    """There is no run without items."""
    path = manifest(name="a.json")
    path.write_text(text)
    with pytest.raises(Failure, match=sentence):
        batch_items(None, None, path, None)


def test_an_array_too_large_to_be_read_at_once_is_refused(manifest, monkeypatch):
    """Lines have no such bound, and the sentence says so."""
    from reroute_cli.data import manifest as lines

    monkeypatch.setattr(lines, "LARGEST_ARRAY", 10)
    with pytest.raises(Failure, match="write its items as JSON lines"):
        batch_items(None, None, manifest(GOOD, name="a.json"), None)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"image": [], "question": ASK}, "no text under 'image'"),
        ({"image": ["a.png", 5], "question": ASK}, "no text under 'image'"),
        ({"images": "", "question": ASK}, "no text under 'images'"),
        ({"image": "a.png", "images": ["b.png"], "question": ASK}, "keep one of them"),
        ({"images": ["a.png"] * 257, "question": ASK}, "257 images: at most 256"),
        ({"images": ["a.png", "b.png"], "question": ASK, "box": [1, 1, 4, 4]}, "a box is in one image"),
        ({"messages": PLAIN}, "has 0 images for 1 places"),
        ({"messages": [USER | {"content": ASK}], "image": "a.png"}, "has 1 image for 0 places"),
        ({"messages": PLAIN, "images": ["a.png", "b.png"]}, "has 2 images for 1 places"),
        ({"messages": [USER | {"content": ASK}]}, "needs an image"),
        ({"messages": []}, "no list of chat messages"),
        ({"messages": "hello"}, "no list of chat messages"),
        ({"messages": [USER | {"content": ASK}] * 1025}, "1025 turns: at most 1024"),
        ({"messages": [{"role": LONG, "content": ""}]}, "a message of role 'qqq"),
        ({"messages": [USER | {"content": [{"type": LONG}]}]}, "part of type 'qqq"),
        ({"messages": [USER | {"content": [{"type": "video", "url": "a.mp4"}]}]}, "asks about video"),
        (
            {"messages": [*PLAIN, *[{"role": "assistant", "content": "x"}] * 2], "image": "a.png"},
            "end it with",
        ),
        ({"messages": [{"role": "assistant", "content": "x"}], "image": "a.png"}, "1 image for 0 places"),
        ({"messages": [*PLAIN, USER | {"content": " "}], "image": "a.png"}, "the question is empty"),
        ({"messages": [USER | {"content": [IMAGE, words(LONG)]}], "image": "a.png"}, "at most 8192"),
        (
            {"messages": [{"role": "system", "content": LONG}, *PLAIN], "image": "a.png"},
            "more than 65536 characters",
        ),
        (
            {"messages": [*PLAIN, {"role": "assistant", "content": [IMAGE]}], "images": ["a.png", "b.png"]},
            "an answer is text",
        ),
        ({"messages": PLAIN, "conversations": [human(ASK)], "image": "a.png"}, "keep one of them"),
        ({"conversations": [human(ASK)], "image": "a.png"}, "has 1 image for 0 markers <image>"),
        ({"conversations": [human("<image><image>x")], "image": "a.png"}, "has 1 image for 2 markers"),
        ({"conversations": {}, "image": "a.png"}, "no list of 1 to 1024 turns"),
        ({"conversations": [{"from": LONG, "value": "x"}], "image": "a.png"}, "a turn from 'qqq"),
        ({"conversations": [{"from": "human"}], "image": "a.png"}, "without a text under 'value'"),
        ({"conversations": [{"from": [LONG], "value": "x"}], "image": "a.png"}, "a turn from ['qqq"),
        (GOOD | {"image": LONG}, "of 300000 characters, and such a file does not exist"),
        (GOOD | {"image": f"https://{LONG}"}, "names the address 'https://qqq"),
        (GOOD | {"image": f"file:///{LONG}"}, "such a file does not exist"),
        (GOOD | {"image": f"file://{LONG[:4000]}/a.png"}, "a file of the machine 'qqq"),
        (GOOD | {"image": f"data:{LONG}"}, "a data URI of an image begins with"),
        (GOOD | {"image": f"data:image/png;base64,{LONG}!"}, "no base64"),
        (GOOD | {"image": "data:image/png;base64,"}, "no bytes"),
        (GOOD | {"image": "data:text/html;base64,AAAA"}, "a data URI of an image begins with"),
        (GOOD | {"question": LONG}, "at most 8192"),
        (GOOD | {"id": LONG}, "an id of 300000 characters"),
        (GOOD | {"box": [4, 3, 10**4200, 1]}, "no [x1, y1, x2, y2]"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_can_t_be_asked_is_one_short_sentence(read, entry, sentence):
    """It names the line and quotes little of it; nothing of the item that a record holds is long."""
    good, item = read(GOOD, entry)
    assert good.problem == ""
    assert item.problem.startswith("line 2 of ")
    assert sentence in item.problem
    assert len(item.problem) < 600
    assert sum(map(len, (item.id, item.image, item.question, item.group))) < 9000


def test_a_chat_has_a_key_of_its_turns_and_a_plain_item_the_one_it_had(read, pocket):
    """Files of records from before go on; another order of images or another past is another key."""
    chats = [[{"role": "system", "content": text}, *PLAIN] for text in ("be brief", "be long")]
    items = read(
        GOOD,
        {"images": ["a.png", "b.png"], "question": ASK},
        {"images": ["b.png", "a.png"], "question": ASK},
        *({"messages": chat, "image": "a.png"} for chat in chats),
    )
    request = make_request(pocket, [ScheduleChoice()], 8, 1)
    keys = [keyed.keys[0].answer for keyed in keyed_items(request, items, lambda _: False, 4, ByteRoom(0))]
    assert len(set(keys)) == 5
    bare = [replace(items[0], turns=(), images=items[0].images[:1])]
    assert keys[0] == next(iter(keyed_items(request, bare, lambda _: False, 4, ByteRoom(0)))).keys[0].answer
    parts = {
        "pictures": [hashlib.sha256(Path(items[0].images[0].path).read_bytes()).hexdigest()],
        "question": ASK,
        **request.asks[0].settings,
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    assert keys[0] == hashlib.sha256(text.encode()).hexdigest()


def test_a_batch_over_every_form_answers_what_it_can(run, warm, manifest, tmp_path):
    """Chats and several images are answered, with their turns in the record; a bad item is an error."""
    chat = [{"role": "system", "content": "be brief"}, *PLAIN]
    path = manifest(
        {"id": "two", "images": ["a.png", "b.png"], "question": ASK},
        {"id": "chat", "messages": chat, "image": "a.png"},
        {"id": "control", "messages": [USER | {"content": [IMAGE, words("<image>?")]}], "image": "a.png"},
    )
    result = run("batch", "--manifest", str(path), "-o", str(tmp_path / "o.jsonl"), "--max-new-tokens", "2")
    assert result.exit_code == 4
    two, spoken, control = map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())
    assert (two["images"], two["turns"], two["tokens"]["visual_tokens"]) == (["a.png", "b.png"], [], 512)
    assert (spoken["question"], spoken["error"]) == (ASK, None)
    assert spoken["turns"] == [{"role": "system", "content": [words("be brief")]}, *PLAIN]
    assert "a control token" in control["error"]


def test_profile_measures_several_images_and_chats(run, warm, manifest, tmp_path):
    """The visual tokens of all images, in a report that says what they are."""
    chat = [{"role": "system", "content": "be brief"}, *PLAIN]
    path = manifest(
        {"id": "two", "images": ["a.png", "b.png"], "question": ASK}, {"messages": chat, "image": "a.png"}
    )
    options = ("--max-new-tokens", "2", "--repeat", "1", "--warmup", "0", "--json")
    report = json.loads(run("profile", "--manifest", str(path), *options).stdout)
    two, spoken = report["workload"]["items"]
    assert (two["images"], two["visual_tokens"], spoken["visual_tokens"]) == (["a.png", "b.png"], 512, 256)
    assert spoken["prompt_tokens"] > two["prompt_tokens"] - 256


def test_eval_judges_by_llava_s_last_turn_and_tells_chats_apart(run, warm, manifest, tmp_path):
    """Every item has a truth, and two chats about one image that end alike are told apart."""
    spoken = [human("<image>\nis there a cup?"), gpt("yes"), human("where?"), gpt("on the desk")]
    other = [human("<image>\nis there a dog?"), *spoken[1:]]
    path = manifest(*({"image": "a.png", "conversations": turns} for turns in (spoken, other)), name="a.json")
    result = run("eval", "--manifest", str(path), "--arms", "pdrop", "--ratio", "0.667", "--json")
    items = json.loads(result.stdout)["items"]
    assert [item["id"] for item in items] == ["item 1", "item 2"]
    assert [item["question"] for item in items] == [
        "user: [image] is there a cup? assistant: yes user: where?",
        "user: [image] is there a dog? assistant: yes user: where?",
    ]
    assert all("on the desk" in json.dumps(item["truth"]) for item in items)
