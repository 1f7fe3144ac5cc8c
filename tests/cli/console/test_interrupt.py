"""Ctrl-C in a real process: wherever it lands, one sentence and exit code 130, never a traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("heeded_interrupts")
DESK = Path(__file__).resolve().parents[3] / "samples" / "desk.png"
# Speaks, or sends itself the signal, when a module is about to be imported: always the same moment.
WATCH = """
import os, signal, sys, time

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r} and sys.meta_path.remove(self) is None:
            {action}

sys.meta_path.insert(0, Watch())
sys.argv = ["reroute", "ask", {picture!r}, "where is the cup?", "--max-new-tokens", "512"]
import reroute_cli.__main__ as entry
entry.main()
"""


@pytest.fixture
def started(tmp_path):
    """Starts a process that runs `ask`, as `-m`, and does something when it comes to import a module."""

    def start(module, action):
        (tmp_path / "watched.py").write_text(WATCH.format(module=module, action=action, picture=str(DESK)))
        return subprocess.Popen(
            [sys.executable, "-m", "watched"],
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def assert_interrupted(process):
    """Exit code 130 and nothing but the sentence."""
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (130, "")
    assert stderr == "error: interrupted\n"


@pytest.mark.parametrize(
    "module",
    [
        "reroute_cli.app",
        "typer",
        "reroute_cli.console.errors",
        "reroute_cli.commands.plan",
        "reroute_cli.data.images",
        "PIL.Image",
        "torch",
        "transformers",
        "reroute_cli.run.answer",
    ],
)
def test_ctrl_c_during_an_import_exits_130(started, module):
    """Before the command line exists, while it is built, and while a command loads its libraries."""
    assert_interrupted(started(module, "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"))


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1, 0.3, 1.0])
def test_ctrl_c_at_any_early_moment_exits_130(started, delay):
    """From outside, this long after the program began to import itself."""
    process = started("reroute_cli.app", "sys.stdout.write('ready' + chr(10)); sys.stdout.flush()")
    assert process.stdout.readline() == "ready\n"
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    assert_interrupted(process)


@pytest.mark.parametrize(
    "place",
    [
        "class Dropped: __del__ = lambda self: signal.raise_signal(signal.SIGINT)\nDropped(); time.sleep(60)",
        "import weakref\nthing = type('Thing', (), {})()\n"
        "kept = weakref.ref(thing, lambda ref: signal.raise_signal(2))\ndel thing; time.sleep(60)",
        "exec('signal.raise_signal(signal.SIGINT)')",
    ],
    ids=["destructor", "callback", "exec"],
)
def test_ctrl_c_where_python_loses_it_exits_130(started, place):
    """Python drops an interrupt in destructors and callbacks, and after one in an exec ends by the signal."""
    assert_interrupted(started("torch", f"exec({place!r})"))


def test_an_error_that_is_no_interrupt_is_not_hidden(monkeypatch):
    """The guard is for Ctrl-C alone: a broken import stays visible."""
    import reroute_cli.__main__ as entry

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # main() sets it for the whole process
    monkeypatch.setitem(sys.modules, "reroute_cli.app", None)
    with pytest.raises(ImportError):
        entry.main()
