"""The entry: help, version, exit codes of the parser, and what is not loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reroute_cli.console.missing import installed_version

COMMANDS = ("ask", "profile", "compare", "plan", "methods", "models", "profiles", "env")


def test_no_arguments_show_the_help_and_exit_2(run):
    """`reroute` alone is a usage error that shows what there is."""
    result = run()
    assert result.exit_code == 2
    assert all(name in result.output for name in COMMANDS)


def test_version_is_that_of_the_installed_package(run):
    """`--version` prints the name and the version on stdout."""
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout == f"reroute {installed_version('reroute')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run, command):
    """Each command has a help that starts with what it is for."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"reroute {command}" in result.stdout.replace("root", "reroute")


def test_help_holds_no_escape_sequence(run):
    """Help sent to a file is plain text."""
    assert "\x1b" not in run("ask", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ask",), ("Missing argument", "QUESTION")),
        (("ask", "a.png"), ("no image is named", "IMAGE... QUESTION")),
        (("ask", "a.png", "what?", "--wat"), ("--wat", "--help")),
        (("ask", "a.png", "what?", "--dtype", "int3"), ("int3", "float32")),
        (("ask", "a.png", "what?", "--max-new-tokens", "0"), ("0", "4096")),
        (("ask", "a.png", "what?", "--ratio", "much"), ("--ratio", "number")),
        (("asks",), ("asks", "Did you mean")),
        (("--wat",), ("--wat", "--help")),
    ],
)
def test_usage_errors_are_one_sentence_and_exit_2(run, fails, arguments, words):
    """What can't be parsed ends in one sentence that names it."""
    fails(run(*arguments), 2, *words)


def test_help_loads_no_torch_and_the_module_runs():
    """`python -m reroute_cli --help` works, and help needs neither torch nor transformers nor PIL."""
    code = (
        "import sys; sys.argv = ['reroute', '--help']\n"
        "from reroute_cli.app import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'transformers', 'PIL', 'numpy', 'pydantic', 'pynvml'} & set(sys.modules)\n"
        "print(heavy, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"
    module = subprocess.run(
        [sys.executable, "-m", "reroute_cli", "--version"], capture_output=True, text=True
    )
    assert module.stdout.startswith("reroute ")


@pytest.mark.parametrize("arguments", ["methods", "--version", "--wat"])
def test_closed_streams_are_no_bug(arguments):
    """Without stdout and stderr (`>&- 2>&-`) the exit code is what it would have been."""
    command = f"{sys.executable} -m reroute_cli {arguments}"
    open_code = subprocess.run(command, shell=True, capture_output=True).returncode
    assert subprocess.run(f"{command} >&- 2>&-", shell=True).returncode == open_code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", ["methods", "--version", "--help"])
def test_a_full_disk_under_stdout_exits_4(arguments, unbuffered):
    """What can't be written is a known failure in one sentence, for the help too, however Python buffers."""
    command = f"{sys.executable} -m reroute_cli {arguments} > /dev/full"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment)
    assert done.returncode == 4
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
