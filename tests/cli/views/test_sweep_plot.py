"""The plot of a sweep: everything asked is in it, nothing else, and the same report gives the same bytes."""

import json
import re
from typing import get_args, get_type_hints
from xml.etree import ElementTree

import pytest
from PIL import Image

from reroute_cli.console.errors import Failure
from reroute_cli.console.study_options import CostOptions
from reroute_cli.records.metrics import METRICS
from reroute_cli.records.sweep import SweepReport
from reroute_cli.views.sweep import COSTS
from reroute_cli.views.write.plot import draw_plot
from tests.cli import sweeps

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
HOSTILE = '<script>alert("1")</script> & $x^2$ ]]> \x1b[31m'


@pytest.fixture
def svg(tmp_path):
    """A function that draws a report and gives the parsed SVG."""

    def draw(report):
        path = tmp_path / "plot.svg"
        draw_plot(report, path)
        return ElementTree.fromstring(path.read_text(encoding="utf-8"))

    return draw


def _texts(root, tag="text"):
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}{tag}")]


def test_every_arm_that_was_asked_is_a_point_in_every_panel_row(svg):
    """Its tooltip names arm, score and cost; an arm out of reach has none."""
    titles = _texts(svg(sweeps.build()), "title")
    for part in sweeps.routed():
        for title in sweeps.SCORES.values():
            mine = [text for text in titles if text.startswith(f"{part['name']}: {title} ")]
            assert len(mine) == (0 if part["refused"] else 1), part["name"]
    assert "fastv-reroute 0.5: box Acc@0.5 0.700, prefill FLOPs 0.52" in titles


def test_it_says_what_it_shows(svg):
    """Scores, methods, the cost with what it is relative to, the legend and the number of questions."""
    texts = _texts(svg(sweeps.build()))
    wanted = {"box Acc@0.5", "answers right", "FastV", "Nuwa", "prefill FLOPs, relative to dense"}
    wanted |= {"prune", "reroute", "layers as given", "Pareto front of all arms", "dense"}
    assert wanted <= set(texts)
    assert any("2 questions about 2 images" in text and "95% intervals" in text for text in texts)


def test_visual_tokens_are_no_share_of_dense(svg):
    """Their axis is tokens a layer, and so are their points."""
    root = svg(sweeps.build(cost=sweeps.LAYER))
    assert "visual tokens/layer" in _texts(root)
    assert "fastv-prune 0.5: box Acc@0.5 0.600, visual tokens/layer 128" in _texts(root, "title")


@pytest.mark.parametrize("against", get_args(get_type_hints(CostOptions)["against"]))
def test_every_cost_of_a_front_is_one_that_sweeps_know(against):
    """`--against` names a metric that arms have, under the name that tables and plots give it."""
    metric = CostOptions(against=against).metric
    assert metric in METRICS
    assert metric in COSTS


def test_prune_and_reroute_differ_in_shape_as_well_as_colour(svg):
    """Different outlines for the two, and hollow ones where the layers were typed."""
    root = svg(sweeps.build())
    groups = {element.get("id"): element for element in root.iter() if element.get("id")}

    def look(number):
        use = next(groups[f"point-{number}-box_acc_at_05"].iter(f"{SVG}use"))
        outline = groups[use.get(XLINK).removeprefix("#")].get("d")
        return "C" in outline, re.findall("fill: (#[0-9a-f]{6})", use.get("style"))[0]

    assert look(1) == (False, "#d55e00")  # a square: straight lines only
    assert look(3) == (True, "#0072b2")  # a circle: curves
    assert look(4) == (True, "#ffffff")


def test_hostile_names_stay_text(svg):
    """Markup, entities and TeX in a model's or an arm's name are shown as they are, controls are dropped."""
    arms = [sweeps.arm(HOSTILE, HOSTILE, "prune", ratio=0.5, score=0.5, cost=0.5)]
    root = svg(sweeps.build(arms, model=HOSTILE))
    assert not list(root.iter(f"{SVG}script"))
    shown = '<script>alert("1")</script> & $x^2$ ]]>'
    assert any(text.startswith(f"{shown} : box") for text in _texts(root, "title"))
    assert any(text.startswith('<script>alert("1")</script> & $x^2$') for text in _texts(root))


def test_hostile_titles_of_scores_leave_an_svg(tmp_path):
    """Control characters in a score's title, as a file may hold them, are no XML: they are dropped."""
    plain = sweeps.build().model_dump(by_alias=True, mode="json")
    for part in (*plain["scores"], *(one for arm in plain["arms"] for one in arm["scores"].values())):
        part["title"] = HOSTILE
    draw_plot(SweepReport.model_validate_json(json.dumps(plain)), tmp_path / "plot.svg")
    root = ElementTree.fromstring((tmp_path / "plot.svg").read_text(encoding="utf-8"))
    assert '<script>alert("1")</script> & $x^2$ ]]>' in _texts(root)


def test_nothing_in_it_runs_or_is_fetched(tmp_path):
    """No script, no event, no address but those of the XML namespaces and ids of its own."""
    draw_plot(sweeps.build(), tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert "<script" not in text
    assert not re.search(r"\son\w+=", text)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', text))


@pytest.mark.parametrize("suffix", [".svg", ".png", ".PNG"])
def test_the_same_report_gives_the_same_bytes(tmp_path, monkeypatch, suffix):
    """No date, no random id, and no setting of whoever draws it."""
    import matplotlib as mpl

    paths = [tmp_path / f"{number}{suffix}" for number in range(2)]
    draw_plot(sweeps.build(), paths[0])
    for name, value in {"axes.facecolor": "red", "svg.hashsalt": "other", "font.size": 20.0}.items():
        monkeypatch.setitem(mpl.rcParams, name, value)
    draw_plot(sweeps.build(), paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"202" not in re.findall(rb"<dc:date>.*?</dc:date>|tEXt[^\0]*\0.{20}", paths[0].read_bytes())


def test_a_png_is_a_picture(tmp_path):
    """It opens, and is as wide as a page of text at twice its size."""
    draw_plot(sweeps.build(), tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size[0] == 1376
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50


def test_a_cost_that_nobody_knows_can_not_be_drawn(tmp_path):
    """One sentence with a cost that is always known."""
    with pytest.raises(Failure, match="TTFT of these arms are not known: try --against visual-tokens"):
        draw_plot(sweeps.build(cost="ttft"), tmp_path / "plot.svg")
    assert list(tmp_path.iterdir()) == []
