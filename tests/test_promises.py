"""A method or a family is one file and one line, a metric two lines; a package may bring a method."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from routing.methods import OWN

ROOT = Path(__file__).resolve().parent.parent
METHOD = '''"""Toy: the two last tokens' loudest head ranks, once."""

from routing.methods import fastv
from routing.methods.method import Method, Scorer, Shape
from routing.schedule import Action, Schedule


def loudest(attention):
    return attention.amax(dim=(1, 2))


def _solve(request):
    return Schedule(fastv.uniform_stages(request), action=request.action, scorer="loudest")


METHOD = Method(
    name="toy",
    title="Toy",
    paper="https://example.org/toy",
    year=2031,
    summary="the loudest head of two tokens ranks",
    scored="language",
    published={Action.PRUNE: (3,), Action.REROUTE: (3, 7, 15, 23)},
    solver=_solve,
    options={"cuts": "cut layers"},
    scorers={"loudest": Scorer(rows=2, reduce=loudest)},
    shape=Shape("a loud one"),
)
'''
FAMILY = '''"""A family that is as LLaVA but for its name."""

from dataclasses import replace

from routing.families import llava

FAMILY = replace(llava.FAMILY, model_types=("vipllava",), title="Newcomer")
'''


def run(folder: Path, *arguments: str, path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS` in a folder, where the packages of that folder are found first."""
    places = os.pathsep.join(map(str, (folder, *path)))
    environment = {
        **os.environ,
        "PYTHONPATH": places,
        "NO_COLOR": "1",
        "COLUMNS": "200",
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )


def reroute(folder: Path, *arguments: str, path: tuple[Path, ...] = ()) -> str:
    """What `reroute ARGUMENTS` writes to standard output."""
    done = run(folder, "-m", "reroute_cli", *arguments, path=path)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages, with a method and a family added: two files, two lines."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("reroute_cli", "routing", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "reports"))
    (folder / "samples").symlink_to(ROOT / "samples")
    methods, families = folder / "routing" / "methods", folder / "routing" / "families"
    (methods / "toy.py").write_text(METHOD, encoding="utf-8")
    (families / "newcomer.py").write_text(FAMILY, encoding="utf-8")
    (families / "vipllava.py").unlink()  # its tiny config stays with the checks: the newcomer takes its place
    _replace(methods / "__init__.py", "    fastv,\n", "    fastv,\n    toy,\n")
    _replace(
        methods / "__init__.py", "OWN: dict[str, Method] = {", 'OWN: dict[str, Method] = {"toy": toy.METHOD,'
    )
    _replace(families / "__init__.py", "    vipllava,\n", "    newcomer,\n")
    _replace(
        folder / "reroute_cli" / "records" / "metrics.py",
        "METRICS: dict[str, Metric] = {",
        'METRICS: dict[str, Metric] = {"sevens": Metric("sevens", "tokens", _EXACT, "seven an item"),',
    )
    _replace(
        folder / "reroute_cli" / "studies" / "profile_report.py",
        "MEASURES: dict[str, Measure] = {",
        'MEASURES: dict[str, Measure] = {"sevens": lambda values: [[7] for _ in values.visual],',
    )
    return folder


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_a_new_method_is_listed_and_helped(copied: Path) -> None:
    """`methods`, the help of --method and of tune's --methods know it."""
    listed = {row["name"]: row for row in json.loads(reroute(copied, "methods", "--json"))["methods"]}
    assert listed["toy"]["summary"] == "the loudest head of two tokens ranks"
    assert "toy, none" in " ".join(reroute(copied, "ask", "--help").replace("│", " ").split())
    assert "a loud one (toy)" in " ".join(reroute(copied, "tune", "--help").replace("│", " ").split())


def test_a_new_method_is_planned_and_costed(copied: Path) -> None:
    """`plan` gives its schedule, with the FLOPs of the two rows that rank; FastV asks one."""

    def scoring(method: str) -> int:
        made = reroute(copied, "plan", "-m", "llava-1.5-7b", "--method", method, "--ratio", "0.5", "--json")
        return int(json.loads(made)["routed"]["scoring_flops"])

    row = 2 * 4096 * 4096 + 2 * 4096 * (576 + 64)  # the query's projection and its products, by hand
    assert 0.9 * row < scoring("toy") - scoring("fastv") < 1.1 * row


def test_a_new_method_answers_and_can_be_an_arm(copied: Path) -> None:
    """`ask` runs under it, `--arms` and profiles take its name."""
    asked = ("ask", "samples/desk.png", "where is the cup?", "--method", "toy", "--ratio", "0.5", "--json")
    answer = json.loads(reroute(copied, *asked, "--max-new-tokens", "2"))
    assert answer["schedule"]["method"] == "toy"
    assert answer["schedule"]["achieved_ratio"] == pytest.approx(0.5, abs=0.01)
    (copied / "toy.yaml").write_text("title: x\nsource: y\nmethod: toy\nratio: 0.5\n", encoding="utf-8")
    code = (
        "from reroute_cli.console.options import ArmsOptions\n"
        "from reroute_cli.run.schedules import arms_of\n"
        "print([arm.name for arm in arms_of(ArmsOptions(arms='toy', ratio=0.5))])\n"
        "import profiles; print(profiles.load('toy.yaml').recipe.method)"
    )
    assert run(copied, "-c", code).stdout.splitlines() == ["['dense', 'toy-prune', 'toy-reroute']", "toy"]


def test_a_new_family_is_listed_planned_and_checked(copied: Path) -> None:
    """`models` shows it with its boxes, `plan` reads its config, `check` proves the engine on it."""
    rows = {row["model_type"]: row for row in json.loads(reroute(copied, "models", "--json"))["families"]}
    assert (rows["vipllava"]["title"], rows["vipllava"]["boxes"]) == ("Newcomer", "0–1")
    (copied / "model").mkdir()
    config = {
        "model_type": "vipllava",
        "vision_config": {"image_size": 336, "patch_size": 14},
        "text_config": {"model_type": "llama"},
    }
    (copied / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    plan = json.loads(reroute(copied, "plan", "-m", "model", "--method", "fastv", "--ratio", "0.5", "--json"))
    assert (plan["model"]["family"], plan["tokens"]["visual_tokens"]) == ("vipllava", 576)
    checked = json.loads(reroute(copied, "check", "--family", "vipllava", "--json"))
    assert checked["passed"] is True


def _package(folder: Path, name: str, code: str, points: str) -> None:
    """An installed package: a module and the metadata that an installer writes."""
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[reroute.methods]\n{points}\n", encoding="utf-8")


def test_a_new_metric_is_measured_shown_and_gated(copied: Path) -> None:
    """A line in METRICS and a function: the report, its tables, all its formats and gates have it."""
    report = copied / "report.json"
    measured = ("--method", "fastv", "--ratio", "0.5", "--limit", "1", "--repeat", "1", "--warmup", "0")
    text = reroute(copied, "profile", *measured, "--max-new-tokens", "2", "-o", str(report))
    assert "sevens" in text
    for arm in json.loads(report.read_text("utf-8"))["arms"]:
        assert (arm["metrics"]["sevens"]["values"], arm["metrics"]["sevens"]["unit"]) == ([[7]], "tokens")
    code = (
        "import reroute_cli as reroute\n"
        "report = reroute.read('report.json')\n"
        "for form in ('markdown', 'csv', 'github-action-benchmark', 'bencher'):\n"
        "    print('sevens' in reroute.view(report, form))"
    )
    assert run(copied, "-c", code).stdout.split() == ["True"] * 4
    assert "sevens" in reroute(copied, "compare", str(report), str(report), "--gate", "sevens:0%", "-v")


def test_an_installed_package_brings_a_method(tmp_path: Path) -> None:
    """It is listed, and usable by its name; the project itself is as it was."""
    _package(tmp_path, "elsewhere", METHOD, "toy = elsewhere:METHOD")
    listed = [
        row["name"] for row in json.loads(reroute(ROOT, "methods", "--json", path=(tmp_path,)))["methods"]
    ]
    assert listed[-1] == "toy"
    planned = ("plan", "-m", "pocket", "--method", "toy", "--ratio", "0.5", "--json")
    assert json.loads(reroute(ROOT, *planned, path=(tmp_path,)))["schedule"]["method"] == "toy"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("METHOD = 3", "TypeError: it is no routing.Method but a int"),
        (METHOD.replace('name="toy"', 'name="fastv"'), "ValueError: there is a method 'fastv' already"),
    ],
    ids=["exit", "error", "type", "twice"],
)
def test_a_broken_package_is_one_sentence(tmp_path: Path, code: str, says: str) -> None:
    """Whatever its code does, the list is there, and standard error says what is wrong in one line."""
    _package(tmp_path, "broken", code, "toy = broken:METHOD")
    done = run(ROOT, "-m", "reroute_cli", "methods", "--json", path=(tmp_path,))
    assert done.returncode == 0
    assert done.stderr == f"the method of 'broken:METHOD' can't be used: {says}\n"
    assert [row["name"] for row in json.loads(done.stdout)["methods"]][-1] == list(OWN)[-1]


def test_other_packages_are_not_looked_at_before_they_are_needed(tmp_path: Path) -> None:
    """Help and our own methods load no other package; a name that we do not know does."""
    _package(tmp_path, "broken", "raise ValueError('loaded')", "toy = broken:METHOD")
    plan = ("plan", "-m", "pocket", "--ratio", "0.5", "--method")
    for arguments in (("ask", "--help"), (*plan, "fastv")):
        done = run(ROOT, "-m", "reroute_cli", *arguments, path=(tmp_path,))
        assert (done.returncode, "loaded" in done.stderr) == (0, False)
    done = run(ROOT, "-m", "reroute_cli", *plan, "toy", path=(tmp_path,))
    assert done.returncode == 2
    assert "ValueError: loaded" in done.stderr
    assert "there is no method 'toy'" in done.stderr
