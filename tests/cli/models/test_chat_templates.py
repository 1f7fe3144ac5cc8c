"""Which chat template a model is asked with: its own, the one that is given, its family's, or an error."""

import json
import shutil
from types import SimpleNamespace

import pytest

import profiles
from profiles.models import model_names
from reroute_cli.console.options import ModelOptions
from reroute_cli.data.prompts import render_template
from reroute_cli.integrations.lmms_eval.arguments import read_arguments
from reroute_cli.integrations.ray.config import make_config
from reroute_cli.models import load as models
from reroute_cli.models.chat_templates import choose_template
from reroute_cli.models.dummy import build_config, build_processor
from reroute_cli.models.load import without_weights
from reroute_cli.models.pocket import WEIGHTS
from reroute_cli.run.answer import settings_of
from reroute_cli.run.prepare import make_request
from reroute_cli.run.schedules import ScheduleChoice
from routing.checks.configs import TEMPLATES
from routing.families import FAMILIES
from routing.families.family import Missing
from tests.cli.models.test_older_folders import config_of

QUESTION = "where is the cup?"
ODD = (
    "{% for m in messages %}{% for c in m.content %}"
    "{{ '<image>' if c.type == 'image' else c.text }}{% endfor %}{% endfor %}!"
)
TEXT_ONLY = "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}"
DROPS = "{% for m in messages %}{{ m.role }}: {% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}"


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded LLaVA without a chat template."""
    shutil.copytree(WEIGHTS, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    return tmp_path / "model"


def loading(folder, **options):
    """Load the processor, and random weights, from a folder on the CPU."""
    return models.load(ModelOptions(str(folder), device="cpu", load_format="dummy", **options))


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in model_names()
        if (entry := profiles.model(name)).config["model_type"] in FAMILIES and entry.processor
    ],
)
def test_a_familys_template_is_that_of_its_checkpoints(name, images):
    """For every well-known model whose processor is known: the prompt that its own template makes."""
    entry = profiles.model(name)
    config = build_config(entry.config)
    processor = build_processor(entry.processor, config.get_text_config().vocab_size)
    published = render_template(processor, QUESTION, images)
    processor.chat_template = None
    assert choose_template(name, processor, config, None).identity.startswith("family ")
    assert render_template(processor, QUESTION, images) == published


VICUNA = f"USER: <image>\n{QUESTION} ASSISTANT:"
CHATML = f"<|im_start|>user\n<image>\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
HEADERS = "<|start_header_id|>{}<|end_header_id|>\n\n"
LLAMA_3 = f"{HEADERS.format('user')}<image>\n{QUESTION}<|eot_id|>{HEADERS.format('assistant')}"
# family, decoder of the config, tokens beside the image token, prompt as the checkpoints' pages print it
PUBLISHED = [
    ("llava", "llama", (), VICUNA),
    ("llava", "mistral", (), VICUNA),
    ("llava", "qwen2", ("<|im_start|>", "<|im_end|>"), CHATML),
    ("llava", "llama", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), LLAMA_3),
    (
        "vipllava",
        "llama",
        (),
        "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the human's questions."
        f"###Human: <image>\n{QUESTION}###Assistant:",
    ),
    ("llava_next", "llama", (), VICUNA),
    ("llava_next", "mistral", (), f"[INST] <image>\n{QUESTION} [/INST]"),
    ("llava_next", "qwen2", ("<|im_start|>", "<|im_end|>"), CHATML),
    ("llava_next", "llama", ("<|im_start|>", "<|im_end|>"), CHATML),
    ("llava_next", "llama", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), LLAMA_3),
    ("llava_onevision", "qwen2", ("<|im_start|>", "<|im_end|>"), CHATML),
    (
        "idefics3",
        "llama",
        ("<|begin_of_text|>", "<end_of_utterance>"),
        f"<|begin_of_text|>User:<image>{QUESTION}<end_of_utterance>\nAssistant:",
    ),
    (
        "glm4v",
        "glm4v_text",
        ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|begin_of_image|>", "<|end_of_image|>"),
        f"[gMASK]<sop><|user|>\n<|begin_of_image|><|image|><|end_of_image|>{QUESTION}<|assistant|>\n",
    ),
    ("mistral3", "mistral", ("[INST]", "[/INST]", "[IMG]"), f"[INST][IMG]{QUESTION}[/INST]"),
]
MARKS = {"glm4v": "<|image|>", "mistral3": "[IMG]"}


def stand_in(pocket, family, tokens):
    """The embedded model's processor with the vocabulary and the image token of another family's."""
    mark = MARKS.get(family, "<image>")

    def render(messages, **options):
        return pocket.processor.tokenizer.apply_chat_template(
            messages, chat_template=made.chat_template, **options
        )

    tokenizer = SimpleNamespace(chat_template=None, get_vocab=lambda: dict.fromkeys([mark, *tokens], 0))
    made = SimpleNamespace(
        chat_template=None, tokenizer=tokenizer, image_token=mark, apply_chat_template=render
    )
    return made


@pytest.mark.parametrize(("family", "decoder", "tokens", "prompt"), PUBLISHED)
def test_families_without_a_well_known_model_are_asked_as_published(pocket, family, decoder, tokens, prompt):
    """By decoder and by what the tokenizer has."""
    processor, config = stand_in(pocket, family, tokens), config_of(family)
    config.get_text_config().model_type = decoder
    assert choose_template("x", processor, config, None).identity.startswith("family ")
    assert render_template(processor, QUESTION, 1) == prompt


def test_only_paligemma_is_asked_bare(pocket):
    """It has no template, by design, and nothing is said; every other family has one."""
    assert {name for name in TEMPLATES if isinstance(FAMILIES[name].chat_templates, Missing)} == {"paligemma"}
    processor = stand_in(pocket, "paligemma", ())
    chosen = choose_template("x", processor, config_of("paligemma"), None)
    assert (chosen.identity, chosen.remark, processor.chat_template) == ("model", None, None)


def test_an_answer_without_a_template_is_the_one_with_it(folder, picture, run):
    """The question no longer goes in bare: it did, and the answer was an empty line."""
    result = run("ask", picture, QUESTION, "-m", str(folder))
    assert result.stdout == run("ask", picture, QUESTION, "-q").stdout
    assert "as it has none of its own" in result.stderr


def test_where_no_template_is_known_one_is_asked_for(folder, picture, run, fails):
    """A decoder that no published LLaVA of the family has."""
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"model_type": "qwen2"}
    (folder / "config.json").write_text(json.dumps(config))
    result = run("ask", picture, QUESTION, "-m", str(folder), "--load-format", "dummy")
    fails(result, 4, "has no chat template", "--chat-template FILE")


@pytest.mark.parametrize("template", [TEXT_ONLY, DROPS, "{{ nothing.of.this }}", "{% for %}"])
@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_template_that_loses_the_image_is_not_used(folder, template, place):
    """The family's is, and why is said, wherever the text-only one was saved."""
    if place == "chat_template.jinja":
        (folder / place).write_text(template)
    else:
        words = json.loads((folder / place).read_text()) | {"chat_template": template}
        (folder / place).write_text(json.dumps(words))
    loaded = loading(folder)
    assert render_template(loaded.processor, QUESTION, 1) == VICUNA
    assert loaded.chat_template.startswith("family ")
    assert "as its own" in loaded.remarks[0]


