"""Reports from anybody: hostile text stays text, other files stay unread, errors are one sentence."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reroute_cli.views.write.charts import plot_text
from reroute_cli.views.write.html import embedded
from tests.cli.views.pages import samples_of_runs as runs

HOSTILE = (
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "--><img src=x onerror=\"document.title='owned'\">",
    "'\" onmouseover=document.title='owned' x=\"",
    "{{ 7 * 7 }}{% include 'page.css' %}",
    "javascript:document.title='owned'",
    "\x1b[31mred\x1b[0m\x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "\u202egnp.exe\u202c\u2066\u2028\u2029\x00",
    "<a href='javascript:alert(1)'>%{x}<b>$\\sum$</b></a>",
    "W" * 10_000,
)


def hostile_eval(text):
    """An evaluation in which everything that may come from outside is this text."""
    report = runs.content(runs.EVAL)
    report["workload"]["questions"] |= {"title": text, "source": {text: text}}
    report["workload"]["model"]["id"] = text
    for arm in report["arms"]:
        for scores in (arm["overall"], *arm["groups"].values()):
            for part in (
                *scores["scores"].values(),
                *scores["to_dense"].values(),
                *scores["to_prune"].values(),
            ):
                part["title"] = text
    report["arms"][1]["name"] = f"{text}-prune"
    for item in report["items"]:
        item["said"] = dict(
            zip(["dense", f"{text}-prune", "pdrop-reroute"], item["said"].values(), strict=True)
        )
        for said in item["said"].values():
            said["answer"] = text
        item |= {"question": text, "image": text, "group": text, "id": text + item["id"]}
    return report


def hostile_sweep(text):
    """A sweep whose names are this text."""
    report = runs.content(runs.SWEEP)
    report["model"]["id"] = text
    for arm in report["arms"][1:]:
        arm["place"] = arm["method"] = text
    for score in report["scores"]:
        score["title"] = text
    report["arms"][-1]["refused"] = text
    return report


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_text(page, tmp_path, text):
    """The page has the very elements and scripts of a harmless one, and no control or direction character."""
    plain = page(_written(tmp_path, "plain"), name="plain.html")
    seen = page(_written(tmp_path, text))
    wanted = {"script", "style", "img", "a", "iframe", "object", "embed", "base", "form", "link"}
    assert _tags(seen, wanted) == _tags(plain, wanted)
    assert [found for _, found in seen.elements if any(name.startswith("on") for name in found)] == []
    written = (tmp_path / "page.html").read_text("utf-8")
    assert not set(written) & set("\x1b\u202e\u202c\u2066\u2028\u2029\x00")
    visible = written.partition("<body>")[2].partition('<script type="application/json"')[0]
    assert "W" * 700 not in visible


def _written(folder, text):
    return runs.write(folder / "eval.json", hostile_eval(text))


def _tags(seen, wanted):
    return [tag for tag, _ in seen.elements if tag in wanted]


def test_hostile_names_are_harmless_in_figures(page, tmp_path):
    """Plotly reads tags and templates in names: none of them reaches it as such."""
    text = "<a href='javascript:alert(1)'>x</a>%{y}</script>"
    seen = page(runs.write(tmp_path / "sweep.json", hostile_sweep(text)))
    inside = next(found for attributes, found in seen.scripts if attributes.get("id") == "figures")
    figures = json.loads(inside)["figures"]
    assert any("&lt;a href=" in trace["name"] for figure in figures for trace in figure["data"])
    assert "&lt;a href=" in figures[0]["layout"]["yaxis"]["title"]["text"]
    ours = {trace.pop("hovertemplate", None) for figure in figures for trace in figure["data"]}
    assert ours <= {"%{text}<extra></extra>", None}
    assert not {"<", "%{"} & set(re.findall(r"<|%\{", json.dumps(figures)))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_embedded_json_holds_any_value_and_no_markup(value):
    """JSON in a page comes back as it went in, and has no character that HTML or a script would obey."""
    written = embedded(value)
    assert not set(written) & set("<>&\u2028\u2029")
    unpaired = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")
    assert json.loads(written) == json.loads(unpaired)


@given(st.text())
def test_text_for_a_figure_has_no_tag_and_no_template(text):
    """What Plotly would read as a tag or a template is written as entities, on one line."""
    shown = plot_text(text)
    assert not set(shown) & set("<>%$\n\x1b")


@pytest.mark.parametrize("name", ["../secret.png", "{}/secret.png", "link.png", "https://example.org/a.png"])
def test_pictures_outside_of_the_folders_are_not_read(page, tmp_path, name):
    """A report can't make a page show a file that is not below the folders, by any name."""
    (tmp_path / "inside").mkdir()
    runs.draw(tmp_path / "secret.png")
    (tmp_path / "inside" / "link.png").symlink_to(tmp_path / "secret.png")
    report = runs.content(runs.EVAL)
    for item in report["items"]:
        item["image"] = name.format(tmp_path)
    seen = page(runs.write(tmp_path / "inside" / "eval.json", report))
    assert "image" not in {tag for tag, _ in seen.elements}
    assert "1 images were not found" in seen.text


def test_a_picture_elsewhere_is_shown_where_the_record_knows_its_content(page, tmp_path):
    """A trace knows its picture's digest: the file is shown wherever it is, not after it changed."""
    (tmp_path / "away").mkdir()
    place = tmp_path / "away" / "lights.png"
    digest = runs.draw(place)
    path = runs.write(tmp_path / "trace.json", runs.trace(str(place), digest))
    assert "image" in {tag for tag, _ in page(path).elements}
    place.write_bytes(place.read_bytes() + b"\0")
    assert "image" not in {tag for tag, _ in page(path).elements}


