"""Encoded images that answers share: the same records in fewer runs of the tower, in so many bytes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reroute_cli.console.errors import UsageError
from reroute_cli.console.options import RunOptions
from reroute_cli.console.sizes import read_size
from reroute_cli.data.items import batch_items
from reroute_cli.measure import passes
from reroute_cli.records.store import RecordFile
from reroute_cli.run.batch import BatchRun
from reroute_cli.run.features import FeatureStore, KeptImage, LeastRecent
from reroute_cli.run.prepare import Waiting, make_request, prepared_items
from reroute_cli.run.schedules import Arm, ScheduleChoice
from reroute_cli.run.trial import hold_trial
from routing import Schedule, VisionStage
from routing.methods import METHODS
from routing.methods.selection import Need
from routing.vision import EncodedImage

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
DENSE, PRUNE = ScheduleChoice(), ScheduleChoice("fastv", "prune", 0.5)
ROUTED = [name for name, method in METHODS.items() if not method.resizes and name != "none"]
PLENTY = 64 << 20


@pytest.fixture(scope="module")
def items():
    """Six questions about two of the sample images."""
    return batch_items(None, None, SAMPLES / "manifest.jsonl", None).chosen[:6]


@pytest.fixture
def tower_runs(pocket):
    """Images in each run of the tower, by a hook on what makes patches of pixels."""
    seen = []
    embeds = pocket.model.model.vision_tower.embeddings.patch_embedding
    handle = embeds.register_forward_hook(lambda _module, args, _output: seen.append(len(args[0])))
    yield seen
    handle.remove()


def records_of(pocket, items, choices, size, most, store=None):
    """The records of every item under every schedule. most: bytes for encoded images."""
    request = make_request(pocket, choices, 3, size, most)
    return [outcome.record for outcome in BatchRun(request, store).outcomes(items, lambda _: False)]


def untimed(record):
    """A record without its times."""
    assert record.error is None
    return record.as_dict() | {"latency": None}


def image_of(numbers):
    """An encoded image of so many float32 numbers."""
    return KeptImage(EncodedImage(dict, {"pooler_output": torch.zeros(numbers)}, {}, frozenset()), 0.5)


@pytest.mark.parametrize("size", [1, 4])
def test_records_are_the_same_but_for_their_times(pocket, items, size):
    """Answers, kept tokens, FLOPs and KV bytes of dense and every method, alone and in batches."""
    choices = [DENSE, *(ScheduleChoice(name, "prune", 0.6) for name in ROUTED)]
    plain, once = (records_of(pocket, items[:4], choices, size, most) for most in (0, PLENTY))
    assert [untimed(record) for record in once] == [untimed(record) for record in plain]


def test_the_tower_runs_once_an_image(pocket, items, tower_runs):
    """Six questions about two images under four schedules in batches of four; without a cache once for each
    row of the first batch, which shows both images, and once for the second, whose rows begin alike."""
    choices = [
        DENSE,
        PRUNE,
        ScheduleChoice("visionzip", "prune", 0.6),
        ScheduleChoice("hiprune", "reroute", 0.6),
    ]
    records_of(pocket, items, choices, 4, PLENTY)
    assert tower_runs == [1, 1]
    tower_runs.clear()
    records_of(pocket, items, choices, 4, 0)
    assert sum(tower_runs) == (4 + 1) * len(choices)


def test_an_answer_pays_for_images_that_another_answer_encoded(pocket, items, tower_runs, monkeypatch):
    """With an encoding of 100 s: the first about an image is timed as it ran, others have 100 s on top."""
    clock = "reroute_cli.run.features.seconds_of"
    monkeypatch.setattr(clock, lambda work, _device: (work(), 100.0))
    records = records_of(pocket, items[:3], [DENSE], 1, PLENTY)
    assert [record.latency.reused_vision_s for record in records] == [0, 100, 100]
    assert [int(record.latency.ttft_s // 100) for record in records] == [0, 1, 1]
    assert [int(record.latency.e2e_s // 100) for record in records] == [0, 1, 1]
    assert all(record.latency.tpot_s < 100 for record in records)
    assert records[0].flops == records_of(pocket, items[:1], [DENSE], 1, 0)[0].flops


def test_two_rows_of_a_pass_pay_for_an_image_as_often_as_without_a_cache(pocket, items, monkeypatch):
    """Once where all rows begin with it; for each of them where the pass shows others, too."""
    monkeypatch.setattr("reroute_cli.run.features.seconds_of", lambda work, _device: (work(), 100.0))
    for asked, seconds in ((items[:3], 0), (items[1:4], 100)):
        records = records_of(pocket, asked, [DENSE], 3, PLENTY)
        assert {record.latency.reused_vision_s for record in records} == {seconds}


def test_a_changed_image_is_encoded_again(pocket, tmp_path, tower_runs):
    """The file's name is the same, its pixels are not, and the answer is that of the new ones."""
    store, found = FeatureStore(PLENTY, "cpu"), []
    for name in ("desk.png", "street.png"):
        (tmp_path / "a.png").write_bytes((SAMPLES / name).read_bytes())
        again = batch_items(tmp_path, "what is at [0.12,0.27,0.21,0.40]?", None, None).chosen
        found += [
            records_of(pocket, again, [DENSE], 1, 0, kept)[0].answer
            for kept in (store, FeatureStore(0, "cpu"))
        ]
    assert store.encoded == 2
    assert found[0] == found[1]
    assert found[2] == found[3]