def test_a_template_that_only_the_tokenizer_has_is_used_if_it_puts_in_images(folder):
    """As Qwen2-VL's was saved at first: it is the model's own, and nothing is said."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": ODD}))
    loaded = loading(folder)
    assert render_template(loaded.processor, QUESTION, 1) == f"<image>{QUESTION}!"
    assert (loaded.chat_template, loaded.remarks) == ("model", ())


def test_a_legacy_json_template_is_the_models_own(folder):
    """chat_template.json, as releases from 4.43 to 4.50 saved it."""
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": ODD}))
    loaded = loading(folder)
    assert render_template(loaded.processor, QUESTION, 1) == f"<image>{QUESTION}!"
    assert loaded.chat_template == "model"


def test_a_given_template_takes_the_place_of_the_models_own(tmp_path, pocket):
    """The prompt is what transformers makes of that template; its digest is in the key."""
    given = models.load(ModelOptions(device="cpu", chat_template=ODD))
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    expected = pocket.processor.apply_chat_template(
        [{"role": "user", "content": content}], chat_template=ODD, add_generation_prompt=True, tokenize=False
    )
    assert render_template(given.processor, QUESTION, 1) == expected
    settings = [settings_of(one, ScheduleChoice(), 4)["model"] for one in (given, pocket)]
    assert settings[0] == settings[1] | {"chat_template": given.chat_template}
    assert given.chat_template.startswith("file ")


@pytest.mark.parametrize("arguments", [("ask",), ("batch", "-Q", QUESTION)], ids=str)
def test_the_option_reaches_the_record(tmp_path, picture, run, arguments):
    """A record says that the template was a file's, and which."""
    (tmp_path / "odd.jinja").write_text(ODD)
    options = ["--chat-template", str(tmp_path / "odd.jinja"), "--max-new-tokens", "1"]
    words = (
        ["ask", picture, QUESTION, "--json", *options]
        if arguments[0] == "ask"
        else ["batch", str(tmp_path), *arguments[1:], *options]
    )
    result = run(*words)
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    assert made["model"]["chat_template"] == models.load(ModelOptions(chat_template=ODD)).chat_template


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read"),
        (b"\xff\xfe{{ messages }}", "not UTF-8"),
        (b" \n", "is empty"),
        (b"x" * (1 << 19), "bytes"),
        (TEXT_ONLY.encode(), "fails"),
        (DROPS.encode(), "puts in 0 '<image>'"),
        (b"<image>", "leaves out the question"),
        (ODD.encode() * 2, "puts in 2 '<image>'"),
        (b"{% for %}", "fails"),
        (b"{{ ''.__class__.__mro__ }}<image>", "fails"),
    ],
    ids=range(10),
)
def test_what_is_no_chat_template_is_one_sentence(tmp_path, picture, run, fails, content, words):
    """Missing, binary, empty, enormous, text-only and hostile files: exit 2, and what is wrong with them."""
    path = tmp_path / "given.jinja"
    if content is not None:
        path.write_bytes(content)
    result = run("ask", picture, QUESTION, "--chat-template", str(path))
    fails(result, 2, "chat", "template", words)


