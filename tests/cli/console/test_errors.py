"""The error boundary: every exception becomes one sentence and the exit code of its kind."""

import pytest
import torch

from reroute_cli.console import errors
from reroute_cli.console.errors import Failure, NotComparable, Regression, UsageError
from reroute_cli.records import lists
from routing import BudgetError, ScheduleError, UnsupportedInputError, UnsupportedModelError


@pytest.fixture
def failing(run, monkeypatch):
    """A function that runs a command which raises the given exception."""

    def explode(error):
        def part(**_fields):
            raise error

        monkeypatch.setattr(lists, "MethodPart", part)
        return run("methods")

    return explode


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (Regression("x"), 3),
        (Failure("x"), 4),
        (NotComparable("x"), 5),
        (ScheduleError("x"), 2),
        (BudgetError("x"), 2),
        (UnsupportedModelError("x"), 4),
        (UnsupportedInputError("x"), 4),
        (OSError(28, "No space left on device"), 4),
        (MemoryError(), 4),
        (torch.OutOfMemoryError("CUDA out of memory"), 4),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 4),
        (TypeError("x"), 1),
        (RuntimeError("x"), 1),
        (KeyError(), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_every_kind_of_error_has_its_exit_code(failing, fails, error, code):
    """Usage 2, regression 3, known failure 4, not comparable 5, bug 1: one sentence each."""
    fails(failing(error), code)


def test_ctrl_c_exits_130(failing, fails):
    """An interrupted command says so and exits as shells expect."""
    fails(failing(KeyboardInterrupt()), 130, "interrupted")


def test_ctrl_c_that_python_wraps_exits_130(failing, fails):
    """An interrupt while a class is made reaches us as the cause of a RuntimeError."""
    error = RuntimeError("Error calling __set_name__ on 'Field' instance 'orgs' in 'User'")
    error.__cause__ = KeyboardInterrupt()
    fails(failing(error), 130, "interrupted")


def test_a_bug_is_called_a_bug_and_says_how_to_see_where(failing, fails):
    """An unexpected exception is named, with the way to its traceback."""
    fails(failing(ZeroDivisionError("division by zero")), 1, "bug", "ZeroDivisionError", "REROUTE_DEBUG")


def test_debug_shows_the_traceback_on_stderr(failing, monkeypatch):
    """REROUTE_DEBUG=1 adds the traceback and changes nothing else."""
    monkeypatch.setenv("REROUTE_DEBUG", "1")
    result = failing(Failure("the sentence"))
    assert result.exit_code == 4
    assert result.stdout == ""
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: the sentence\n")


def test_a_message_of_several_lines_becomes_one(failing, fails):
    """Newlines, tabs and escape sequences of a library's message do not reach the terminal."""
    result = failing(Failure("one\ntwo\t\x1b[31mthree\x1b]0;title\x07"))
    fails(result, 4)
    assert result.stderr == "error: one two three\n"


def test_exit_codes_are_the_documented_ones():
    """The numbers that scripts rely on."""
    kinds = (UsageError, Regression, Failure, NotComparable)
    assert [kind.exit_code for kind in kinds] == [2, 3, 4, 5]
    assert (errors.EXIT_BUG, errors.EXIT_INTERRUPTED) == (1, 130)


def test_a_full_stderr_does_not_change_the_exit_code(failing, monkeypatch):
    """Where the sentence can't be shown, the code still tells what happened."""

    def full(_stream, _text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(errors, "write", full)
    assert failing(UsageError("x")).exit_code == 2
