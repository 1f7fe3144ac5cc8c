"""The page of a report: what is on it is what the files say, and nothing else gets in or out."""

import base64
import hashlib
import json
import re
import statistics
from pathlib import Path

import pytest

from reroute_cli.console import units
from reroute_cli.views.write.gallery import gallery_of
from reroute_cli.views.write.inputs import read_inputs, sections_of
from tests.cli.views.pages import samples_of_runs as runs

EVERY = (runs.PROFILE, runs.COMPARISON, runs.SWEEP, runs.EVAL, runs.TUNE, runs.BATCH, runs.ANSWERS)
ADDRESSES = ("src", "href", "action", "formaction", "srcset", "data", "poster", "xlink:href", "background")


def _policy(seen):
    found = seen.having(http_equiv="Content-Security-Policy")
    assert len(found) == 1
    return dict(part.strip().split(" ", 1) for part in found[0]["content"].split(";"))


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.name)
def test_every_kind_of_record_has_a_section(page, path):
    """A page of one file names the file, has tables, and says how the numbers were made."""
    seen = page(path)
    assert path.name in seen.text
    assert any(tag == "table" for tag, _ in seen.elements)
    assert "How these numbers were made" in seen.text


def test_a_page_needs_nothing_and_lets_nothing_in(page):
    """Every address is in the page or data that it holds, no handler is inline, scripts go by digest."""
    seen = page(*EVERY)
    addresses = [value for _, found in seen.elements for name, value in found.items() if name in ADDRESSES]
    assert [one for one in addresses if not one.startswith(("#", "data:image/webp;base64,"))] == []
    assert not [
        name for _, found in seen.elements for name in found if name.startswith("on") or name == "style"
    ]
    policy = _policy(seen)
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    assert "unsafe" not in json.dumps(policy)
    code = [text for attributes, text in seen.scripts if attributes.get("type") != "application/json"]
    digests = {
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in code
    }
    assert digests == set(policy["script-src"].split())
    styles = {
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in seen.styles
    }
    assert styles == set(policy["style-src"].split())


def test_a_page_of_everything_is_small_and_holds_plotly_once(page, tmp_path):
    """All kinds together are below 6 MB, with one copy of Plotly; a page without a chart has none."""
    page(*EVERY)
    assert (tmp_path / "page.html").stat().st_size < 6_000_000
    assert (tmp_path / "page.html").read_text("utf-8").count("* plotly.js v") == 1
    page(runs.COMPARISON, name="plain.html")
    assert (tmp_path / "plain.html").stat().st_size < 200_000


def test_the_same_files_give_the_same_page(page, tmp_path):
    """Nothing on a page depends on when or where it was made."""
    page(*EVERY)
    page(*EVERY, name="again.html")
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "again.html").read_bytes()


def test_a_profile_shows_the_medians_of_its_values(page):
    """TTFT of every arm is the median of the raw values in the file, in the arm's own row."""
    seen = page(runs.PROFILE)
    for arm in runs.content(runs.PROFILE)["arms"]:
        values = [value for item in arm["metrics"]["ttft"]["values"] for value in item]
        assert units.seconds(statistics.median(values)) in seen.text
        key = {float(found["data-key"]) for _, found in seen.elements if "data-key" in found}
        assert any(abs(one - statistics.median(values)) < 1e-12 for one in key)


def test_the_figures_hold_the_values_of_the_file(page):
    """A box plot draws every value that was measured, layer plots the mean of every layer's tokens."""
    seen = page(runs.PROFILE)
    island = next(text for attributes, text in seen.scripts if attributes.get("id") == "figures")
    figures = json.loads(island)["figures"]
    arms = runs.content(runs.PROFILE)["arms"]
    scale = {"ms": 1e3, "s": 1}[figures[0]["layout"]["xaxis"]["title"]["text"]]
    for trace, arm in zip(figures[0]["data"], arms, strict=True):
        values = [value * scale for item in arm["metrics"]["ttft"]["values"] for value in item]
        assert trace["x"] == pytest.approx(values)
    layers = next(one for one in figures if one["layout"]["yaxis"]["title"]["text"] == "visual tokens")
    for trace, arm in zip(layers["data"], arms, strict=True):
        rows = [item["visual_per_layer"] for item in arm["items"]]
        assert trace["y"] == pytest.approx([statistics.fmean(column) for column in zip(*rows, strict=True)])


def test_figures_are_figures_for_plotly(page):
    """Plotly's own schema accepts every figure, property by property."""
    graph = pytest.importorskip("plotly.graph_objects")
    seen = page(*EVERY)
    island = next(text for attributes, text in seen.scripts if attributes.get("id") == "figures")
    figures = json.loads(island)["figures"]
    assert len(figures) == len(seen.having(klass="plot"))
    for figure in figures:
        graph.Figure(figure, skip_invalid=False)


def test_a_sweep_plots_scores_against_costs(page):
    """Every arm that was asked is a point of the Pareto plot, at its score and its cost over dense's."""
    seen = page(runs.SWEEP)
    report = runs.content(runs.SWEEP)
    score, cost = report["fronts"][0]["score"], report["fronts"][0]["cost"]
    asked = [arm for arm in report["arms"] if arm["refused"] is None]
    points = {(arm["costs"][cost]["ratio"] or 1.0, arm["scores"][score]["value"]) for arm in asked}
    island = next(text for attributes, text in seen.scripts if attributes.get("id") == "figures")
    traces = json.loads(island)["figures"][0]["data"]
    drawn = {
        point
        for one in traces
        if one["name"] != "Pareto front"
        for point in zip(one["x"], one["y"], strict=True)
    }
    assert drawn == points
    refused = [arm["refused"] for arm in report["arms"] if arm["refused"]]
    assert refused
    assert all(one in seen.text for one in refused)


