"""Pages under test: written by the command, read back by a parser of HTML that is not ours."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.cli.views.pages import samples_of_runs

NEEDS = "pip install 'reroute[report]'"


class Seen(HTMLParser):
    """What a browser would see: every element with its attributes, and the text outside of scripts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._open.append(tag)
            if tag == "script":
                self.scripts.append((dict(attrs), ""))
            else:
                self.styles.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open:
            self.words.append(data)
        elif self._open[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        else:
            self.styles[-1] += data

    @property
    def text(self) -> str:
        """Everything a person can read, on one line."""
        return " ".join(" ".join(self.words).split())

    def having(self, **wanted: str) -> list[dict[str, str | None]]:
        """Attributes of every element that has these; `klass` is the class."""
        asked = {name.replace("klass", "class").replace("_", "-"): value for name, value in wanted.items()}
        return [
            found
            for _, found in self.elements
            if all(value in (found.get(name) or "").split(" ") for name, value in asked.items())
        ]


@pytest.fixture(autouse=True)
def _extra() -> None:
    """These tests need what the command needs."""
    for name in ("jinja2", "plotly"):
        pytest.importorskip(name, reason=f"!!! THE PAGE OF reroute report WAS NOT TRIED: {NEEDS}")


@pytest.fixture
def page(tmp_path: Path, run: Callable[..., object]) -> Callable[..., Seen]:
    """A function that makes the page of these files, and reads it."""

    def make(*arguments: object, name: str = "page.html") -> Seen:
        done = run("report", *map(str, arguments), "-o", str(tmp_path / name))
        assert done.exit_code == 0, done.output
        seen = Seen()
        seen.feed((tmp_path / name).read_text(encoding="utf-8"))
        return seen

    return make


@pytest.fixture
def traced(tmp_path: Path) -> Path:
    """A file with the hand-made trace, beside its picture."""
    digest = samples_of_runs.draw(tmp_path / "lights.png")
    return samples_of_runs.write(tmp_path / "trace.json", samples_of_runs.trace("lights.png", digest))
