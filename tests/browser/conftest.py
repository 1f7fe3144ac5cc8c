"""Pages in a real browser: Debian's chromium (or the one that CHROMIUM names), driven by playwright.

Without it these tests skip, and say so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reroute_cli.app import app

BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
NEEDS = "pip install 'reroute[browser]' and apt-get install chromium"


def missing() -> str | None:
    """What keeps these tests from running."""
    try:
        import axe_playwright_python
        import jinja2
        import playwright
        import plotly
    except ImportError as error:
        return str(error)
    assert axe_playwright_python and jinja2 and playwright and plotly  # noqa: PT018
    return None if BROWSER else "there is no chromium"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One headless browser for all tests."""
    if reason := missing():
        pytest.skip(f"!!! THE PAGE WAS NOT TRIED IN A BROWSER ({reason}): {NEEDS}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that makes the page of these files and opens it from disk, with every request refused.

    What the browser says of it, errors of scripts and violations of its policy are in `page.said`.
    """
    contexts = []

    def open_page(*files: object, width: int = 1280, scheme: str = "light", **more: Any) -> Any:
        target = tmp_path / "page.html"
        done = CliRunner().invoke(app, ["report", *map(str, files), "-o", str(target)])
        assert done.exit_code == 0, done.output
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
        contexts.append(context)
        page = context.new_page()
        page.said = []
        page.on("console", lambda message: page.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: page.said.append(f"error: {error}"))
        page.on("request", lambda request: _note(page, request.url, target))
        page.on("dialog", lambda dialog: page.said.append(f"dialog: {dialog.message}"))
        page.goto(target.as_uri())
        page.wait_for_function("document.documentElement.classList.contains('script')")
        return page

    yield open_page
    for context in contexts:
        context.close()


def _note(page: Any, url: str, target: Path) -> None:
    """Keep every request but for the page itself and the pictures in it."""
    if not url.startswith(("data:", target.as_uri())):
        page.said.append(f"request: {url}")