def test_pictures_are_made_smaller_until_they_fit(page, tmp_path, monkeypatch):
    """With less room the same pictures are smaller, with hardly any some are left out; the page says so."""
    from reroute_cli.views.write import html

    full = page(runs.EVAL, runs.COMPARISON)
    size = (tmp_path / "page.html").stat().st_size
    pictures = [found["href"] for tag, found in full.elements if tag == "image"]
    bare = size - sum(map(len, pictures))
    assert len(set(pictures)) == len(pictures) > 3
    monkeypatch.setattr(html, "LARGEST", bare + html._SPARE + sum(map(len, pictures)) // 3)
    small = page(runs.EVAL, runs.COMPARISON)
    assert (tmp_path / "page.html").stat().st_size <= html.LARGEST
    assert len([tag for tag, _ in small.elements if tag == "image"]) == len(pictures)
    assert "Images were made smaller" in small.text
    monkeypatch.setattr(html, "LARGEST", bare + html._SPARE + 6000)
    few = page(runs.EVAL, runs.COMPARISON)
    shown = len([tag for tag, _ in few.elements if tag == "image"])
    assert shown < len(pictures)
    assert f"{len(pictures) - shown} images did not fit" in few.text


def test_a_page_that_is_too_large_without_items_is_refused(run, fails, tmp_path, monkeypatch):
    """Where not even the tables fit there is no page, and one sentence."""
    from reroute_cli.views.write import html

    monkeypatch.setattr(html, "LARGEST", 30_000)
    fails(run("report", str(runs.EVAL), "-o", str(tmp_path / "a.html")), 4, "name fewer")
    assert not (tmp_path / "a.html").exists()


BROKEN = {
    "nothing there": (None, 4, "there is no report"),
    "empty": (b"", 4, "is no JSON"),
    "bytes": (b"\xff\xfe\x00", 4, "not UTF-8"),
    "a number": (b"7", 4, "does not say"),
    "NaN": (b'{"schema": "reroute.eval/2", "x": NaN}', 4, "NaN is no number"),
    "another schema": (b'{"schema": "reroute.report/9"}', 4, "a page is made of"),
    "half a record": (b'{"schema": "reroute.sweep/2"}', 4, "does not match reroute.sweep/2"),
    "deep": (b'{"schema": "reroute.eval/2", "x": ' + b"[" * 100_000, 4, "nested too deeply"),
    "twice": (b'{"schema": "reroute.eval/2", "schema": "reroute.eval/2"}', 4, "stands twice"),
    "no answers": (b'{"schema": "reroute.cost/2"}\n{"schema": "reroute.cost/2"}\n', 4, "holds no answers"),
    "a bad line": (b'{"schema": "reroute.answer/2"}\n{"schema": "reroute.answer/2"}\n', 4, "line 1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_record_is_one_sentence(run, fails, tmp_path, name):
    """Whatever a file holds, the command says what is wrong with it, and writes nothing."""
    content, code, words = BROKEN[name]
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    fails(run("report", str(path), "-o", str(tmp_path / "a.html")), code, words)
    assert not (tmp_path / "a.html").exists()


def test_folders_pipes_and_many_files_are_refused(run, fails, tmp_path):
    """A folder, a pipe that nobody writes to and twenty-one files each end in one sentence."""
    target = str(tmp_path / "a.html")
    fails(run("report", str(tmp_path), "-o", target), 4, "folder")
    os.mkfifo(tmp_path / "pipe")
    fails(run("report", str(tmp_path / "pipe"), "-o", target), 4, "no regular file")
    fails(run("report", *[str(runs.EVAL)] * 21, "-o", target), 2, "at most 20")


def test_the_output_is_checked_before_anything_is_read(run, fails, tmp_path):
    """A folder that is not there, and a page in the place of its own input, are found first."""
    absent = str(tmp_path / "no.json")
    fails(run("report", absent, "-o", str(tmp_path / "no" / "a.html")), 4, "--output", "create it")
    fails(run("report", str(runs.EVAL), "-o", str(runs.EVAL)), 2, "would replace RUN")
    fails(run("report", absent, "-o", str(tmp_path / "a.html"), "--images", "nowhere"), 2, "'nowhere'")


def test_without_the_extra_the_command_names_it(run, fails, tmp_path, monkeypatch):
    """Where a package of the extra is missing, one sentence says how to get it."""
    from reroute_cli.console import command_options

    monkeypatch.setattr(command_options, "find_spec", lambda name: None if name == "plotly" else object())
    fails(run("report", str(runs.EVAL), "-o", str(tmp_path / "a.html")), 4, "pip install 'reroute[report]'")


def test_a_torn_last_line_is_said_and_passed_over(page, tmp_path):
    """A file of answers whose writer was killed is read up to there."""
    lines = runs.ANSWERS.read_bytes().splitlines(keepends=True)
    path = tmp_path / "torn.jsonl"
    path.write_bytes(b"".join(lines[:3]) + lines[3][:50])
    assert "the last line is torn" in page(path).text


def test_files_of_no_interest_are_left_alone(page, tmp_path):
    """A page of files in a folder reads no picture that the files do not name."""
    runs.draw(tmp_path / "other.png")
    path = Path(runs.write(tmp_path / "c.json", runs.content(runs.COMPARISON)))
    assert "image" not in {tag for tag, _ in page(path).elements}
