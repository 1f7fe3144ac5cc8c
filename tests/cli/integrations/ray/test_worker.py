"""A worker without its cluster: it answers tables as one machine answers items, and checks what it loaded."""

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reroute_cli.console.options import ModelOptions
from reroute_cli.data.items import (
    batch_items,
)
from reroute_cli.integrations.ray.config import make_config
from reroute_cli.models import load as models
from reroute_cli.models.load import (
    without_weights,
)
from reroute_cli.run import batch
from reroute_cli.run.batch import BatchRun
from reroute_cli.run.prepare import (
    ByteRoom,
    keyed_items,
    make_request,
)
from reroute_cli.run.schedules import ScheduleChoice

pa = pytest.importorskip("pyarrow")
from reroute_cli.integrations.ray.rows import answers_of, parcels_of, with_pictures  # noqa: E402
from reroute_cli.integrations.ray.worker import Worker  # noqa: E402

SAMPLES = Path(__file__).resolve().parents[4] / "samples"
ROUTED = ScheduleChoice("pdrop", "reroute", 0.7)


@pytest.fixture
def request_of(pocket, monkeypatch):
    """A function from a choice to the driver's request and order; workers get the model that is loaded."""
    monkeypatch.setattr(models, "load", lambda options: pocket)

    def made(choice=ROUTED, batch_size=2, feature_cache=0):
        loading = ModelOptions()
        request = make_request(without_weights(loading, "cpu"), [choice], 4, batch_size, feature_cache)
        return request, make_config(loading, request, 1)

    return made


def nothing_is_done(_key):
    """What a fresh file says of every key."""
    return False


def keyed(request, items, held=0):
    """Items by their places, keyed; of their files so many bytes are held."""
    return list(enumerate(keyed_items(request, items, nothing_is_done, 8, ByteRoom(held))))


def sent(request, items, size=3):
    """Items as the tables that reach a worker, by way of JSON."""
    jobs = keyed(request, items)
    return [with_pictures(pa.Table.from_pylist([parcel])) for parcel in parcels_of(jobs, size)]


def answered(order, tables):
    """What a worker sends back for these tables, by index."""
    worker = Worker(order)
    return {answer.index: answer for table in tables for answer in answers_of(worker(table))}


def untimed(record):
    """A record without its times and its key, which the driver sets."""
    return record | {"latency": None, "key": None}


def test_a_worker_gives_what_one_machine_gives(request_of, pocket):
    """The same records, field by field, for words and boxes, whatever the tables."""
    request, order = request_of()
    items = batch_items(None, None, SAMPLES / "manifest.jsonl", 7).chosen
    alone = BatchRun(replace(request, loaded=pocket)).outcomes(items, nothing_is_done)
    found = answered(order, sent(request, items))
    assert [untimed(found[index].record) for index in range(7)] == [
        untimed(outcome.record.as_dict()) for outcome in alone
    ]
    assert {answer.problem for answer in found.values()} == {""}


def test_a_workers_tables_share_encoded_images(request_of):
    """Three questions about one image in three tables: the second and third pay what the first took."""
    _, order = request_of(feature_cache=1 << 24)
    items = batch_items(None, None, SAMPLES / "manifest.jsonl", None).chosen[:3]
    request, _ = request_of()
    found = answered(order, sent(request, items, size=1))
    first, *others = (found[index].record["latency"]["reused_vision_s"] for index in range(3))
    assert first == 0
    assert others[0] == others[1] > 0


