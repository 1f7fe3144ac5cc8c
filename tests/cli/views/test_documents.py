"""One document, several writers: every record has one, every writer writes any, and nothing in it is live."""

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reroute_cli.console.output import clean, draw
from reroute_cli.records import base
from reroute_cli.records.evaluation import Evaluation
from reroute_cli.records.migrate import upgraded
from reroute_cli.records.schema import KINDS, model_of
from reroute_cli.records.sweep import SweepReport
from reroute_cli.views import emit
from reroute_cli.views.document import (
    DATA,
    HEADLINES,
    PAGE,
    TEXT,
    Cell,
    Column,
    Document,
    Heading,
    Table,
    Text,
    Tile,
    Tone,
)
from reroute_cli.views.write import markdown, terminal
from reroute_cli.views.write.csv import document_csv
from reroute_cli.views.write.html import fragment
from tests.cli.views.pages.test_page_hostile import HOSTILE, hostile_eval, hostile_sweep

RECORDS = Path("tests/fixtures/records/1")
PLAIN = {"div", "p", "b", "small", "h4", "table", "caption", "tr", "th", "td"}  # all of a fragment's elements
NASTY = st.sampled_from(
    ["", "<b>x</b>", "<script>", "a | b", "`c` *d* [e](f)", "\x1b[31mred", "x\ny", "\u202e", "&amp;", "$x$"]
)
WRITERS = st.lists(st.sampled_from([TEXT, PAGE, DATA]), min_size=1, unique=True).map(tuple)


class Read(HTMLParser):
    """Every element with its attributes, and all text, as a browser takes them."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.words, self.silent = set(), [], [], 0
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.silent += tag in ("script", "style")

    def handle_endtag(self, tag):
        self.silent -= tag in ("script", "style")

    def handle_data(self, data):
        if not self.silent:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@st.composite
def tables(draw_, number):
    """A table of a few columns for some writers; each cell begins with a word of its own."""
    keys = [f"k{number}{at}" for at in range(draw_(st.integers(1, 3)))]
    parts = [""] + [draw_(st.sampled_from(["", "one part", "other part"])) for _ in keys[1:]]
    columns = tuple(
        Column(key, draw_(st.sampled_from(["", f"t{key}"])), draw_(st.booleans()), "", part, draw_(WRITERS))
        for key, part in zip(keys, parts, strict=True)
    )
    rows = tuple(
        {key: Cell(f"c{number}r{at}{key} {draw_(NASTY)}", note=draw_(NASTY)) for key in keys}
        for at in range(draw_(st.integers(0, 3)))
    )
    most = draw_(st.sampled_from([None, 1]))
    return Table(
        "caption", columns, rows, draw_(st.booleans()), draw_(st.booleans()), most, on=draw_(WRITERS)
    )


@st.composite
def documents(draw_):
    """A heading, sentences of every tone, a tile and up to three tables."""
    tones = [Text(f"s{tone} {draw_(NASTY)}", tone, draw_(st.booleans()), draw_(WRITERS)) for tone in Tone]
    blocks = [Heading(f"h {draw_(NASTY)}"), Tile("tile", draw_(NASTY), draw_(NASTY)), *tones]
    blocks += [draw_(tables(number)) for number in range(draw_(st.integers(0, 3)))]
    return Document("kind", tuple(draw_(st.permutations(blocks))))


def expected(document, writer, tables_):
    """The first word of every cell that this writer is to write."""
    found = []
    for table in tables_:
        rows = table.rows[: table.most] if writer == TEXT else table.rows
        keys = [column.key for column in table.shown(writer)]
        found += [row[key].text.split()[0] for row in rows for key in keys]
    return found


def missing(words, page):
    """The words that are not on a page."""
    return [word for word in words if word not in page]


def of(document, writer):
    """The tables that are for this writer."""
    return [table for table in document.tables if writer in table.on]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents())
def test_text_has_every_cell_that_is_for_it(monkeypatch, document):
    """Terminal and Markdown write any document, with all cells flagged for text and nothing that acts."""
    monkeypatch.setenv("COLUMNS", "100")
    drawn, written = terminal.text(document), markdown.markdown(document)
    words = expected(document, TEXT, of(document, TEXT))
    words += [
        block.text.split()[0] for block in document.blocks if isinstance(block, Text) and TEXT in block.on
    ]
    assert missing(words, drawn) == []
    assert missing(words, written) == []
    assert clean(drawn) == drawn
    assert clean(written) == written
    assert "<" not in written
    assert not any("`c`" in line for line in written.replace("\\`", "").splitlines())


@settings(max_examples=40, deadline=None)
@given(documents())
def test_csv_has_every_cell_of_its_data(document):
    """CSV is read back with as many fields a row as it has keys, and every cell that is data."""
    chosen = of(document, DATA) or of(document, TEXT)
    written = document_csv(document)
    read = [cell for row in csv.reader(io.StringIO(written)) for cell in row]
    assert missing(expected(document, DATA, chosen), " ".join(read)) == []


@settings(max_examples=30, deadline=None)
@given(documents())
def test_a_page_has_every_cell_that_is_for_it_and_no_more_elements(document):
    """The HTML page writes any document; what is in it comes back as text and never as an element."""
    pytest.importorskip("jinja2", reason="the extra report")
    from reroute_cli.views.write.html import PageSection, page_of

    read = Read(page_of([PageSection("name", document)], 0, []).html)
    assert missing(expected(document, PAGE, of(document, PAGE)), read.text) == []
    for table in of(document, PAGE):
        for row in table.rows:
            for column in table.shown(PAGE):
                assert " ".join(clean(row[column.key].text).split()) in read.text
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert "b" not in read.tags - ({"b"} if document.blocks else set())


@settings(max_examples=30, deadline=None)
@given(documents())
def test_a_fragment_is_plain_elements_around_text(document):
    """A fragment holds every cell of a page's tables that are not folded, in elements without attributes."""
    read = Read("".join(fragment(document)))
    shown = [table for table in of(document, PAGE) if not table.folded]
    assert missing(expected(document, PAGE, shown), read.text) == []
    assert read.tags <= PLAIN
    assert read.attributes == []


