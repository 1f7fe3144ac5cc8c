"""The shape of the project: what lies at the top, how large a piece may get, and what no file may do."""

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from routing.families import FAMILIES, REFUSED
from routing.families.decoders import SHAPES
from routing.families.encoders import ENCODERS
from routing.methods import OWN

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
SHORTEST_FILE = 40
SHORT = {"__init__", "__main__", "entry", "errors"}  # what a file may be for, however little it holds
REGISTRIES = (  # an entry of one is a file, however short
    "routing/kinds/",
    "reroute_cli/commands/",
    "reroute_cli/studies/benchmarks/",
    "reroute_cli/views/write/",
    "routing/families/",
    "routing/methods/",
)
MOST_FILES = 22  # in a folder
LONGEST_FUNCTION = 60
LONG_FUNCTION = 35  # nine of ten are not longer
LONGEST_CHAIN = 20
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
    """A file has at most 450 lines."""
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


def test_most_functions_are_short() -> None:
    """Nine of ten functions have at most 35 lines, docstrings not counted."""
    lengths = sorted(_length(function) for tree in TREES.values() for function in _functions(tree))
    assert lengths[len(lengths) * 9 // 10] <= LONG_FUNCTION


def test_a_file_is_worth_opening() -> None:
    """A file has at least 40 lines, unless it is an entry of a registry or says by its name what it is."""
    lengths = {_relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {
        name: length
        for name, length in lengths.items()
        if length < SHORTEST_FILE and Path(name).stem not in SHORT and not name.startswith(REGISTRIES)
    } == {}


def test_no_folder_outgrows_a_glance() -> None:
    """A folder has at most 22 modules."""
    folders = Counter(path.parent for path in SOURCES)
    assert {_relative(folder): count for folder, count in folders.items() if count > MOST_FILES} == {}


def test_a_class_has_a_name_of_its_own() -> None:
    """No two files have a public class of the same name."""
    named: dict[str, list[str]] = {}
    for name, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                named.setdefault(node.name, []).append(name)
    assert {name: files for name, files in named.items() if len(files) > 1} == {}


def _imports() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports when it runs; a type checker may read more."""
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in TREES}
    found: dict[str, set[str]] = {}
    for module, name in modules.items():
        unseen = {
            id(inner)
            for node in ast.walk(TREES[name])
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        nodes = [node for node in ast.walk(TREES[name]) if id(node) not in unseen]
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module:
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= parts & modules.keys() or {node.module}
                names |= {node.module} if parts - modules.keys() else set()
        found[module] = (names & modules.keys()) - {module}
    return found


def test_no_chain_of_imports_is_too_long_to_follow() -> None:
    """From the entry to a module without imports it is at most 20 modules; and imports run in no circle."""
    imports, depth = _imports(), dict[str, int]()
    for module in TopologicalSorter(imports).static_order():  # raises CycleError where they do
        depth[module] = 1 + max((depth[other] for other in imports[module]), default=0)
    assert max(depth.values()) <= LONGEST_CHAIN, sorted(depth, key=lambda module: -depth[module])[:10]


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


def _strings(tree: ast.AST) -> set[str]:
    """Every string of a file that is no docstring."""
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, holders) and _says(node)}
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs)
    return {node.value for node in nodes if isinstance(node.value, str)}


def _says(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return ast.get_docstring(node) is not None


CONFIGS = {"routing/checks/configs.py", "routing/checks/subjects.py"}
"""Tiny models for the checks: their configs and hand-made inputs are those of one family each."""


def test_no_model_type_is_typed_outside_of_the_families() -> None:
    """A file that names a family, decoder or vision tower knows what belongs in routing/families.

    The records say as an example what a family is called, and the tiny models of the checks are families.
    """
    names = {*FAMILIES, *REFUSED, *SHAPES, *ENCODERS}
    found = {
        name: _strings(tree) & names
        for name, tree in TREES.items()
        if not name.startswith("routing/families/") and name not in CONFIGS
    }
    assert {name: words for name, words in found.items() if words} == {}


def test_no_method_is_typed_outside_of_the_methods() -> None:
    """A file that names a method knows something that belongs in routing/methods.

    "none" and "random" are left out: they are words of their own (no value; random weights). So is
    "downsample" in host.py, where it is a part of a vision tower.
    """
    names = re.compile(rf"\b({'|'.join(set(OWN) - {'none', 'random'})})\b")
    found = {
        name: {text for text in _strings(tree) if names.search(text)}
        for name, tree in TREES.items()
        if not name.startswith("routing/methods/")
    }
    assert {name: words for name, words in found.items() if words} == {"routing/host.py": {"downsample"}}