def test_names_that_are_no_unicode_reach_the_worker(request_of, tmp_path):
    """A file name of other bytes is named as on one machine, in the record and in its error."""
    request, order = request_of()
    shutil.copy(SAMPLES / "desk.png", tmp_path.as_posix().encode() + b"/\xff.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    items = batch_items(tmp_path, "x\u2028 \x7f?", None, None).chosen
    found = answered(order, sent(request, items))
    records = {answer.record["id"]: answer.record for answer in found.values()}
    assert records["\\udcff.png"]["error"] is None
    assert "b.png' is not an image" in records["b.png"]["error"]
    assert {record["question"] for record in records.values()} == {"x\u2028 \x7f?"}


def test_a_picture_that_changed_since_its_key_was_made_is_an_error(request_of, tmp_path):
    """Its answer would be written under the key of another picture."""
    request, order = request_of()
    shutil.copy(SAMPLES / "desk.png", tmp_path / "a.png")
    items = batch_items(tmp_path, "x", None, None).chosen
    jobs = keyed(request, items)
    shutil.copy(SAMPLES / "sky.png", tmp_path / "a.png")
    (parcel,) = parcels_of(jobs, 1)
    (found,) = answered(order, [with_pictures(pa.Table.from_pylist([parcel]))]).values()
    assert "changed while it was read" in found.record["error"]
    (tmp_path / "a.png").unlink()
    (found,) = answered(order, [with_pictures(pa.Table.from_pylist([parcel]))]).values()
    assert "does not exist" in found.record["error"]


def test_files_that_were_read_for_their_keys_are_not_read_again(request_of, tmp_path):
    """Their bytes go along as far as the driver may hold them: one of two files may be gone by then."""
    request, config = request_of()
    for name in ("a.png", "b.png"):
        shutil.copy(SAMPLES / "desk.png", tmp_path / name)
    items = batch_items(tmp_path, "x", None, None).chosen
    tables = [
        pa.Table.from_pylist([parcel])
        for parcel in parcels_of(keyed(request, items, (tmp_path / "a.png").stat().st_size), 1)
    ]
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").unlink()
    found = answered(config, [with_pictures(table) for table in tables])
    assert sorted(answer.record["error"] is None for answer in found.values()) == [False, True]


def test_a_true_box_outside_of_the_picture_is_an_error_as_on_one_machine(request_of, tmp_path):
    """Truths go along as far as a record depends on them."""
    request, order = request_of()
    shutil.copy(SAMPLES / "desk.png", tmp_path / "a.png")
    line = {"image": "a.png", "question": "x", "box": [0, 0, 5000, 9]}
    (tmp_path / "m.jsonl").write_text(json.dumps(line))
    items = batch_items(None, None, tmp_path / "m.jsonl", None).chosen
    (found,) = answered(order, sent(request, items)).values()
    assert "reaches out of the image" in found.record["error"]
    assert "line 1 of" in found.record["error"]


def test_a_profile_that_is_a_file_of_the_driver_goes_along(request_of, tmp_path):
    """By its content: the worker needs no such file, and records name it as it was typed."""
    profile = tmp_path / "mine.yaml"
    profile.write_text("title: mine\nstages:\n- {layer: 3, keep_ratio: 0.25}\n")
    request, order = request_of(ScheduleChoice(profile=str(profile)))
    items = batch_items(None, None, SAMPLES / "manifest.jsonl", 1).chosen
    tables = sent(request, items)
    profile.unlink()
    (found,) = answered(order, tables).values()
    assert found.problem == ""
    assert found.record["schedule"]["profile"] == str(profile)
    assert found.record["schedule"]["stages"][0]["kept"] == 64


def test_an_error_about_a_profile_names_it_as_typed(request_of, tmp_path):
    """Not the file that a worker made of it."""
    profile = tmp_path / "deep.yaml"
    profile.write_text("title: deep\nstages:\n- {layer: 30, keep_ratio: 0.25}\n")
    request, order = request_of(ScheduleChoice(profile=str(profile)))
    items = batch_items(None, None, SAMPLES / "manifest.jsonl", 1).chosen
    (found,) = answered(order, sent(request, items)).values()
    assert f"the profile '{profile}' does not fit this model" in found.record["error"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "0.0.1"}, "install the same on every node"),
        ({"settings": {"model": {"dtype": "float16"}}}, "dtype 'float32', the driver's 'float16'"),
        ({"settings": {"model": {"config": "0"}}}, "give every node the same model files"),
        ({"settings": {"model": {"revision": "1"}}}, "fetch the same commit"),
    ],
    ids=["version", "dtype", "config", "revision"],
)
def test_a_worker_of_another_kind_answers_nothing(request_of, change, words):
    """Its answers would stand under keys of other settings: it says what differs, and the remedy."""
    request, order = request_of()
    items = batch_items(None, None, SAMPLES / "manifest.jsonl", 2).chosen
    found = answered(order | change, sent(request, items))
    assert len(found) == 2
    for answer in found.values():
        assert words in answer.problem
        assert "a worker on '" in answer.problem


