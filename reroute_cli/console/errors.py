"""What may go wrong, and how it leaves the program: one sentence on stderr and an exit code.

CliError
├── UsageError      2    what was typed makes no sense; nothing was run
├── Regression      3    a measurement is worse than its gate allows
├── Failure         4    a known failure: unreadable image, missing model, out of memory
└── NotComparable   5    two reports that may not be compared, or no baseline

Anything else is a bug: exit 1 (with REROUTE_DEBUG=1 the traceback is shown too); Ctrl-C is 130.
Does not know any command. Errors of the engine and of profiles are recognised here, once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy
from typing import Any, NoReturn, TypeVar

import typer
from typer.core import TyperGroup

from reroute_cli.console.missing import missing_name
from reroute_cli.console.output import clean, write

EXIT_BUG, EXIT_USAGE, EXIT_REGRESSION, EXIT_FAILURE, EXIT_NOT_COMPARABLE = 1, 2, 3, 4, 5
EXIT_INTERRUPTED = 130

_RESET = "\x1b[0m"  # "no colour", the colour there is; Typer's echo drops it where no terminal reads
_Command = TypeVar("_Command", bound=Any)


class CliError(Exception):
    """An expected end of a command; its text is one sentence: what was given, what is allowed, the remedy."""

    exit_code = EXIT_BUG


class UsageError(CliError):
    """What was typed makes no sense."""

    exit_code = EXIT_USAGE


class Regression(CliError):
    """A measurement is worse than its gate allows."""

    exit_code = EXIT_REGRESSION


class Failure(CliError):
    """A known failure of something outside: a file, a model, a device."""

    exit_code = EXIT_FAILURE


class NotComparable(CliError):
    """Two reports that may not be compared, or no baseline."""

    exit_code = EXIT_NOT_COMPARABLE


class BoundedGroup(TyperGroup):
    """The root command group: every error of every command passes through its boundary, and every help text
    is shown as it was written.
    """

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, its help taken literally; None where there is none."""
        found = super().get_command(ctx, cmd_name)
        return None if found is None else literal(found)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the root's own help, taken literally."""
        TyperGroup.format_help(literal(self), ctx, formatter)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the root's own options (--version, --help) inside the error boundary."""
        with error_boundary():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command inside the error boundary."""
        with error_boundary():
            return super().invoke(ctx)


def literal(command: _Command) -> _Command:
    """A copy of a Typer command or group whose help, and that of all below it, is shown as it was written.

    Typer hands help texts to Rich as markup, which takes `[:ACTION]` for a tag and drops it. A text that
    holds a terminal's escape sequence it hands on as it stands, so each paragraph begins with the one that
    changes nothing.
    """
    shown = copy(command)
    for name in ("help", "short_help", "epilog"):
        setattr(shown, name, _marked(getattr(command, name)))
    shown.params = [copy(parameter) for parameter in command.params]
    for parameter in shown.params:
        parameter.help = _marked(parameter.help)
    if hasattr(command, "commands"):
        shown.commands = {name: literal(each) for name, each in command.commands.items()}
    return shown


def _marked(text: str | None) -> str | None:
    return None if text is None else "\n\n".join(_RESET + paragraph for paragraph in text.split("\n\n"))


@contextmanager
def error_boundary() -> Iterator[None]:
    """Turn every exception into one sentence on stderr and an exit code (raises typer.Exit)."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        _leave("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # `reroute methods | head -1` is no failure: say nothing more, to nobody
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # it carries the help, which Typer has yet to show
            raise
        _leave(_usage_sentence(error), error.exit_code)
    except Exception as error:  # noqa: BLE001  the one boundary: nothing else ends in a traceback
        _leave(*_verdict(error))


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn every known failure into UsageError, Failure or another CliError, for Python code that calls.

    A bug passes as what it is, and Ctrl-C stays Ctrl-C.
    """
    try:
        yield
    except CliError:
        raise
    except Exception as error:
        sentence, code = _verdict(error)
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt from error
        if code not in (EXIT_USAGE, EXIT_FAILURE):
            raise
        raise (UsageError if code == EXIT_USAGE else Failure)(sentence) from error


def sentence_of(error: Exception) -> str:
    """Any exception as the one sentence that a user gets; Ctrl-C stays Ctrl-C (raises KeyboardInterrupt)."""
    if was_interrupted(error):
        raise KeyboardInterrupt from error
    return clean(_verdict(error)[0], one_line=True)


def _verdict(error: Exception) -> tuple[str, int]:
    """The sentence and the exit code of any exception that a command let through."""
    if isinstance(error, CliError):
        return str(error), error.exit_code
    if was_interrupted(error):
        return "interrupted", EXIT_INTERRUPTED
    from routing.errors import RoutingError  # what the engine and the profile reader raise on purpose

    if isinstance(error, RoutingError):
        # those that are ValueErrors too say that what was typed can't be: a schedule, a budget, a profile
        return str(error), EXIT_USAGE if isinstance(error, ValueError) else EXIT_FAILURE
    if is_out_of_memory(error):
        remedy = "use a smaller model, a smaller image, --dtype bfloat16 or another --device"
        return f"out of memory: {_first_line(error)}; {remedy}", EXIT_FAILURE
    if missing := missing_name(error):
        return missing, EXIT_FAILURE
    if isinstance(error, OSError):
        return f"the system refused: {error}", EXIT_FAILURE
    where = "" if _debug() else "; set REROUTE_DEBUG=1 to see where"
    return f"this is a bug in reroute: {type(error).__name__}: {_first_line(error)}{where}", EXIT_BUG


def was_interrupted(error: Exception) -> bool:
    """Whether Ctrl-C came while Python was making a class: it then arrives as the cause of a RuntimeError."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__
    return cause is not None


def is_out_of_memory(error: Exception) -> bool:
    """True for Python's, CUDA's and the CPU allocator's ways to say it; torch is not loaded to ask."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _usage_sentence(error: typer.TyperException) -> str:
    """What Typer found wrong with the arguments, with the help that says what is allowed."""
    context, sentence = getattr(error, "ctx", None), error.format_message().rstrip(".")
    if context is None:
        return sentence
    if sentence.startswith("Missing argument"):
        form = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
        sentence += f": the form is '{form.replace('{', '').replace('}', '')}'"
    return f"{sentence}; see '{context.command_path} --help'"


def _leave(sentence: str, code: int) -> NoReturn:
    with suppress(OSError):  # where stderr is full or gone the exit code still says what it was
        if _debug():
            write(sys.stderr, clean(traceback.format_exc()))
        write(sys.stderr, f"error: {clean(sentence, one_line=True)}\n")
    for stream in (sys.stdout, sys.stderr):  # Python would try again at exit and change the exit code
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    raise typer.Exit(code)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def _debug() -> bool:
    return os.environ.get("REROUTE_DEBUG", "") not in ("", "0")
