"""The figure of a trace: the right pixels in the right cells, the same bytes every time, a sane size."""

import io

import numpy as np
import pytest
from PIL import Image

from reroute_cli.records.base import ModelPart
from reroute_cli.records.trace import GridPart, PicturePart, TargetPart, TraceArm, TraceRecord, TraceStage
from reroute_cli.views.write.figure.canvas import REENTERED_RING, cut, drawable, length, wrapped
from reroute_cli.views.write.figure.maps import LARGEST, panel_size, score_map, state_map, token_map, views_of
from reroute_cli.views.write.figure.page import draw_trace
from routing.grids import DETAIL, covered, tokens_within
from tests.cli.studies.trace.test_geometry import GOLDEN, placed_in


def one_grid(rows, columns, size):
    """Equal cells over a picture."""
    return covered((0.0, 0.0, float(size[0]), float(size[1])), rows, columns)


def stage(states, *, layer=1, scores=None):
    """A stage in which tokens have these states."""
    kept, back = states.count("k") + states.count("r"), states.count("r")
    reasons = {"recall": "no box"} | ({} if scores else {"scores": "not scored"})
    return TraceStage(
        where="decoder",
        layer=layer,
        keep_ratio=0.5,
        kept=kept,
        reentered=back,
        kept_unplaced=0,
        recall=None,
        states=states,
        scores=scores,
        reasons=reasons,
    )


def arm(name, action, stages, answer="yes"):
    """An arm with these stages."""
    return TraceArm(
        name=name,
        method="pdrop" if action else None,
        action=action,
        profile=None,
        ratio=0.5 if action else None,
        achieved_ratio=0.5,
        schedule_digest="d",
        answer=answer,
        finish="stop",
        boxes=[],
        overlap=None,
        visual_tokens_per_layer=2.0,
        never_used=1,
        stages=stages,
        reasons={"overlap": "no box"},
    )


def record(size, grids, arms, question="what?"):
    """A record of a picture of this size."""
    model = ModelPart(
        id="m",
        revision="r",
        family="llava",
        config_digest="c",
        layers=9,
        dtype="float32",
        attention="sdpa",
        device="cpu",
        weights="loaded",
    )
    visual = sum(grid.count for grid in grids)
    parts = [
        GridPart(
            view=grid.view, rows=grid.rows, columns=grid.columns, first=grid.first, row_ends=grid.row_ends
        )
        for grid in grids
    ]
    return TraceRecord(
        picture=PicturePart(path="p.png", width=size[0], height=size[1], digest="d"),
        question=question,
        model=model,
        layers=9,
        visual_tokens=visual,
        prompt_tokens=visual + 3,
        unplaced=0,
        grids=parts,
        target=TargetPart(
            basis="dense", boxes=None, tokens=None, reasons={"boxes": "none", "tokens": "none"}
        ),
        arms=arms,
    )


def small(**more):
    """A picture of 2 x 2 tokens under one rerouted stage."""
    grid = one_grid(2, 2, (80, 60))
    routed = arm("pdrop-reroute", "reroute", [stage("kdkd"), stage("rkdd", layer=4, scores=[1, 2, 3, None])])
    return record((80, 60), [grid], [arm("dense", None, []), routed], **more)


PICTURE = Image.effect_mandelbrot((80, 60), (-2, -1, 1, 1), 30).convert("RGB")


@pytest.mark.parametrize(("name", "size", "thing", "tokens"), GOLDEN, ids=lambda part: str(part)[:14])
def test_an_object_stays_bright_where_its_tokens_are_kept(name, size, thing, tokens):
    """A white picture under a real model's grid: with the object's tokens kept and all others deferred, the
    bright pixels of the drawing are exactly those of the object's box.
    """
    grids = placed_in(name, size)
    visual = sum(grid.count for grid in grids)
    states = "".join("k" if token in set(tokens) else "d" for token in range(visual))
    assert set(tokens) == set(tokens_within(grids, [thing]))
    detail = [grid for grid in grids if grid.view == DETAIL]
    where = token_map(detail, size, (1.0, 1.0))
    white = np.full((size[1], size[0], 3), 255, dtype=np.uint8)
    rows, columns = np.nonzero(
        (state_map(white, where, states, lines=False) == 255).all(axis=-1) & (where >= 0)
    )
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert found == pytest.approx(thing, abs=1)
    assert len(rows) == pytest.approx((found[2] - found[0]) * (found[3] - found[1]), abs=0)


def test_each_state_changes_its_own_pixels():
    """Kept pixels are the picture's; deferred ones darker; pruned ones grey and lighter, whatever they were;
    re-entered ones are the picture's inside an outline in their colour.
    """
    picture = np.full((40, 160, 3), (120, 60, 30), dtype=np.uint8)
    where = token_map([one_grid(1, 4, (160, 40))], (160, 40), (1.0, 1.0))
    drawn = state_map(picture, where, "kdpr", lines=False)
    kept, deferred, pruned, back = (drawn[:, 40 * index : 40 * index + 40] for index in range(4))
    assert (kept == picture[:, :40]).all()
    assert deferred.mean() < 0.6 * kept.mean()
    assert (pruned.max(axis=-1) - pruned.min(axis=-1)).max() <= 10
    assert pruned.mean() > 1.5 * kept.mean()
    assert len({tuple(pixel) for pixel in pruned.reshape(-1, 3)}) == 2  # paper and hatching
    assert (back[:2] == REENTERED_RING).all()
    assert (back[-2:] == REENTERED_RING).all()
    assert (back[:, :2] == REENTERED_RING).all()
    assert (back[5:-5, 5:-5] == picture[0, 0]).all()


