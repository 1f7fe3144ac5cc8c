"""Groups of options: one declaration for the command line, Python and lmms-eval; and the table of "
"commands."""

import inspect
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from reroute_cli import app as application
from reroute_cli.app import COMMANDS, program
from reroute_cli.console import command_options
from reroute_cli.console.command_options import BatchRunOptions, ClusterOptions, PageOptions, TraceOutput
from reroute_cli.console.errors import CliError, UsageError
from reroute_cli.console.options import ArmsOptions, ModelOptions, OutputOptions, ScheduleOptions
from reroute_cli.console.study_options import CostOptions, GridOptions, MeasureOptions, SweepOutput
from reroute_cli.integrations.lmms_eval.arguments import read_arguments

TOY = '''
from reroute_cli.console.options import ListOutput, ScheduleOptions


def toy(schedule: ScheduleOptions, output: ListOutput) -> None:
    """Say which method was asked for."""
    output.sink.result(f"{schedule.method} {schedule.layers} {output.shown}")
'''


@pytest.fixture
def toy():
    """The program with one more command: a file, and a line of the table."""
    module = ModuleType("toy")
    exec(compile(TOY, "toy.py", "exec"), vars(module))
    return program(application.COMMANDS | {"toy": module.toy})


def test_a_command_is_a_file_and_a_line_of_the_table(toy):
    """It is in the root's help, has the options of its groups in their panels, and runs."""
    runner = CliRunner()
    assert "Say which method was asked for." in runner.invoke(toy, ["--help"]).stdout
    shown = runner.invoke(toy, ["toy", "--help"], env={"COLUMNS": "100"}).stdout
    assert (
        shown.index("─ Schedule ─")
        < shown.index("--method")
        < shown.index("─ Output ─")
        < shown.index("--json")
    )
    done = runner.invoke(toy, ["toy", "--method", "fastv", "--ratio", "0.5", "--layers", "3,5", "--json"])
    assert (done.exit_code, done.stdout) == (0, "fastv (3, 5) json\n")


def test_every_command_takes_groups_and_nothing_else():
    """Eight groups at most; each is a frozen dataclass."""
    for name, command in COMMANDS.items():
        groups = [hint for at, hint in typing.get_type_hints(command).items() if at != "return"]
        assert len(groups) <= 8, name
        assert all(is_dataclass(group) and group.__dataclass_params__.frozen for group in groups), name
        assert list(inspect.signature(command).parameters) == list(typing.get_type_hints(command))[:-1]


@pytest.mark.parametrize(
    ("command", "group", "typed"),
    [
        (("ask", "x.png", "where?"), ScheduleOptions, {"ratio": 0.5}),
        (("ask", "x.png", "where?"), ScheduleOptions, {"method": "magic"}),
        (("ask", "x.png", "where?"), ScheduleOptions, {"method": "fastv", "ratio": 1.5}),
        (("ask", "x.png", "where?"), ScheduleOptions, {"method": "fastv", "ratio": float("nan")}),
        (("ask", "x.png", "where?"), ModelOptions, {"seed": -1}),
        (("batch", "."), BatchRunOptions, {"batch_size": 0}),
        (("batch", "."), ClusterOptions, {"workers": 2}),
        (("profile",), ArmsOptions, {"arms": "fastv", "method": "pdrop", "ratio": 0.5}),
        (("profile",), MeasureOptions, {"repeat": 0}),
        (("profile",), OutputOptions, {"output": Path("/no/such/folder/x.json")}),
        (("sweep",), GridOptions, {"ratios": "0.5", "budgets": "64"}),
        (("sweep",), CostOptions, {"against": "ttft", "cost_items": 0}),
        (("sweep",), SweepOutput, {"plot": Path("plot.gif")}),
        (
            ("trace", "x.png", "where?", "--method", "fastv", "--ratio", "0.5"),
            TraceOutput,
            {"output": Path("x.gif")},
        ),
    ],
    ids=str,
)
def test_python_and_the_command_line_give_the_same_error(run, fails, command, group, typed):
    """The same sentence and exit code, whichever way a group is made."""
    with pytest.raises(CliError) as raised:
        group(**typed)
    words = [word for name, value in typed.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    fails(run(*command, *words), raised.value.exit_code, str(raised.value))


@pytest.mark.parametrize(
    ("group", "typed"),
    [
        (ModelOptions, {"dtype": "int3"}),
        (ModelOptions, {"seed": -1}),
        (ScheduleOptions, {"method": "fastv", "ratio": 1.5}),
        (ScheduleOptions, {"method": "fastv", "ratio": 0.5, "action": "drop"}),
    ],
    ids=str,
)
def test_python_and_lmms_eval_give_the_same_error(group, typed):
    """The same sentence, about the argument in place of the option."""
    with pytest.raises(UsageError) as raised:
        group(**typed)
    with pytest.raises(UsageError) as argument:
        read_arguments(typed)
    assert str(argument.value) == str(raised.value).replace("--", "")


def test_defaults_are_those_of_the_command_line():
    """What Python gets without naming an option is what a command gets that was given none."""
    caught = []

    def catch(model: ModelOptions, schedules: ArmsOptions, output: OutputOptions) -> None:
        """Keep the groups."""
        caught.extend([model, schedules, output])

    environment = {"REROUTE_MODEL": None, "REROUTE_DEVICE": None}
    assert CliRunner().invoke(program({"catch": catch}), ["catch"], env=environment).exit_code == 0
    assert caught == [ModelOptions(), ArmsOptions(), OutputOptions()]


def test_an_option_that_groups_share_reaches_each_of_them():
    """--seed is the model's and the schedule's, --quiet the model's and the output's."""
    caught = []

    def catch(model: ModelOptions, schedule: ScheduleOptions, output: OutputOptions) -> None:
        """Keep the groups."""
        caught.extend([model.seed, schedule.seed, model.quiet, output.quiet])

    assert CliRunner().invoke(program({"catch": catch}), ["catch", "--seed", "7", "-q"]).exit_code == 0
    assert caught == [7, 7, True, True]


@pytest.mark.parametrize("sign", [" ", "="])
def test_old_names_are_read_with_a_word_on_stderr(run, sign):
    """--cuts is --layers for one release, and says so once; --quiet leaves the word away."""
    schedule = ("plan", "--method", "fastv", "--action", "reroute", "--ratio", "0.5", "--json")
    old = run(*schedule, *f"--cuts{sign}3,5,8".split())
    new = run(*schedule, "--layers", "3,5,8")
    assert (old.exit_code, old.stdout) == (0, new.stdout)
    assert old.stderr == "note: '--cuts' goes with the next release: write --layers\n"
    assert new.stderr == ""


def test_the_old_name_of_images_is_read(run, tmp_path, monkeypatch):
    """--pictures is --images of `report`."""
    monkeypatch.setattr(command_options, "find_spec", lambda name: object())
    absent = str(tmp_path / "no.json")
    done = run("report", absent, "-o", str(tmp_path / "a.html"), "--pictures", "nowhere")
    assert done.exit_code == 2
    assert "--images: there is no folder 'nowhere'" in done.stderr


def test_every_field_that_is_shown_says_what_it_is_for():
    """Each option of each command has a help text; positional arguments too."""
    groups = {
        hint
        for command in COMMANDS.values()
        for at, hint in typing.get_type_hints(command).items()
        if at != "return"
    }
    assert PageOptions in groups
    for group in groups:
        for one in fields(group):
            option = group.declared()[one.name].option
            assert option is None or option.help, (group, one.name)