def test_the_gallery_marks_what_differs_and_what_rerouting_gained(page):
    """An entry for every question, marked as different and as gained exactly where the file says so."""
    seen = page(runs.EVAL)
    items = runs.content(runs.EVAL)["items"]
    differ = sum(len({said["answer"] for said in item["said"].values()}) > 1 for item in items)
    gained = sum(
        item["said"]["pdrop-reroute"]["right"] is True and item["said"]["pdrop-prune"]["right"] is False
        for item in items
    )
    found = seen.having(klass="item")
    assert len(found) == len(items)
    assert gained
    assert sum("data-differs" in one for one in found) == differ
    assert sum("data-gained" in one for one in found) == gained
    assert all(item["question"] in seen.text for item in items)


def test_answers_are_judged_by_the_sweep_beside_them(page, tmp_path):
    """With a sweep on the page, every answer of its file of records is right or wrong as the sweep says."""
    report = runs.content(runs.SWEEP)
    records = [json.loads(line) for line in runs.ANSWERS.read_text("utf-8").splitlines()]
    records = [record for record in records if record["schema"] == "reroute.answer/1"]
    dense = [record for record in records if record["schedule"]["method"] == "none"]
    assert dense
    report["items"][: len(dense)] = [record["id"] for record in dense]
    marks = ("10" * len(dense))[: len(dense)]
    report["arms"][0]["right"] = marks + report["arms"][0]["right"][len(dense) :]
    seen = page(runs.write(tmp_path / "sweep.json", report), runs.ANSWERS)
    assert report["arms"][0]["made"]["first"]["digest"] == dense[0]["schedule"]["digest"]
    verdicts = re.findall(r"dense \S.*? (right|wrong)", seen.text)
    assert sorted(verdicts).count("right") >= marks.count("1")
    assert "wrong" in verdicts


def test_one_answer_on_many_lines_is_an_answer(page):
    """What `ask -o` writes is one record, indented: the page shows it like a line of a batch's file."""
    path = Path("tests/fixtures/records/1/answer.json")
    assert len(path.read_text(encoding="utf-8").splitlines()) > 1
    seen = page(path)
    assert "1 answer to 1 item under 1 schedule" in seen.text
    assert runs.content(path)["answer"] in seen.text


def test_one_question_in_two_files_is_one_entry(page, tmp_path):
    """Answers of two batches to one question stand beside one another, the dense one first."""
    records = [json.loads(line) for line in runs.ANSWERS.read_text("utf-8").splitlines()]
    ids = {record["id"] for record in records}
    parts = {"a": [], "b": []}
    for record in records:
        parts["a" if record["schedule"]["method"] != "none" else "b"].append(json.dumps(record))
    files = []
    for name, lines in parts.items():
        files.append(tmp_path / f"{name}.jsonl")
        files[-1].write_text("\n".join(lines) + "\n", "utf-8")
    assert len(page(*files).having(klass="item")) == len(ids)
    items = gallery_of(
        [item for part in sections_of(read_inputs(files)) for item in part.document.items], 100
    ).items
    wanted = ["dense", "pdrop prune 0.889", "pdrop reroute 0.889"]
    assert [[said.arm for said in item.said] for item in items] == [wanted] * len(ids)


def test_token_maps_outline_exactly_the_cells_of_each_state(page, traced):
    """Cells of a 4 × 4 grid over 40 pixels: rows that are pruned or deferred, each cell that came back."""
    seen = page(traced)
    stages = [found for tag, found in seen.elements if tag == "g"]
    assert [(one["data-arm"], one["data-stage"]) for one in stages] == [
        ("0", "0"),
        ("0", "1"),
        ("0", "2"),
        ("1", "0"),
        ("1", "1"),
        ("1", "2"),
    ]
    paths = {}
    at = None
    for tag, found in seen.elements:
        if tag == "g":
            at = (found["data-arm"], found["data-stage"])
        elif tag == "path" and found["class"] in ("deferred", "pruned", "reentered"):
            paths[(*at, found["class"])] = found["d"]
    lower = "M0 20H40V30H0ZM0 30H40V40H0Z"
    assert paths == {
        ("0", "1", "pruned"): lower,
        ("0", "2", "pruned"): "M20 0H40V10H20ZM0 10H40V20H0Z" + lower,
        ("1", "1", "deferred"): lower,
        ("1", "2", "deferred"): "M0 0H40V10H0ZM0 10H40V20H0ZM0 20H40V30H0Z",
        ("1", "2", "reentered"): "".join(f"M{x} 30H{x + 10}V40H{x}Z" for x in (0, 10, 20, 30)),
    }
    assert [one["data-stage"] for one in stages if "hidden" not in one] == ["2"]
    assert len([found for tag, found in seen.elements if tag == "image"]) == 1


def test_the_stylesheet_and_the_figures_have_the_same_colours():
    """The four roles are the same colours in the page, in light figures and in dark ones."""
    from reroute_cli.views.write import charts, html

    style = (Path(html.__file__).parent / "assets" / "page.css").read_text("utf-8")
    light, _, rest = style.partition("@media (prefers-color-scheme: dark)")
    dark = re.split(r"\*, \*::before", rest)[0]
    for role in ("dense", "prune", "reroute", "other", "ink", "soft", "rule", "paper"):
        assert f"--{role}: {charts.LIGHT[role]};" in light
        assert dark.count(f"--{role}: {charts.DARK[role]};") == 2
