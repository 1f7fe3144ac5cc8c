"""lmms-eval under test: the tasks of `task/` over sample scenes, offline, in this process."""

import json
import os

import pytest

from tests.cli.integrations.lmms_eval.rows import BOXES, BROKEN, CHATS, HERE, ONE, SAMPLES, WORDS, row

os.environ["HF_DATASETS_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def tasks(tmp_path_factory):
    """The folder of the tasks, their data beside them, as `--include_path` takes it."""
    import datasets

    folder = tmp_path_factory.mktemp("tasks")
    rows = {
        "words": [row(line) for line in WORDS],
        "boxes": [row(line) for line in BOXES],
        "chats": [row(ONE, parts) for parts in CHATS],
        "videos": [row(ONE, ["VIDEO", "what happens?"])],
        "broken": [row(ONE, parts) for parts in BROKEN],
    }
    for name, made in rows.items():
        table = datasets.Dataset.from_list(made).cast_column("image", datasets.Image())
        table.to_parquet(folder / f"{name}.parquet")
    for file in (HERE / "task").iterdir():
        if file.is_file():
            text = file.read_text(encoding="utf-8").replace("DATA", str(folder))
            (folder / file.name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def unpatched():
    """What lmms-eval changes in other packages for a whole process is as before afterwards."""
    from filelock import _api
    from lmms_eval import evaluator

    before = _api.FileLockMeta.__call__
    yield
    _api.FileLockMeta.__call__ = before
    evaluator._enable_reentrant_filelocks._patched = False


@pytest.fixture
def manifest(tmp_path):
    """A function that writes lines of the sample manifest as a manifest of their own."""

    def write(lines):
        path = tmp_path / "manifest.jsonl"
        made = [line | {"image": str(SAMPLES / line["image"])} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in made), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def evaluate(tasks, warm, unpatched, monkeypatch, tmp_path):
    """Run tasks under lmms-eval with the model `reroute` and these model arguments."""
    import datasets
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")

    def evaluated(names, model_args="", **options):
        known = TaskManager("ERROR", include_path=str(tasks), include_defaults=False, model_name="reroute")
        return simple_evaluate(
            "reroute", model_args, tasks=names, task_manager=known, bootstrap_iters=0, **options
        )

    return evaluated
