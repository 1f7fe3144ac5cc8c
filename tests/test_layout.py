"""The shape of the project: what lies at the top, how large a piece may get, and what no file may do."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("reroute_cli", "routing", "profiles")
TOP = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "profiles",
    "pyproject.toml",
    "reroute_cli",
    "routing",
    "samples",
    "tests",
}
LONGEST_FILE = 450
LONGEST_FUNCTION = 60
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
HOOK = re.compile(r"\.register_\w*hook$")
HOOKING = {"routing/hooks.py"}
LISTENING = {
    "reroute_cli/measure/clock.py",
    "reroute_cli/measure/flops.py",
    "routing/checks/reference.py",
}


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


TREES = {_relative(path): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body without its docstring."""
    first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
    return (function.end_lineno or 0) - first.lineno + 1


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def _called(tree: ast.AST) -> set[str]:
    """Dotted names of everything that is called, as written: `torch.load`, `yaml.load`, `x.register_hook`."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def _keywords(tree: ast.AST) -> set[str]:
    return {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg}


def test_the_top_of_the_repository_is_what_was_agreed() -> None:
    """Nothing lies at the top level but the agreed files, the five folders and dotfiles."""
    if not (ROOT / ".git").exists():
        pytest.skip(
            "not a git checkout: build folders and environments can't be told from the project's files"
        )
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    tops = {name.split("/")[0] for name in listed if name}
    assert {name for name in tops if not name.startswith(".")} == TOP


def test_there_are_sources_to_look_at() -> None:
    """The checks below look at real files of all three packages."""
    assert {_relative(path).split("/")[0] for path in SOURCES} == set(PACKAGES)


def test_no_file_outgrows_a_reader() -> None:
    """A file has at most 300 lines."""
    lengths = {_relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_every_file_says_what_it_is_for() -> None:
    """A file starts with a docstring."""
    assert [name for name, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_no_function_outgrows_a_screen() -> None:
    """A function has at most 60 lines, its docstring not counted."""
    lengths = {
        f"{name}:{function.name}": _length(function)
        for name, tree in TREES.items()
        for function in _functions(tree)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def test_nobody_imports_click_or_unpickles() -> None:
    """No pickle in any form, and Typer's own Click instead of another copy."""
    banned = {"click", "pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
    imported = {name: {module.split(".")[0] for module in _imported(tree)} for name, tree in TREES.items()}
    assert {name: modules & banned for name, modules in imported.items() if modules & banned} == {}


def _bases(tree: ast.AST) -> dict[str, set[str]]:
    """Name of each class of a file -> its bases as written."""
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return {node.name: {ast.unparse(base) for base in node.bases} for node in classes}


def test_nothing_runs_foreign_code() -> None:
    """No trust_remote_code, no torch.load, no eval."""
    banned = {"torch.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec"}
    found = {
        name: _called(tree) & banned | _keywords(tree) & {"trust_remote_code"} for name, tree in TREES.items()
    }
    assert {name: what for name, what in found.items() if what} == {}


def test_yaml_is_loaded_safely_and_in_profiles() -> None:
    """yaml.load is called in profiles only, and with a loader derived from yaml.SafeLoader."""
    for name, tree in TREES.items():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        loads = [call for call in calls if ast.unparse(call.func) == "yaml.load"]
        assert not loads or name.startswith("profiles/"), name
        for call in loads:
            loaders = [ast.unparse(word.value) for word in call.keywords if word.arg == "Loader"]
            assert [_bases(tree)[loader] for loader in loaders] == [{"yaml.SafeLoader"}], name


def test_hooks_are_registered_in_one_place() -> None:
    """Only the engine and its vision stage register hooks on a model, and those who only listen."""
    hooking = {name for name, tree in TREES.items() if any(HOOK.search(called) for called in _called(tree))}
    assert hooking == HOOKING | LISTENING


def test_no_drawer_for_everything() -> None:
    """No utils.py and no manager classes: a thing is named after what it does."""
    assert [name for name in TREES if Path(name).stem in {"util", "utils", "helpers", "common", "misc"}] == []
    classes = {
        node.name for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    }
    assert [name for name in sorted(classes) if name.endswith(("Manager", "Helper", "Util", "Utils"))] == []
