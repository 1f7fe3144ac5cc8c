"""A benchmark read over the hub's own protocol, from a server that notes every byte it hands out."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.studies.benchmarks import hub_tables as hub
from tests.cli.studies.benchmarks.fake_hub import COMMIT, NAME, FakeHub, serving

pytest.importorskip("datasets", reason="the extra eval")

ROWS = 40
SCRIPT = f"""
import hashlib, json, urllib.request
from reroute_cli.studies.benchmarks import load_benchmark
from reroute_cli.studies.benchmarks.benchmark import Wanted
questions = load_benchmark("pope").load(Wanted("test", "llava", {ROWS // 2 + 1}, "{NAME}"))
try:
    urllib.request.urlopen("ADDRESS/mark")
except OSError:
    pass
digests = [hashlib.sha256(item.images[0].data or b"").hexdigest() for item in questions.items]
print(json.dumps([questions.count, questions.source, digests]))
"""


def _noise(seed: int) -> bytes:
    """A picture that does not get smaller when it is packed: 270 kB."""
    pixels = np.random.default_rng(seed).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_a_benchmark_is_streamed_from_the_hub(tmp_path: Path):
    """Choosing questions reads no picture; then the pictures come, at the commit that was found first."""
    import hashlib

    pictures = [_noise(number) for number in range(ROWS)]
    rows = [
        {
            "question_id": str(number),
            "question": "Is there a cat?",
            "answer": "no",
            "image_source": str(number),
            "image": {"bytes": data, "path": None},
            "category": "random",
        }
        for number, data in enumerate(pictures)
    ]
    server = FakeHub(hub.write_dataset(tmp_path / "set", hub.POPE, {"test": rows}))
    with serving(server) as address:
        printed = _run(SCRIPT.replace("ADDRESS", address), address, tmp_path)
    count, source, digests = json.loads(printed)
    taken = [place * ROWS // count for place in range(count)]
    assert count == ROWS // 2 + 1
    assert source == {"dataset": NAME, "split": "test", "revision": COMMIT}
    assert digests == [hashlib.sha256(pictures[place]).hexdigest() for place in taken]
    _check_what_was_read(server, sum(map(len, pictures)))


def _run(script: str, address: str, folder: Path) -> str:
    """What the script prints, in a process that takes this address for the hub's."""
    without = {"HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HTTP_PROXY", "http_proxy", "HF_TOKEN"}
    environment = {name: value for name, value in os.environ.items() if name not in without}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(folder / "home"), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _check_what_was_read(server: FakeHub, pictures: int) -> None:
    mark = [path for path, _ in server.asked].index("/mark")
    before, after = (sum(size for _, size in part) for part in (server.asked[:mark], server.asked[mark:]))
    assert before < 0.6 * pictures  # fsspec reads ahead in blocks of 5 MiB
    assert after > 0.9 * pictures
    data = {path for path, size in server.asked if path.endswith(".parquet") and size}
    assert data == {f"/datasets/{NAME}/resolve/{COMMIT}/data/test-00000-of-00001.parquet"}