def test_what_no_token_sees_is_faded_and_not_hatched():
    """Pixels outside of every cell are neither kept nor pruned."""
    picture = np.full((20, 40, 3), (100, 50, 0), dtype=np.uint8)
    where = token_map([covered((0.0, 0.0, 20.0, 20.0), 1, 1)], (40, 20), (1.0, 1.0))
    drawn = state_map(picture, where, "k", lines=False)
    assert (drawn[:, :20] == picture[:, :20]).all()
    assert len(np.unique(drawn[:, 20:].reshape(-1, 3), axis=0)) == 1
    assert drawn[0, 30].min() > 150


def test_scores_run_from_blue_to_yellow_and_those_who_have_none_are_grey():
    """The highest score is the last colour of cividis, the lowest its first."""
    where = token_map([one_grid(1, 3, (90, 30))], (90, 30), (1.0, 1.0))
    drawn = score_map(where, [0.0, 1.0, None])
    assert tuple(drawn[10, 10]) == (0, 34, 78)
    assert tuple(drawn[10, 40]) == (254, 232, 56)
    assert (drawn[:, 60:].max(axis=-1) - drawn[:, 60:].min(axis=-1)).max() <= 10


def test_equal_scores_are_one_colour():
    """Nothing is divided by zero."""
    where = token_map([one_grid(1, 2, (20, 10))], (20, 10), (1.0, 1.0))
    assert len(np.unique(score_map(where, [0.25, 0.25]).reshape(-1, 3), axis=0)) == 1


def test_the_same_record_gives_the_same_bytes():
    """No dates, no random ids."""
    assert draw_trace(small(), PICTURE).png == draw_trace(small(), PICTURE).png


def test_a_stage_is_drawn_where_its_column_is():
    """Kept, deferred and re-entered cells of the two stages show in the figure's panels."""
    white = Image.new("RGB", (80, 60), "white")
    page = np.asarray(Image.open(io.BytesIO(draw_trace(small(), white).png)).convert("RGB"))
    assert (page == REENTERED_RING).all(axis=-1).sum() > 200
    dark = (page.max(axis=-1) < 100) & (page.min(axis=-1) > 60)  # white, deferred
    panel = panel_size((80, 60), 4, 2000)
    assert dark.sum() > panel[0] * panel[1] // 2  # two of four cells, twice


@pytest.mark.parametrize("size", [(4000, 20), (20, 4000), (1, 1), (9000, 6000)])
def test_pictures_of_any_shape_make_a_page_of_a_sane_size(size):
    """200 : 1, one pixel, or huge: the page has less than 40 million pixels and every panel can be seen."""
    grids = [one_grid(4, 6, size)]
    arms = [
        arm("dense", None, []),
        arm("pdrop-prune", "prune", [stage("k" * 12 + "p" * 12, layer=n) for n in range(8)]),
    ]
    made = record(size, grids, arms, question="why? " * 400)
    with Image.open(io.BytesIO(draw_trace(made, Image.new("RGB", size, "gray")).png)) as page:
        assert page.width * page.height < 40_000_000
        assert page.width <= 2400
    wide, high = panel_size(size, 24, 300)
    assert min(wide, high) >= 60
    assert max(wide, high) <= max(LARGEST, 250)


def test_row_ends_have_a_strip_and_an_overview_a_panel_of_its_own():
    """A grid with row ends gets a strip beside the panel; a second view is not drawn over the first."""
    detail = one_grid(2, 3, (90, 60))
    detail = type(detail)(DETAIL, detail.rows, detail.columns, 4, row_ends=True)
    overview = covered((0.0, 0.0, 90.0, 60.0), 2, 2, 0, "overview")
    made = record(
        (90, 60), [detail, overview], [arm("dense", None, []), arm("a", "prune", [stage("k" * 12)])]
    )
    views = views_of(made, Image.new("RGB", (90, 60)), 400)
    assert set(np.unique(views.full.tokens)) == {4, 5, 6, 8, 9, 10}
    assert set(np.unique(views.ends.tokens)) == {7, 11}
    assert set(np.unique(views.overview.tokens)) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("text", "shown", "replaced"),
    [
        ("plain [bold]text[/bold]", "plain [bold]text[/bold]", 0),
        ("224 × 224 – naïve “Łódź”", '224 x 224 - naive "Lodz"', 0),
        ("cup 杯子 ok", "cup ?? ok", 2),
        ("a\x1b[31mb\u202ec\nd", "abc d", 0),
    ],
)
def test_text_is_drawn_with_what_the_font_has(text, shown, replaced):
    """Signs and accents are written plainly, the rest is '?' and counted; controls are gone."""
    assert drawable(text) == (shown, replaced)


def test_long_text_is_cut_to_its_room():
    """No line is wider than asked, none too many, and three dots say that something is missing."""
    text = "extraordinarily " * 40 + "x" * 300
    lines = wrapped(text, 17, 200, 3)
    assert len(lines) == 3
    assert all(length(line, 17) <= 200 for line in lines)
    assert lines[-1].endswith("...")
    assert length(cut("y" * 500, 17, 60), 17) <= 60
    assert cut("short", 17, 200) == "short"


def test_characters_that_were_replaced_are_reported():
    """Whoever draws can say so."""
    assert draw_trace(small(question="杯?"), PICTURE).replaced == 1
    assert draw_trace(small(), PICTURE).replaced == 0
