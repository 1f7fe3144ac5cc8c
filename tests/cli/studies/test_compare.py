"""`reroute compare`: its exit codes, what it prints, what it writes, and that it needs no torch."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli import reports

PRUNE = "nuwa-prune"
Save = Callable[..., str]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a plain report; gives its path."""
    return lambda plain, name: str(reports.save(plain, tmp_path / name))


@pytest.fixture
def pair(save: Save) -> tuple[str, str]:
    """A baseline and a report that is worse in two ways and better in one."""
    new = reports.make()
    reports.scale(reports.arm(new, "dense"), "ttft", 1.3)
    reports.scale(reports.arm(new, PRUNE), "prefill_flops", 1.125)
    reports.scale(reports.arm(new, "nuwa-reroute"), "kv_end", 0.9)
    reports.arm(new, PRUNE)["items"][0]["answer"] = "\x1b[31mnowhere\x1b[0m | <b>x</b>"
    new["environment"]["packages"]["torch"] = "2.12.0"
    return save(reports.make(), "baseline.json"), save(new, "current.json")


def test_equal_reports_exit_0(run, save):
    """Two runs that measured the same pass every default gate."""
    result = run("compare", save(reports.make(), "a.json"), save(reports.make(), "b.json"))
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    # nine exact metrics and answers for three arms, and the weights
    assert result.stdout.rstrip().endswith("all 28 gates passed")


def test_a_regression_exits_3_and_names_it(run, pair):
    """The table, one line a failed gate, the command that accepts; stderr names what failed."""
    result = run("compare", *pair, "--gate", "ttft.p50:10%")
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    assert lines[-4] == "REGRESSION dense ttft.p50: 125 ms → 162 ms, worse by 30.0%; limit 10%"
    assert lines[-3] == (
        "REGRESSION nuwa-prune prefill_flops: 3 of 3 items worse, most of all desk: "
        "1.73 GFLOPs → 1.95 GFLOPs (+12.5%); limit 0 (exact)"
    )
    assert lines[-2] == "REGRESSION nuwa-prune answers: 1 of 3 answers differ; limit 0 (exact)"
    assert lines[-1] == f"to accept the new numbers: cp -- {shlex.quote(pair[1])} {shlex.quote(pair[0])}"
    assert result.stderr == (
        "error: 3 of 31 gates failed, 1 better than the baseline: "
        "ttft.p50 of dense, prefill_flops of nuwa-prune, answers of nuwa-prune\n"
    )


def test_the_accepting_command_accepts(run, save, tmp_path):
    """What it says to type makes the next comparison pass, whatever the files are called."""
    new = reports.make()
    reports.scale(reports.arm(new, PRUNE), "kv_end", 2)
    old, current = save(reports.make(), "-base line's $HOME.json"), save(new, "new; one.json")
    result = run("compare", old, current)
    assert result.exit_code == 3
    command = result.stdout.splitlines()[-1].removeprefix("to accept the new numbers: ")
    subprocess.run(command, shell=True, check=True)
    assert run("compare", old, current).exit_code == 0


def _table(stdout: str) -> dict[str, list[str]]:
    """Cells of the first table's rows under 'ARM METRIC'."""
    rows, arm = {}, ""
    for line in stdout.split("────\n", 1)[1].splitlines():
        cells = re.split(r" {2,}", line.strip())
        if len(cells) == 1:
            arm = cells[0] or arm
        elif len(cells) > 3:
            rows.setdefault(f"{arm} {cells[0]}", cells[1:])
    return rows


