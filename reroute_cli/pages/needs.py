"""What making a page needs beside reroute itself. Knows packages by name and loads none of them."""

from __future__ import annotations

from importlib.util import find_spec

from reroute_cli.console.errors import Failure

PACKAGES = ("jinja2", "plotly")


def check_packages() -> None:
    """Raise Failure where the extra is not installed."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise Failure(f"a page is made with {' and '.join(missing)}: pip install 'reroute[report]' first")