def test_a_model_that_can_not_be_loaded_is_one_sentence(request_of, monkeypatch):
    """From every worker, as data: no exception crosses the cluster."""
    request, order = request_of()
    items = batch_items(None, None, SAMPLES / "manifest.jsonl", 1).chosen
    tables = sent(request, items)
    monkeypatch.setattr(models, "load", lambda options: 1 / 0)
    (found,) = answered(order, tables).values()
    assert "can't work: this is a bug in reroute: ZeroDivisionError" in found.problem


def test_a_batch_that_does_not_fit_is_cut_in_two_in_the_worker(request_of, monkeypatch):
    """As on one machine, and the next tables begin as small as what fitted."""
    whole, sizes = batch.answer_pass, []

    def tight(loaded, prompts, halvings, measured, features):
        sizes.append(len(prompts))
        if len(prompts) > 1:
            raise MemoryError
        return whole(loaded, prompts, halvings, measured=measured, features=features)

    monkeypatch.setattr(batch, "answer_pass", tight)
    request, order = request_of()
    items = batch_items(None, None, SAMPLES / "manifest.jsonl", 4).chosen
    found = answered(order, sent(request, items, size=2))
    assert sizes == [2, 1, 1, 1, 1]
    assert [found[index].record["latency"]["halvings"] for index in range(4)] == [1, 1, 0, 0]


def test_an_order_is_plain_json(request_of):
    """Nobody needs our classes to read it."""
    _, order = request_of()
    assert json.loads(json.dumps(order)) == order


def test_several_images_and_chats_reach_a_worker(request_of, pocket, tmp_path):
    """Files and images as data, in their order, with all turns: the records of one machine."""
    data = base64.b64encode((SAMPLES / "garden.png").read_bytes()).decode()
    images = [str(SAMPLES / "desk.png"), f"data:image/png;base64,{data}"]
    chat = [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "a cup?"}],
        },
    ]
    entries = [{"images": images, "question": "a cup?"}, {"messages": chat, "images": images[::-1]}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, entries)))
    items = batch_items(None, None, tmp_path / "m.jsonl", None).chosen
    request, order = request_of()
    found = answered(order, sent(request, items))
    run = BatchRun(make_request(pocket, [ROUTED], 4, 2))
    expected = [outcome.record.as_dict() for outcome in run.outcomes(items, nothing_is_done)]
    assert [untimed(found[index].record) for index in range(2)] == [untimed(one) for one in expected]
    assert [one["error"] for one in expected] == [None, None]


def test_an_image_that_changes_on_its_way_fails_its_item(request_of, tmp_path):
    """The second of two images is other than its key says: no answer about a mixture."""
    for name in ("a.png", "b.png"):
        shutil.copy(SAMPLES / "desk.png", tmp_path / name)
    (tmp_path / "m.jsonl").write_text(json.dumps({"images": ["a.png", "b.png"], "question": "a cup?"}))
    request, order = request_of()
    items = batch_items(None, None, tmp_path / "m.jsonl", None).chosen
    jobs = keyed(request, items)
    (parcel,) = parcels_of(jobs, 1)
    shutil.copy(SAMPLES / "garden.png", tmp_path / "b.png")
    (found,) = answered(order, [with_pictures(pa.Table.from_pylist([parcel]))]).values()
    assert "b.png' changed while it was read" in found.record["error"]
