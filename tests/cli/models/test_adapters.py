"""`-m FOLDER` of a PEFT adapter: base and adapter are merged and named; what is wrong is one sentence."""

import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest

from reroute_cli.console.options import ModelOptions
from reroute_cli.data.images import open_image
from reroute_cli.models.load import load, quiet_libraries
from reroute_cli.models.pocket import WEIGHTS
from reroute_cli.run.answer import answer
from reroute_cli.run.schedules import ScheduleChoice
from tests.cli import older

DESK = Path(__file__).resolve().parents[3] / "samples" / "desk.png"

peft = pytest.importorskip("peft", reason="!!! ADAPTERS WERE NOT TRIED: pip install 'reroute[peft]'")
torch = pytest.importorskip("torch")
QUESTION = "where is the cup?"
LORA = {
    "r": 4,
    "target_modules": r".*language_model.*\.(q_proj|k_proj|down_proj)",
    "init_lora_weights": False,
}


def save_adapter(folder, base=str(WEIGHTS), **config):
    """A seeded LoRA of the embedded model in a folder, and the model with it merged."""
    torch.manual_seed(0)
    with quiet_libraries():
        model = load(ModelOptions()).model
        adapted = peft.get_peft_model(model, peft.LoraConfig(**(LORA | config)))
        adapted.save_pretrained(folder)
        edit(folder, base_model_name_or_path=base)
        return adapted.merge_and_unload()


def edit(folder, **changes):
    """Change adapter_config.json."""
    older.edit(folder / "adapter_config.json", **changes)


def asked(model, method="pdrop"):
    """The record of one answer."""
    choice = ScheduleChoice(method, "reroute", 0.6)
    with quiet_libraries():
        loaded = load(ModelOptions(str(model)))
        return answer(loaded, [open_image(str(DESK))], QUESTION, choice, 16)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """The folder of an adapter of the embedded model."""
    folder = tmp_path_factory.mktemp("models") / "lora"
    save_adapter(folder)
    return folder


@pytest.fixture
def copied(adapter, tmp_path):
    """A copy of it, to spoil."""
    return shutil.copytree(adapter, tmp_path / "lora")


def test_an_adapter_answers_like_its_merged_model(adapter, tmp_path):
    """The same answer and the same costs as the folder that merge_and_unload() and save_pretrained() make."""
    merged = save_adapter(tmp_path / "again")
    shutil.copytree(WEIGHTS, tmp_path / "merged", ignore=shutil.ignore_patterns("*.safetensors"))
    merged.save_pretrained(tmp_path / "merged")
    found, expected = asked(adapter), asked(tmp_path / "merged")
    assert found.answer == expected.answer != asked("pocket").answer
    assert found.flops == expected.flops
    assert found.kv_cache == expected.kv_cache
    assert found.schedule == expected.schedule


@pytest.mark.parametrize(
    "more", [{"target_modules": ["embed_tokens", "q_proj"]}, {"modules_to_save": ["lm_head"]}], ids=str
)
def test_an_adapter_of_embeddings_or_of_whole_modules_answers(tmp_path, more):
    """Such a file holds weights of the base, too, which have their place."""
    expected = save_adapter(tmp_path, **more)
    with quiet_libraries():
        merged = load(ModelOptions(str(tmp_path))).model
    assert merged.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.allclose(one, expected.state_dict()[name]) for name, one in merged.state_dict().items())


def test_records_name_the_base_and_the_adapter(adapter, copied):
    """The id is the folder's name, base and digest stand beside it; another adapter has another key."""
    record = asked(adapter)
    assert record.model.id == adapter.name
    assert record.model.adapter.base == str(WEIGHTS)
    again = asked(copied)
    assert again.model.adapter.digest == record.model.adapter.digest
    edit(copied, lora_alpha=16)
    other = asked(copied)
    assert other.model.adapter.digest != record.model.adapter.digest
    assert other.key != again.key


