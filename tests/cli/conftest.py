"""The command line under test: plain text, no network, one embedded model for the whole session."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.update(
    {"_TYPER_FORCE_DISABLE_TERMINAL": "1", "NO_COLOR": "1", "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}
)
for _name in ("REROUTE_MODEL", "REROUTE_DEVICE", "REROUTE_DEBUG", "REROUTE_CHECK", "FORCE_COLOR"):
    os.environ.pop(_name, None)

from PIL import Image, ImageDraw
from typer.testing import CliRunner, Result

from reroute_cli.app import app
from reroute_cli.console.options import ModelOptions
from reroute_cli.models import load as models
from reroute_cli.models.load import (
    Loaded,
)
from tests.forks import Forks

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Run `reroute` with these arguments in this process."""

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return invoke


@pytest.fixture(scope="session")
def pocket() -> Loaded:
    """The embedded model, loaded once."""
    return models.load(ModelOptions(device="cpu"))


@pytest.fixture
def warm(pocket: Loaded, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """`ask` with the embedded model uses the one that is loaded already."""
    load = models.load

    def cached(options: ModelOptions) -> Loaded:
        return pocket if options == ModelOptions() else load(options)

    monkeypatch.setattr(models, "load", cached)
    return pocket


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Starts processes of `reroute` that skip the imports."""
    made = Forks()
    yield made
    made.close()


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """Processes started here heed Ctrl-C, though a shell turns it off for what it runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def draw_picture(size: tuple[int, int] = (224, 224)) -> Image.Image:
    """A picture with no symmetry, so that every turn and crop shows."""
    picture = Image.new("RGB", size, (90, 120, 150))
    draw = ImageDraw.Draw(picture)
    width, height = size
    draw.ellipse((width // 10, height // 8, width // 3, height // 3), fill=(220, 40, 40))
    draw.rectangle((width // 2, height // 2, width * 9 // 10, height * 8 // 10), fill=(30, 200, 60))
    draw.line((width * 3 // 4, 0, width - 1, height // 3), fill=(250, 230, 20), width=3)
    return picture


@pytest.fixture
def picture(tmp_path: Path) -> str:
    """Path of an ordinary picture."""
    path = tmp_path / "picture.png"
    draw_picture().save(path)
    return str(path)


def assert_fails(result: Result, code: int, *words: str) -> None:
    """Nothing on stdout, one sentence on stderr that holds these words, this exit code, no traceback."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


@pytest.fixture
def fails() -> Callable[..., None]:
    """The check that a command ended in one sentence."""
    return assert_fails


@pytest.fixture
def drawn() -> Callable[..., Image.Image]:
    """A function that draws the test picture at a size."""
    return draw_picture


def nulls_without_reason(value: Any, path: str = "") -> list[str]:
    """Dotted names of every null in a record that its own section does not explain.

    A null `adapter` is none: it says that the model is not one. So is `resized`, of images as they were.
    """
    if not isinstance(value, dict):
        return []
    reasons = {"adapter": "none", "resized": "none", **value.get("reasons", {})}
    found = [f"{path}{name}" for name, part in value.items() if part is None and not reasons.get(name)]
    for name, part in value.items():
        found += nulls_without_reason(part, f"{path}{name}.")
    return found


@pytest.fixture
def unexplained() -> Callable[[Any], list[str]]:
    """The search for nulls without a reason."""
    return nulls_without_reason


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny Qwen2.5-VL: config, processor and tokenizer, no weights."""
    from tokenizers import AddedToken, Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2VLImageProcessorPil

    folder = tmp_path_factory.mktemp("tiny-qwen")
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|image_pad|>", "<|video_pad|>"]
    words = [*special, "<unk>", "user", "assistant", "where", "is", "the", "cup", "?"]
    inner = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<unk>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }} {% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
        "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=224 * 224).save_pretrained(folder)
    (folder / "processor_config.json").write_text('{"processor_class": "Qwen2_5_VLProcessor"}')
    Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 8,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 32,
            "max_position_embeddings": 2048,
            "bos_token_id": None,
            "eos_token_id": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
            "window_size": 56,
        },
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def record(run: Run) -> Callable[..., dict[str, Any]]:
    """Run `ask --json` and give the record back; NaN and infinity in it fail."""

    def refuse(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    def asked(*arguments: str) -> dict[str, Any]:
        result = run("ask", *arguments, "--json")
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout, parse_constant=refuse)
        return found

    return asked