def test_every_kind_of_record_has_a_document():
    """Each published schema has a function that lays its record out, and no other has one."""
    assert set(emit.DOCUMENTS) == set(KINDS)
    for place in emit.DOCUMENTS.values():
        module, function = place.split(".")
        assert callable(getattr(__import__(f"reroute_cli.views.{module}", fromlist=[function]), function))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize(("change", "model"), [(hostile_eval, Evaluation), (hostile_sweep, SweepReport)])
def test_hostile_records_are_inert_in_a_fragment(change, model, text):
    """A record whose every text is hostile has the elements of a plain one, and no attribute."""
    read = Read(emit.html_fragment(model.model_validate_json(json.dumps(upgraded(change(text))))))
    assert read.tags <= PLAIN
    assert read.attributes == []
    assert clean(read.text) == read.text


@pytest.mark.parametrize("name", ["answer", "comparison", "eval", "plan", "report", "sweep", "tune"])
def test_a_notebook_shows_a_record_as_its_document(monkeypatch, name):
    """Where somebody said how, a record is its headline and its tables; a part of one stays as it is."""
    value = upgraded(json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8")))
    record = model_of(name).model_validate_json(json.dumps(value))
    record = getattr(record, "root", record)  # of an answer, which may be that of a failed item
    monkeypatch.setattr(base, "html_of", None)  # as it is where nobody uses the library
    assert record._repr_html_() is None
    monkeypatch.setattr(base, "html_of", emit.html_fragment)
    shown = Read(record._repr_html_())
    headlines = emit.document(record).texts(PAGE, *HEADLINES)
    assert missing([" ".join(text.split()) for text in headlines], shown.text) == []
    assert "table" in shown.tags
    part = next(value for _, value in record if isinstance(value, base.Part))
    assert part._repr_html_() is None


def test_a_wide_table_is_written_part_by_part(monkeypatch):
    """Text repeats the first column before each part, under its name, without rows that are empty there."""
    columns = (Column("a", "arm"), Column("b", "cost", part="costs"), Column("c", "time", part="times"))
    rows = ({"a": Cell("dense"), "b": Cell("1")}, {"a": Cell("pruned"), "b": Cell("2"), "c": Cell("3")})
    written = markdown.markdown(Document("x", (Table("", columns, rows),)))
    head, _, *body = (line.strip("| ").split(" | ") for line in written.split("\n\n")[0].splitlines())
    assert (head, body) == (["costs", "cost"], [["dense", "1"], ["pruned", "2"]])
    assert written.split("\n\n")[1].splitlines()[2:] == ["| pruned | 3 |"]


def test_what_is_never_wrapped_is_on_one_line(monkeypatch):
    """A command or a failure stays whole, however narrow the terminal; other sentences are wrapped."""
    monkeypatch.setenv("COLUMNS", "40")
    long = "word " * 30
    lines = draw(
        tuple(terminal.page(Document("x", (Text(long, whole=True), Text(long))))), io.StringIO()
    ).splitlines()
    assert lines[0] == long.strip()
    assert max(map(len, lines[1:])) <= 40
