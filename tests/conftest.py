"""What one environment skips can be written down, and run alone in another one that has more in it.

And what takes long begins first.
"""

import json
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--write-skipped FILE` and `--only-skipped FILE`."""
    parser.addoption("--write-skipped", metavar="FILE", help="write what was skipped and why, as JSON")
    parser.addoption("--only-skipped", metavar="FILE", help="run only what such a file names")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that the file names, each by itself or with all of its module; the longest come first.

    Those have a time limit of their own; at the end one of them would keep a single worker busy.
    """
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)
    if path := config.getoption("--only-skipped"):
        named = json.loads(Path(path).read_text(encoding="utf-8"))
        kept, others = [], []
        for item in items:
            (kept if {item.nodeid, item.nodeid.split("::")[0]} & named.keys() else others).append(item)
        config.hook.pytest_deselected(items=others)
        items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the reason of every skip by the id of its test, or of its module where that was skipped whole."""
    if path := config.getoption("--write-skipped"):
        skipped = terminalreporter.stats.get("skipped", [])
        reasons = {report.nodeid: report.longrepr[2] for report in skipped}
        Path(path).write_text(json.dumps(reasons, indent=1), encoding="utf-8")
