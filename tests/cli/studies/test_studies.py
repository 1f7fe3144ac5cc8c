"""Each study is one function that a library can call: values in, a record out, nothing printed."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from reroute_cli.console.command_options import TracedSchedules
from reroute_cli.console.options import ArmsOptions, BenchmarkOptions, RunOptions
from reroute_cli.console.study_options import GridOptions
from reroute_cli.data.images import ImageSource, open_image
from reroute_cli.data.items import Item
from reroute_cli.models.load import quiet_libraries
from reroute_cli.models.shapes import read_shape
from reroute_cli.records.store import records_at
from reroute_cli.run.schedules import ScheduleChoice, arms_of
from reroute_cli.studies.compare import compare
from reroute_cli.studies.evaluate import evaluate
from reroute_cli.studies.gates import all_gates
from reroute_cli.studies.plan import plan
from reroute_cli.studies.profile import MeasurePlan, profile
from reroute_cli.studies.questions import subject_of
from reroute_cli.studies.sweep import SweepRequest, sweep
from reroute_cli.studies.trace import trace
from reroute_cli.studies.tune.report import Where, profile_text
from reroute_cli.studies.tune.request import TuneRequest, choose_questions
from reroute_cli.studies.tune.session import tune
from routing import Schedule

DESK = str(Path(__file__).resolve().parents[3] / "samples" / "desk.png")
QUESTION = "where is the cup?"
CHOICE = ScheduleChoice("pdrop", "reroute", 0.8)
ARMS = arms_of(ArmsOptions(method="pdrop", action="reroute", ratio=0.8))
SHORT = MeasurePlan(2, warmup=0, rounds=1)


class Noting:
    """A progress that notes: what it was to expect, what it was told, and how many steps were done."""

    def __init__(self):
        self.expected, self.told, self.steps = [], [], 0

    def expect(self, steps):
        """So many steps."""
        self.expected.append(steps)

    def tell(self, doing):
        """What is going on."""
        self.told.append(doing)

    def done(self):
        """One more."""
        self.steps += 1


@pytest.fixture
def scenes(tmp_path, capfd):
    """Six questions of the benchmark in the package and a file for answers; whoever prints fails."""
    subject = subject_of(BenchmarkOptions(limit=6))
    with quiet_libraries(), records_at(tmp_path / "answers.jsonl") as file:
        yield SimpleNamespace(subject=subject, questions=subject.questions("llava"), file=file)
    assert capfd.readouterr() == ("", "")


def test_profile_and_compare_give_records(pocket, capfd):
    """A report of every arm, and that it passes beside itself; every announced step is done."""
    noted = Noting()
    with quiet_libraries():
        report = profile(
            pocket, [Item("one", (ImageSource(DESK, DESK),), QUESTION)], ARMS, SHORT, progress=noted
        )
    assert [arm.name for arm in report.arms] == ["dense", "pdrop-reroute"]
    assert noted.expected == [noted.steps] == [2 * 4]
    assert noted.told == ["answers", "round 1 of 1", "FLOPs", "memory"]
    assert compare(report, report, all_gates([])).passed
    assert capfd.readouterr() == ("", "")


def test_evaluate_gives_a_record(pocket, scenes):
    """Six questions under two arms."""
    noted = Noting()
    run = RunOptions(max_new_tokens=32, batch_size=8)
    found = evaluate(pocket, scenes.subject, scenes.questions, ARMS, run, scenes.file, seed=3, progress=noted)
    assert (found.counts.questions, found.counts.answered, found.workload.seed) == (6, 12, 3)
    assert noted.expected == [noted.steps] == [12]


def test_sweep_gives_a_record(pocket, scenes):
    """Two amounts of one method beside dense, one item measured; the sentence says what is asked."""
    noted, said = Noting(), []
    arms = arms_of(GridOptions("pdrop:reroute", "0.6,0.8"))
    scores = scenes.subject.benchmark.scores
    request = SweepRequest(scores, 32, 8, cost_items=1, plan=SHORT, against="prefill_flops", seed=0)
    found = sweep(pocket, scenes.questions, arms, request, scenes.file, say=said.append, progress=noted)
    assert [arm.name for arm in found.arms] == ["dense", "pdrop-reroute 0.6", "pdrop-reroute 0.8"]
    assert said == ["6 questions under 3 arms, 18 answers"]
    assert noted.expected == [noted.steps] == [18 + 3 * 4]
    assert all("prefill_flops" in arm.costs for arm in found.arms)


def test_tune_gives_a_record_and_the_schedule(pocket, scenes):
    """The schedule is the one of the report and of the profile that is made of both."""
    subject = subject_of(BenchmarkOptions())
    items = tuple(subject.questions("llava").items)
    questions = choose_questions(items, subject.benchmark.scores, "right", 40, seed=0)
    request = TuneRequest(64.0, None, None, ("fastv",), ("reroute",), answers=24)
    where = Where(subject, {"bench": "scenes"})
    report = tune(pocket, questions, request, scenes.file, where, max_new_tokens=8, batch_size=8)
    assert report.found.schedule is not None
    assert report.found.schedule_digest == Schedule.from_dict(report.found.schedule).digest()
    assert f"layer: {report.found.stages[0].layer}" in profile_text(report)
    assert report.asked.budget == 64.0


def test_trace_and_plan_give_records(pocket, capfd):
    """Both say of the same schedule that it keeps the same."""
    with quiet_libraries():
        found = trace(
            pocket, open_image(DESK), QUESTION, arms_of(TracedSchedules("pdrop", "reroute", 0.8)), 2
        )
    planned = plan(read_shape("pocket").with_visual(None), CHOICE, 16, "float32")
    assert found.arms[1].schedule_digest == planned.schedule.digest
    assert [stage.kept for stage in found.arms[1].stages] == [stage.kept for stage in planned.schedule.stages]
    assert capfd.readouterr() == ("", "")