def test_a_lora_of_llava_saved_by_4_44_answers(tmp_path, run):
    """A newcomer's two folders: an old base without processor and template, and an adapter of old names."""
    older.age(shutil.copytree(WEIGHTS, tmp_path / "llava-1.5"))
    modules = ["q_proj", "k_proj", "down_proj"]  # of the vision tower, too
    save_adapter(tmp_path / "lora", target_modules=modules)
    expected = asked(tmp_path / "lora").answer
    edit(tmp_path / "lora", base_model_name_or_path=str(tmp_path / "llava-1.5"))
    older.age_adapter(tmp_path / "lora", modules)
    result = run(
        *("ask", str(DESK), QUESTION, "-m", str(tmp_path / "lora"), "--method", "pdrop"),
        *("--action", "reroute", "--ratio", "0.6", "--max-new-tokens", "16"),
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{expected}\n"
    assert "the processor of" in result.stderr
    assert "asked with the chat template of" in result.stderr


def test_a_lora_that_names_modules_as_4_44_did_is_told_the_remedy(copied, run, fails):
    """A pattern of module names that are no more: what to write instead."""
    older.age_adapter(copied, target_modules=r".*language_model\.model\.layers.*\.(q_proj|k_proj|down_proj)")
    fails(run("ask", str(DESK), QUESTION, "-m", str(copied)), 4, "name its modules", "['q_proj', 'v_proj']")


def test_a_base_beside_the_adapter_is_found(copied):
    """A relative base is looked for in the working directory, then in the adapter's folder."""
    shutil.copytree(WEIGHTS, copied / "base")
    edit(copied, base_model_name_or_path="base")
    assert asked(copied).model.adapter.base == str(copied / "base")


def test_a_processor_saved_with_the_adapter_is_used(copied):
    """As trainers save it: its chat template is the one that asks."""
    for file in WEIGHTS.iterdir():
        if file.name not in ("config.json", "generation_config.json") and file.suffix != ".safetensors":
            shutil.copy(file, copied)
    template = "{# of the fine-tune #}" + (WEIGHTS / "chat_template.jinja").read_text()
    (copied / "chat_template.jinja").write_text(template)
    with quiet_libraries():
        assert load(ModelOptions(str(copied))).processor.chat_template == template


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"base_model_name_or_path": None}, "names no base_model_name_or_path"),
        ({"base_model_name_or_path": "/nowhere/at/all"}, "the base of the adapter .*no model folder"),
        (
            {"target_modules": r".*language_model\.model\.layers.*q_proj"},
            "of which the base model .* has none",
        ),
        ({"target_modules": ["of_another_kind"]}, "changes 'of_another_kind', of which the base model"),
        ({"target_modules": r".*language_model.*\.q_proj"}, "not all of them have a place"),
        (
            {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3},
            "PREFIX_TUNING, which puts tokens in front",
        ),
        ({"peft_type": "NONSENSE"}, "can't be loaded"),
        ({"r": "many"}, "can't be loaded"),
        ({"r": 8}, "does not fit .*size mismatch"),
    ],
)
def test_what_is_wrong_with_an_adapter_is_one_sentence(copied, changes, sentence):
    """Hostile, unfitting and foreign configs: never an answer of the base model alone."""
    edit(copied, **changes)
    with quiet_libraries(), pytest.raises(Exception, match=sentence) as caught:
        load(ModelOptions(str(copied)))
    assert "\n" not in str(caught.value)


def test_a_pickled_adapter_is_refused(copied):
    """adapter_model.bin alone is not opened."""
    (copied / "adapter_model.safetensors").rename(copied / "adapter_model.bin")
    with pytest.raises(Exception, match=r"holds no adapter_model\.safetensors"):
        load(ModelOptions(str(copied)))


def test_an_adapter_of_an_adapter_is_refused(adapter, copied):
    """One is merged at a time."""
    edit(copied, base_model_name_or_path=str(adapter))
    with pytest.raises(Exception, match="is an adapter, too: merge it into its base first"):
        load(ModelOptions(str(copied)))


@pytest.fixture
def hub(monkeypatch, copied):
    """A hub with one adapter, someone/lora, and one that names itself as its base, someone/loop."""

    def told(_hub, name, timeout):
        return SimpleNamespace(sha="1" * 40, siblings=[SimpleNamespace(rfilename="adapter_config.json")])

    def fetched(name, revision, allow_patterns):
        assert revision == "1" * 40
        assert not any(fnmatch("adapter_model.bin", pattern) for pattern in allow_patterns)
        if name.endswith("loop"):
            edit(copied, base_model_name_or_path=name)
        return str(copied)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", told)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)


def test_an_adapter_on_the_hub_answers(hub, adapter):
    """Its files are fetched, without pickles, and merged like those of a folder."""
    found = asked("someone/lora")
    assert found.answer == asked(adapter).answer
    assert found.model.id == "someone/lora"
    assert found.model.adapter.base == str(WEIGHTS)


def test_an_adapter_on_the_hub_that_is_its_own_base_ends(hub):
    """One sentence, not an endless search."""
    with pytest.raises(Exception, match="is an adapter, too: merge it into its base first"):
        load(ModelOptions("someone/loop"))


def test_without_peft_the_extra_is_named(adapter, monkeypatch):
    """One sentence with the command."""
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with quiet_libraries(), pytest.raises(Exception, match=r"pip install 'reroute\[peft\]'"):
        load(ModelOptions(str(adapter)))