def test_a_folder_is_no_chat_template(tmp_path, picture, run, fails):
    """Nor is a device that never ends."""
    for path in (str(tmp_path), "/dev/zero"):
        fails(run("ask", picture, QUESTION, "--chat-template", path), 2, "not an ordinary file")


@pytest.mark.parametrize("given", [None, ODD])
def test_a_driver_makes_the_keys_of_its_workers(folder, given):
    """What a cluster's driver knows without weights is what loading finds."""
    options = ModelOptions(str(folder), "cpu", load_format="dummy", chat_template=given)
    made = [
        settings_of(one, ScheduleChoice(), 4)
        for one in (without_weights(options, "cpu"), models.load(options))
    ]
    assert made[0] == made[1]
    assert made[0]["model"]["chat_template"] != "model"


def test_a_worker_gets_the_template_and_not_its_file():
    """The order holds the text, so that no node needs the driver's file."""
    options = ModelOptions(device="cpu", chat_template=ODD)
    order = make_config(options, make_request(without_weights(options, "cpu"), [ScheduleChoice()], 4, 1), 1)
    assert ModelOptions(**order["loading"]) == options


def test_lmms_eval_takes_a_template(tmp_path):
    """As `chat_template=FILE` among the model's arguments."""
    (tmp_path / "odd.jinja").write_text(ODD)
    assert read_arguments({"chat_template": str(tmp_path / "odd.jinja")}).load == ModelOptions(
        chat_template=ODD
    )