def test_the_images_used_longest_ago_go_first():
    """Of three images in room for two; one that was used again stays."""
    kept = LeastRecent(2 * 400)
    assert kept.add("a", image_of(100)) == kept.add("b", image_of(100)) == []
    kept.add("a", kept.take("a"))
    assert [key for key, _ in kept.add("c", image_of(100))] == ["b"]
    assert kept.take("b") is None
    assert kept.bytes == 800


def test_the_bound_is_one_of_bytes():
    """A large image takes the place of several small ones; one larger than all room is not kept."""
    kept = LeastRecent(1000)
    for key in "abc":
        kept.add(key, image_of(80))
    assert [key for key, _ in kept.add("large", image_of(200))] == ["a", "b", "c"]
    assert [key for key, _ in kept.add("huge", image_of(251))] == ["huge"]
    assert kept.bytes == 800


def test_a_run_holds_no_more_than_it_may(pocket, items, tower_runs):
    """With room for one image, two that alternate are encoded every time, and the answers are the same."""
    size = records_bytes(pocket, items[:1])
    store = FeatureStore(size + size // 2, "cpu")
    mixed = [items[0], items[3], items[1], items[4]]
    tower_runs.clear()
    found = records_of(pocket, mixed, [DENSE], 1, 0, store)
    assert tower_runs == [1] * 4
    assert store.bytes == size
    assert [untimed(one) for one in found] == [
        untimed(one) for one in records_of(pocket, mixed, [DENSE], 1, 0)
    ]


def records_bytes(pocket, items):
    """Bytes that the images of these items take."""
    store = FeatureStore(PLENTY, "cpu")
    records_of(pocket, items, [DENSE], 1, 0, store)
    return store.bytes


def test_what_leaves_the_device_goes_to_the_host(monkeypatch):
    """With room for one on the device, an eighth, "b" moves "a" out, and "a", used again, moves "b"."""
    moves = []

    def to(image, device):
        moves.append((image.output["pooler_output"][0].item(), device))
        return image

    monkeypatch.setattr(EncodedImage, "to", to)
    store, made = FeatureStore(8 * 400, "gpu"), []

    def encode():
        made.append(len(made))
        return EncodedImage(dict, {"pooler_output": torch.full((100,), float(made[-1]))}, {}, frozenset())

    for key in "aba":
        store.recall(key, encode)
    assert [move for move in moves if move[1] == "cpu"] == [(0, "cpu"), (1, "cpu")]
    assert moves[-2:] == [(0, "gpu"), (1, "cpu")]
    assert len(made) == 2


def test_selections_are_kept_for_as_soon_as_they_are_expected():
    """An image without them is encoded again, once."""
    store, made = FeatureStore(PLENTY, "cpu"), []

    def encode():
        made.append(store.needs)
        return replace(image_of(1).image, needs=store.needs)

    store.recall("a", encode)
    vision = VisionStage(0.5, selection="visionzip")
    store.expect([Schedule(), Schedule(vision=vision), Schedule(vision=replace(vision, keep_ratio=0.2))])
    for _ in range(2):
        store.recall("a", encode)
    assert made == [frozenset(), frozenset({Need.ATTENTION, Need.KEYS})]
    assert (store.encoded, store.reused) == (2, 1)


def test_trials_share_images(pocket, items, tmp_path, tower_runs):
    """As those of a search do: the second one's tower does not run."""
    store = FeatureStore(PLENTY, "cpu")
    with RecordFile(tmp_path / "records.jsonl") as file:
        for choice in (DENSE, PRUNE):
            hold_trial(
                pocket,
                [Arm("an arm", choice)],
                items,
                file,
                max_new_tokens=2,
                batch_size=4,
                done=lambda: None,
                store=store,
            )
    assert tower_runs == [1, 1]


def test_measuring_passes_run_the_tower(pocket, items, tower_runs):
    """Those of ask and profile know no store, whatever runs beside them."""
    (prompt, *_) = [entry.prompts[0].prompt for entry in prepared(pocket, items[:1])]
    job = passes.make_job(pocket, prompt, Schedule(), 2)
    assert job.features is None
    for _ in range(2):
        passes.forced_pass(job, 2)
    assert tower_runs == [1, 1]


def prepared(pocket, items):
    """The items, made ready."""
    return list(prepared_items(make_request(pocket, [DENSE], 2, 1), items, lambda _: False, Waiting()))


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1024", 1024), ("3B", 3), ("512MiB", 512 << 20), ("1.5 GiB", 3 << 29)]
)
def test_a_size_is_read_with_its_unit(text, size):
    """A number alone is bytes."""
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1MB", "1e9", "½GiB"])
def test_what_is_no_size_is_refused(text):
    """In one sentence that shows one."""
    with pytest.raises(UsageError, match=r"--feature-cache '.*' is no size: .*512MiB"):
        read_size(text)


def test_a_cache_is_there_unless_it_is_turned_off(run, warm, tmp_path):
    """Half a gibibyte by default; the summary says that encodings were measured once an image."""
    assert RunOptions().feature_cache == 512 << 20
    manifest = [
        "batch",
        "--manifest",
        str(SAMPLES / "manifest.jsonl"),
        "--limit",
        "42",
        "--max-new-tokens",
        "1",
    ]
    said = [run(*manifest, *more) for more in ((), ("--feature-cache", "0"))]
    assert ["vision measured once an image" in one.stderr for one in said] == [True, False]
