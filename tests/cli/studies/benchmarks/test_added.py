"""A benchmark is one file and one line, or an entry point of a package: it is listed, named and asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reroute_cli.console.errors import UsageError
from reroute_cli.studies.benchmarks import BENCHMARKS, GROUP, load_benchmark, names

ROOT = Path(__file__).resolve().parents[4]
TOY = '''
"""The held-out scenes under another name."""

from dataclasses import replace

from reroute_cli.studies.benchmarks.scenes import BENCHMARK as SCENES

BENCHMARK = replace(SCENES, name="{name}", title="toy scenes")
'''


def _copy_with(tree: Path, name: str) -> None:
    """The packages below `tree` as links, but for one new file and one new line in the list of benchmarks."""
    for part in ("routing", "profiles", "samples"):
        (tree / part).symlink_to(ROOT / part)
    place, source = tree / "reroute_cli", ROOT / "reroute_cli"
    for step in ("studies", "benchmarks", None):
        place.mkdir()
        for entry in source.iterdir():
            if entry.name not in (step, "__pycache__"):
                (place / entry.name).symlink_to(entry)
        place, source = place / (step or ""), source / (step or "")
    listing = place / "__init__.py"
    text, line = listing.read_text(), f'    "{name}": "{name}:BENCHMARK",\n'
    listing.unlink()
    listing.write_text(text.replace('    "pope"', f'{line}    "pope"', 1))
    (place / f"{name}.py").write_text(TOY.format(name=name))


def test_a_benchmark_is_one_file_and_one_line(tmp_path):
    """A toy one added so is in the help, in the list, and can be asked."""
    _copy_with(tmp_path, "toy")

    def reroute(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "reroute_cli", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "refcocog, toy, pope" in reroute("eval", "--help")
    assert "toy scenes" in reroute("eval", "--list")
    asked = json.loads(reroute("eval", "--bench", "toy", "--limit", "1", "--max-new-tokens", "1", "--json"))
    assert asked["workload"]["questions"]["benchmark"] == "toy"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs a package of this name into a folder of the path, with entry points and a module each."""

    def install(name: str, modules: dict[str, str], points: dict[str, str]) -> None:
        for module, text in modules.items():
            (tmp_path / f"{module}.py").write_text(text)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"[{GROUP}]", *(f"{point} = {value}" for point, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for module in modules:
            monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.syspath_prepend(str(tmp_path))

    return install


@pytest.mark.usefixtures("warm")
def test_an_installed_package_brings_a_benchmark(run, package):
    """It is named without being imported, listed behind our own, and asked by its name."""
    package("toy-benchmarks", {"toy_scenes": TOY.format(name="toys")}, {"toys": "toy_scenes:BENCHMARK"})
    assert names() == [*BENCHMARKS, "toys"]
    assert "toy_scenes" not in sys.modules
    assert "toy scenes" in run("eval", "--list").stdout
    options = ("--limit", "1", "--max-new-tokens", "1", "--json")
    result = run("eval", "--bench", "toys", *options)
    assert json.loads(result.stdout)["workload"]["questions"]["title"] == "toy scenes"


BROKEN = {
    "an import that fails": ("import no_such_module", "No module named 'no_such_module'"),
    "a module that leaves": ("raise SystemExit('bye')", "bye"),
    "nothing under the name": ("", "has no attribute 'BENCHMARK'"),
    "another thing": ("BENCHMARK = 3", "is no Benchmark"),
    "another name": (TOY.format(name="others"), "is called 'others'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_one_is_one_sentence(run, package, case):
    """The list goes on without it and says why on stderr; asked by name it is a known failure."""
    text, why = BROKEN[case]
    package("broken-benchmarks", {"broken_scenes": text}, {"broken": "broken_scenes:BENCHMARK"})
    listed, asked = run("eval", "--list"), run("eval", "--bench", "broken")
    assert (listed.exit_code, asked.exit_code) == (0, 4)
    assert "scenes" in listed.stdout
    for stderr in (listed.stderr, asked.stderr.removeprefix("error: ")):
        assert stderr.count("\n") == 1
        assert stderr.startswith("the benchmark 'broken' of broken-benchmarks")
        assert why in stderr


def test_a_package_can_t_replace_our_own(package):
    """An entry point with the name of a benchmark that is here changes nothing."""
    package("false-pope", {"false_pope": "raise SystemExit"}, {"pope": "false_pope:BENCHMARK"})
    assert names() == list(BENCHMARKS)
    assert load_benchmark("pope").title == "POPE"


def test_an_unknown_name_is_told_every_name(package):
    """Those of installed packages among them, and none of them is imported for it."""
    package("toy-benchmarks", {"toy_scenes": "raise SystemExit"}, {"toys": "toy_scenes:BENCHMARK"})
    with pytest.raises(UsageError, match=r"no benchmark 'nobody'.*mmbench, toys, or give --manifest"):
        load_benchmark("nobody")
