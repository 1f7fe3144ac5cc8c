"""Processes of `reroute` that begin at once: forks of one that has imported all and answered a question.

They are killed, interrupted and waited for as those of a shell are, but skip the seconds of imports. What an
interpreter does while it starts is not in them: tests of that start one.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Forks:
    """The process that forks; it ends when its standard input does."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # a fork has no thread but the one that forked
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: dict[str, Any]) -> Any:
        """What the process answers to this."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(self, *arguments: str, script: str | None = None) -> Fork:
        """Run `reroute`, or a script, with these arguments in a fork."""
        return Fork(self, arguments, script)

    def close(self) -> None:
        """End the process."""
        self._server.communicate(timeout=60)


class Fork:
    """One run, with those methods of `subprocess.Popen` that its tests use."""

    returncode: int | None = None

    def __init__(self, forks: Forks, arguments: tuple[str, ...], script: str | None) -> None:
        self._forks = forks
        self._written = [tempfile.NamedTemporaryFile() for _ in ("stdout", "stderr")]  # noqa: SIM115
        streams = [file.name for file in self._written]
        self.pid = forks.ask({"arguments": arguments, "script": script, "streams": streams})

    def poll(self) -> int | None:
        """The exit code, below zero for a signal, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._forks.ask({"poll": self.pid})
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait until it ends; what it wrote to standard output and to standard error."""
        until = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < until, f"it runs for more than {timeout} s"
            time.sleep(0.005)
        stdout, stderr = (file.read().decode() for file in self._written)
        return stdout, stderr


def _serve() -> dict[str, Any] | None:
    """Answer each line of standard input; in a fork, return the line that asked for it."""
    from typer.testing import CliRunner

    from reroute_cli.app import app

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warmed = CliRunner().invoke(app, ["ask", str(ROOT / "samples" / "desk.png"), "where is the cup?"])
    assert warmed.exit_code == 0, warmed.output
    assert threading.active_count() == 1
    for line in sys.stdin:
        question: dict[str, Any] = json.loads(line)
        if "poll" in question:
            ended, status = os.waitpid(question["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        elif (answer := os.fork()) == 0:
            return question
        print(json.dumps(answer), flush=True)
    return None


if __name__ == "__main__" and (asked := _serve()):
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(asked["streams"], 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [asked["script"] or "reroute", *asked["arguments"]]
    if asked["script"]:
        runpy.run_path(asked["script"], run_name="__main__")
    else:
        runpy.run_module("reroute_cli", run_name="__main__")