def test_the_table_shows_each_arm_with_its_verdicts(run, pair, monkeypatch):
    """Gated metrics and main times: baseline, current, change, limit, verdict, within 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    result = run("compare", *pair, "--gate", "ttft.p50:10%")
    rows = _table(result.stdout)
    assert rows["dense ttft.p50"] == ["125 ms", "162 ms", "+30.0%", "10%", "REGRESSION"]
    assert rows["dense tpot.p50"] == ["14.7 ms", "14.7 ms", "0%", "not gated"]
    assert rows["nuwa-prune prefill_flops"] == [
        "1.75 GFLOPs",
        "1.97 GFLOPs",
        "+12.5%",
        "exact",
        "REGRESSION",
    ]
    assert rows["nuwa-reroute kv_end"] == ["2.36 MiB", "2.12 MiB", "-10.0%", "exact", "win"]
    assert rows["nuwa-prune answers"] == ["0", "1", "–", "exact", "REGRESSION 1/3"]
    assert rows["the run weights"] == ["29.6 MiB", "29.6 MiB", "0%", "exact", "ok"]
    assert "dense preprocess.p50" not in rows
    before_lines = result.stdout[: result.stdout.index("REGRESSION dense")]
    assert max(map(len, before_lines.splitlines())) <= 80


def test_a_change_that_scaling_hides_is_shown_in_full(run, save):
    """One FLOP in billions is a regression, and the line shows the digits that differ."""
    new = reports.make()
    reports.set_values(
        reports.arm(new, "dense"), "prefill_flops", [[3_460_000_000], [3_494_600_001], [3_529_200_000]]
    )
    result = run("compare", save(reports.make(), "a.json"), save(new, "b.json"))
    assert (
        "REGRESSION dense prefill_flops: 1 of 3 items worse, most of all shelf: "
        "3,494,600,000 FLOPs → 3,494,600,001 FLOPs (+3e-08%); limit 0 (exact)" in result.stdout
    )
    assert _table(result.stdout)["dense prefill_flops"][2] == "+1e-08%"


def test_verbose_shows_every_metric(run, pair):
    """-v lists what nothing gates too, and unknown as unknown."""
    rows = _table(run("compare", *pair, "-v").stdout)
    assert rows["dense preprocess.p50"][-1] == "not gated"
    assert rows["dense energy.p50"] == ["–", "–", "–", "not gated"]


def test_changed_answers_are_shown_clean(run, pair):
    """Answers that changed stand below the table, without the escape sequences that a model may emit."""
    result = run("compare", *pair)
    assert re.search(r"nuwa-prune +desk +on the desk +nowhere \| <b>x</b>", result.stdout)
    assert "\x1b" not in result.output


def test_software_that_differs_is_shown(run, pair):
    """Other versions are named and block nothing."""
    assert "differs: torch 2.13.0 → 2.12.0" in run("compare", *pair).stdout


def test_strict_fails_on_a_win(run, save):
    """A baseline that is beaten passes, and under --strict exits 3 and says that it is out of date."""
    new = reports.make()
    reports.scale(reports.arm(new, PRUNE), "kv_end", 0.9)
    files = save(reports.make(), "a.json"), save(new, "b.json")
    passed = run("compare", *files)
    assert (passed.exit_code, passed.stderr) == (0, "")
    assert "all 28 gates passed, 1 better than the baseline" in passed.stdout
    strict = run("compare", *files, "--strict")
    assert strict.exit_code == 3
    assert "WIN nuwa-prune kv_end: 3 of 3 items better" in strict.stdout
    assert "the baseline is out of date" in strict.stdout
    assert "kv_end of nuwa-prune" in strict.stderr


@pytest.mark.parametrize(
    ("gate", "code", "words"),
    [
        ("tttf:10%", 2, ("tttf", "did you mean 'ttft'")),
        ("ttft:-10%", 2, ("-10%", "negative")),
        ("ttft:fast", 2, ("fast", "no limit")),
        ("ttft", 2, ("has no limit", "METRIC[.STAT]:LIMIT")),
        ("answers:10%", 2, ("give a number",)),
        ("energy:10%", 5, ("energy", "no baseline")),
    ],
)
def test_bad_gates_are_one_sentence(run, fails, pair, gate, code, words):
    """A gate that means nothing is exit 2, one that the baseline can't hold exit 5; nothing is printed."""
    fails(run("compare", *pair, "--gate", gate), code, *words)


