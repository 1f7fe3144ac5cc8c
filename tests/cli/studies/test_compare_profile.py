"""`profile --baseline`: real runs of the embedded model judged by real runs of it."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reroute_cli.console.errors import Regression
from reroute_cli.console.output import Sink
from reroute_cli.console.study_options import ProfileOutput
from reroute_cli.models import load as models
from reroute_cli.studies.compare import RegressionCheck, accept_command, judged
from reroute_cli.studies.gates import all_gates
from reroute_cli.views.emit import emit
from reroute_cli.views.write.ci import NUMBERS
from tests.cli import reports
from tests.forks import Forks

ARGUMENTS = ("--method", "fastv", "--action", "prune", "--limit", "1", "--repeat", "1", "--warmup", "0")
TOKENS = ("--max-new-tokens", "4")
Profile = Callable[..., Any]


@pytest.fixture
def profile(run, warm) -> Profile:
    """A small run of `reroute profile` at a ratio of 0.667, with further arguments."""

    def measured(*arguments: str, ratio: str = "0.667", tokens: tuple[str, ...] = TOKENS) -> Any:
        return run("profile", *ARGUMENTS, "--ratio", ratio, *tokens, *arguments)

    return measured


@pytest.fixture(scope="module")
def measured(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of one real run in another process."""
    path = tmp_path_factory.mktemp("measured") / "baseline.json"
    process = forks.start("profile", *ARGUMENTS, "--ratio", "0.667", *TOKENS, "--quiet", "-o", str(path))
    said = process.communicate()
    assert process.returncode == 0, said
    return path


@pytest.fixture
def baseline(measured: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copy(measured, tmp_path / "baseline.json"))


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test: what is wrong must be found before."""
    monkeypatch.setattr(models, "load", lambda options: pytest.fail("a model was loaded"))


def _change(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    plain = json.loads(path.read_text())
    change(plain)
    reports.save(plain, path)


def test_two_runs_pass_each_other(run, profile, baseline, tmp_path):
    """Another process measured the same: every exact gate holds, in `profile` and in `compare`."""
    again = tmp_path / "again.json"
    result = profile("--baseline", str(baseline), "--strict", "-o", str(again))
    assert result.exit_code == 0, result.output
    assert "all 19 gates passed" in result.stderr  # nine for each of two arms, and the weights
    assert "gates" not in result.stdout
    assert "prefill FLOPs" in result.stdout
    compared = run("compare", str(baseline), str(again), "--strict")
    assert compared.exit_code == 0, compared.output


def test_a_larger_run_fails_by_name_and_is_still_written(profile, baseline, tmp_path):
    """More FLOPs than the baseline's are exit 3 and named; the report and the table are there."""
    _change(baseline, lambda plain: reports.scale(reports.arm(plain, "fastv-prune"), "prefill_flops", 0.99))
    before, new = baseline.read_bytes(), tmp_path / "new.json"
    result = profile("--baseline", str(baseline), "-o", str(new))
    assert result.exit_code == 3
    assert "prefill FLOPs" in result.stdout
    assert "REGRESSION fastv-prune prefill_flops: " in result.stderr
    assert f"to accept the new numbers: cp -- {new} {baseline}" in result.stderr
    assert result.stderr.splitlines()[-1] == "error: 1 of 19 gates failed: prefill_flops of fastv-prune"
    assert json.loads(new.read_text())["schema"] == "reroute.report/2"
    assert baseline.read_bytes() == before


def test_json_on_stdout_stays_json(profile, baseline):
    """With --json the report alone is on stdout; --quiet leaves one sentence on stderr."""
    _change(baseline, lambda plain: reports.scale(reports.arm(plain, "dense"), "kv_end", 2))
    result = profile("--baseline", str(baseline), "--json", "--quiet", "--strict")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["schema"] == "reroute.report/2"
    assert result.stderr == "error: 1 of 19 gates failed: kv_end of dense\n"


def test_the_remedy_without_an_output_is_to_measure_again():
    """Where nothing was written the way to accept is -o in place of --baseline, quoted for a shell."""
    command = accept_command(Path("main branch.json"), None)
    assert command == "measure again with -o 'main branch.json' in place of --baseline"


def _sleep_when_routed(module: Any, args: Any, kwargs: Any) -> None:
    """A decoder layer that gets a part of a prompt, which only a schedule gives it, takes its time."""
    states = args[0] if args else kwargs["hidden_states"]
    if 1 < states.shape[1] < 200:  # the whole prompt has 256 visual tokens
        time.sleep(0.6)


@pytest.fixture
def slow(pocket) -> Iterator[None]:
    """The routed arm is slower than it was, the dense arm is not."""
    layers = [module for name, module in pocket.model.named_modules() if name.endswith("layers.11")]
    handle = layers[-1].register_forward_pre_hook(_sleep_when_routed, with_kwargs=True)
    yield
    handle.remove()


def test_a_slower_run_fails_by_name(profile, baseline, slow):
    """A sleep in the routed prefill breaks ttft.ratio, and no exact metric."""
    result = profile("--baseline", str(baseline), "--gate", "ttft.ratio:10%")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1] == "error: 1 of 20 gates failed: ttft.ratio of fastv-prune"
    assert "REGRESSION fastv-prune ttft.ratio: " in result.stderr