def test_a_zero_baseline_has_no_percentage(run, fails, save):
    """A relative limit on a zero baseline is exit 2, whatever is measured."""
    old = reports.make()
    for part in old["arms"]:
        reports.set_values(part, "scoring_flops", [[0]] * 3)
    path = save(old, "a.json")
    gate = "scoring_flops.mean:10%"
    fails(run("compare", path, path, "--gate", gate), 2, "has 0 everywhere", "absolute limit")


def test_other_work_exits_5(run, fails, save):
    """Two reports of different work are not compared at all."""
    new = reports.make()
    for item in reports.arm(new, PRUNE)["items"]:
        item["schedule_digest"] = "another"
    files = save(reports.make(), "a.json"), save(new, "b.json")
    fails(run("compare", *files), 5, "different work", "'nuwa-prune' ran another schedule")


def test_bad_files_are_one_sentence(run, fails, pair, tmp_path):
    """Missing, truncated and foreign files are exit 4, another schema exit 5, on either side."""
    text = Path(pair[0]).read_text()
    for name, content, code in (
        ("cut.json", text[:1000], 4),
        ("nan.json", text.replace('"n": 3', '"n": NaN', 1), 4),
        ("next.json", text.replace("reroute.report/2", "reroute.report/3"), 5),
    ):
        path = tmp_path / name
        path.write_text(content)
        fails(run("compare", str(path), pair[1]), code, name)
        fails(run("compare", pair[0], str(path)), code, name)
    fails(run("compare", str(tmp_path / "gone.json"), pair[1]), 4, "there is no report", "gone.json")
    fails(run("compare", pair[0], str(tmp_path)), 4, "is a folder")


def test_output_goes_to_the_file_and_the_table_to_stdout(run, pair, tmp_path):
    """-o writes the --format, on a regression too, and leaves the table to be read."""
    target = tmp_path / "out.json"
    result = run("compare", *pair, "--format", "json", "-o", str(target))
    assert result.exit_code == 3
    assert json.loads(target.read_text())["passed"] is False
    assert "REGRESSION nuwa-prune prefill_flops" in result.stdout
    text = tmp_path / "out.txt"
    run("compare", *pair, "-o", str(text))
    assert "to accept the new numbers" in text.read_text()


def test_nothing_is_overwritten_on_an_error(run, fails, pair, tmp_path):
    """Where there is no verdict the file that -o names stays as it was."""
    target = tmp_path / "out.json"
    target.write_text("old")
    fails(run("compare", *pair, "--gate", "energy:1%", "--format", "json", "-o", str(target)), 5)
    fails(run("compare", *pair, "--gate", "x:1%", "--format", "json", "-o", str(target)), 2)
    fails(run("compare", pair[0], "gone.json", "--format", "json", "-o", str(target)), 4)
    assert target.read_text() == "old"
    fails(run("compare", *pair, "-o", str(tmp_path / "no" / "out.json")), 4, "does not exist")


def test_the_reports_are_never_replaced(run, fails, pair, tmp_path):
    """-o can't name one of the two reports, nor a link to one."""
    link = tmp_path / "link.json"
    link.symlink_to(pair[0])
    before = [Path(path).read_bytes() for path in pair]
    fails(run("compare", *pair, "-o", pair[0]), 2, "would replace BASELINE")
    fails(run("compare", *pair, "-o", pair[1]), 2, "would replace CURRENT")
    fails(run("compare", *pair, "-o", str(link)), 2, "would replace BASELINE")
    assert [Path(path).read_bytes() for path in pair] == before


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "numpy", "scipy", "PIL", "pynvml", "yaml"}:
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Blocked())
"""


@pytest.mark.parametrize(
    "form",
    [
        "text",
        "json",
        "markdown",
        "junit",
        "bencher",
        "github-action-benchmark",
        "github-action-benchmark-bigger",
    ],
)
def test_it_runs_where_torch_is_not_installed(pair, tmp_path, form):
    """Every format works, and a regression exits 3, where no heavy package can be imported."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    command = [sys.executable, "-m", "reroute_cli", "compare", *pair, "--format", form]
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout
    blocked = subprocess.run(
        [sys.executable, "-c", "import numpy"], capture_output=True, text=True, env=environment
    )
    assert "not installed here" in blocked.stderr