def test_another_keep_ratio_is_other_work(profile, baseline, tmp_path):
    """Exit 5 names the schedule; what was measured is written and shown all the same."""
    new = tmp_path / "new.json"
    result = profile("--baseline", str(baseline), "-o", str(new), ratio="0.778")
    assert result.exit_code == 5
    assert "'fastv-prune' ran another schedule" in result.stderr
    assert new.exists()
    assert "prefill FLOPs" in result.stdout


def test_numbers_for_other_tools(profile, baseline):
    """--format bencher holds the run's numbers."""
    found = json.loads(profile("--format", "bencher").stdout)
    plain = json.loads(baseline.read_text())
    expected = reports.arm(plain, "fastv-prune")["metrics"]["prefill_flops"]["mean"]
    assert found["pocket / fastv-prune"]["prefill_flops"] == {"value": expected}


@pytest.mark.parametrize(
    ("form", "export"),
    [
        ("github-action-benchmark", NUMBERS["github-action-benchmark"]),
        ("github-action-benchmark-bigger", NUMBERS["github-action-benchmark-bigger"]),
        ("bencher", NUMBERS["bencher"]),
    ],
)
def test_a_report_is_shown_in_the_formats_of_other_tools(capsys, form, export):
    """What `profile --format` prints is the export, character for character."""
    report = reports.build(reports.make())
    emit(report, ProfileOutput(form))
    assert capsys.readouterr().out == export(report)


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--gate", "ttft:10%"), 2, ("--gate", "--baseline FILE")),
        (("--strict",), 2, ("--strict", "--baseline FILE")),
        (("--baseline", "gone.json"), 5, ("there is no report 'gone.json'", "reroute profile -o")),
        (("--baseline", "{folder}"), 4, ("is a folder",)),
        (("--baseline", "{cut}"), 4, ("truncated",)),
        (("--baseline", "{next}"), 5, ("reroute.report/2",)),
        (("--baseline", "{file}", "--gate", "speed:1%"), 2, ("no metric 'speed'",)),
        (("--baseline", "{file}", "--gate", "ttft:-1%"), 2, ("negative",)),
        (("--baseline", "{file}", "--gate", "energy:1%"), 5, ("energy.p50 has no baseline",)),
        (("--baseline", "{zero}", "--gate", "scoring_flops:1%"), 2, ("has 0 everywhere",)),
        (("--baseline", "{file}", "-o", "{file}"), 2, ("would replace --baseline",)),
        (("--baseline", "{file}", "--seed", "1"), 5, ("--seed was 0, now 1",)),
        (("--baseline", "{file}", "--max-new-tokens", "5"), 5, ("--max-new-tokens was 4, now 5",)),
    ],
)
def test_what_is_wrong_is_found_before_measuring(profile, fails, baseline, tmp_path, arguments, code, words):
    """Bad gates and baselines, and settings that could never compare, cost no measurement and no file."""
    text = baseline.read_text()
    (tmp_path / "cut.json").write_text(text[:500])
    (tmp_path / "zero.json").write_text(json.dumps(_never_scored(json.loads(text))))
    (tmp_path / "next.json").write_text(text.replace("reroute.report/2", "reroute.report/3", 1))
    names = {
        "folder": tmp_path,
        "file": baseline,
        "cut": tmp_path / "cut.json",
        "zero": tmp_path / "zero.json",
        "next": tmp_path / "next.json",
    }
    fails(profile(*(part.format(**names) for part in arguments)), code, *words)
    assert baseline.read_text() == text


def _never_scored(plain):
    for part in plain["arms"]:
        reports.set_values(part, "scoring_flops", [[0]] * len(part["items"]))
        part["ratios"].pop("scoring_flops", None)
    return plain


def test_the_comparison_is_made_where_the_result_has_no_reader():
    """`reroute profile --baseline ... | head -1`: a regression still leaves with its code, a pass quietly."""
    worse = reports.make()
    reports.scale(reports.arm(worse, "dense"), "kv_end", 2)
    gates = tuple(all_gates([]))
    check = RegressionCheck(Path("main.json"), reports.build(reports.make()), gates, strict=False)
    for plain, leaves in ((worse, Regression), (reports.make(), BrokenPipeError)):
        with pytest.raises(leaves), judged(Sink(quiet=True), check, reports.build(plain), None):
            raise BrokenPipeError
    with pytest.raises(BrokenPipeError), judged(Sink(quiet=True), None, reports.build(worse), None):
        raise BrokenPipeError


def test_a_verdict_survives_a_reader_that_went_away(tmp_path):
    """`reroute compare A B | head -1` under pipefail: a closed stdout hides no regression."""
    new = reports.make()
    reports.scale(reports.arm(new, "dense"), "kv_end", 2)
    old, worse = reports.save(reports.make(), tmp_path / "a.json"), reports.save(new, tmp_path / "b.json")
    for current, code in ((worse, 3), (old, 0)):
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-m", "reroute_cli", "compare", str(old), str(current)]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
        os.close(writing)
        assert done.returncode == code, done.stderr
        assert done.stderr.count("\n") == (1 if code else 0)
