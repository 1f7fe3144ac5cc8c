"""A report as a person meets it: it is quiet, it moves, the keyboard reaches it, and nothing in it runs."""

import pytest

from tests.cli.views.pages import samples_of_runs as runs
from tests.cli.views.pages.test_page_hostile import HOSTILE, hostile_eval, hostile_sweep

EVERY = (runs.PROFILE, runs.COMPARISON, runs.SWEEP, runs.EVAL, runs.TUNE, runs.BATCH, runs.ANSWERS)


@pytest.fixture
def traced(tmp_path):
    """A file with the hand-made trace, beside its picture."""
    digest = runs.draw(tmp_path / "lights.png")
    return runs.write(tmp_path / "trace.json", runs.trace("lights.png", digest))


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_quiet_and_fits(opened, traced, width, scheme):
    """No message, no violation of the policy, no request, every chart drawn, no sideways scroll."""
    page = opened(*EVERY, traced, width=width, scheme=scheme)
    assert page.said == []
    drawn = page.locator(".plot").evaluate_all("all => all.map(one => !!one.querySelector('svg.main-svg'))")
    assert len(drawn) > 5
    assert all(drawn)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened, traced, scheme):
    """axe-core finds no serious and no critical violation of WCAG, tables and charts opened."""
    from axe_playwright_python.sync_playwright import Axe

    page = opened(*EVERY, traced, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    found = Axe().run(page).response["violations"]
    bad = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"][:200], len(one["nodes"])) for one in bad] == []


def test_a_header_sorts_its_column_and_turns_it_round(opened):
    """Enter on a header sorts by value, not by text; once more turns it round; what is unknown stays last."""
    page = opened(runs.SWEEP)
    header = page.locator("#run-1 thead th", has_text="tokens/layer").first
    column = header.evaluate("cell => cell.cellIndex")
    report = runs.content(runs.SWEEP)
    wanted = sorted(arm["average_visual"] for arm in report["arms"] if arm["refused"] is None)
    header.locator("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert _keys(page, column) == wanted
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert _keys(page, column) == wanted[::-1]
    ratio = page.locator("#run-1 thead th", has_text="ratio").first
    for _ in range(2):
        ratio.locator("button").click()
        assert page.locator("#run-1 table >> nth=0 >> tbody tr").last.locator("th").inner_text() == "dense"
    assert page.locator("#run-1 table >> nth=0").locator("[aria-sort]:not([aria-sort=none])").count() == 1


def _keys(page, column):
    rows = page.locator("#run-1 table >> nth=0 >> tbody tr")
    return rows.evaluate_all("(rows, at) => rows.map(row => Number(row.cells[at].dataset.key))", column)


def test_filters_show_what_they_say(opened):
    """'answers differ', 'reroute right, prune wrong' and words leave exactly the questions that fit."""
    page = opened(runs.EVAL)
    items = runs.content(runs.EVAL)["items"]
    differ = {item["id"] for item in items if len({said["answer"] for said in item["said"].values()}) > 1}
    gained = {
        item["id"]
        for item in items
        if item["said"]["pdrop-reroute"]["right"] and not item["said"]["pdrop-prune"]["right"]
    }
    assert set() < gained < differ < {item["id"] for item in items}
    assert len(_shown(page)) == len(items)
    page.get_by_label("answers differ").check()
    assert _shown(page) == differ
    page.get_by_label("reroute right, prune wrong").check()
    assert _shown(page) == gained
    one = next(item for item in items if item["id"] in gained)
    page.get_by_label("Search").fill(f"{one['id'].upper()} {one['question'][:7]}")
    assert _shown(page) == {one["id"]}
    assert page.locator("#shown").inner_text() == f"1 of {len(items)} shown"
    page.get_by_label("Search").fill("no such words")
    assert _shown(page) == set()
    assert page.locator("#gallery .none").is_visible()


def _shown(page):
    found = page.locator(".item:visible .kicker").all_inner_texts()
    return {text.split(" · ")[0] for text in found}


def test_the_slider_changes_the_picture(opened, traced):
    """Every stage of every schedule looks different, and the keys say which stage it is."""
    page = opened(traced)
    slider, picture = page.get_by_role("slider"), page.locator(".item .frame")
    page.get_by_label("boxes of the answers").uncheck()
    page.get_by_label("pdrop prune").check()
    slider.focus()
    page.keyboard.press("Home")
    seen = {}
    for at in range(3):
        said = slider.get_attribute("aria-valuetext")
        assert page.locator(".map output").inner_text() == said
        seen[said] = picture.screenshot()
        assert page.locator(".stage:visible, .stage:not([hidden])").count() == 1
        if at < 2:
            page.keyboard.press("ArrowRight")
    assert next(iter(seen)) == "before: all 16 visual tokens"
    assert list(seen)[2].startswith("layer 3: 2 of 16 kept")
    page.get_by_label("pdrop reroute").check()
    seen[slider.get_attribute("aria-valuetext")] = picture.screenshot()
    assert list(seen)[3].startswith("layer 3: 4 of 16 kept · 4 re-entered")
    assert len(set(seen.values())) == 4


def test_cells_lie_where_their_tokens_are(opened, traced):
    """Of the 4 × 4 cells, those that are kept keep their light, those that are deferred are darkened."""
    import io

    from PIL import Image

    page = opened(traced)
    page.get_by_label("boxes of the answers").uncheck()
    page.get_by_label("pdrop reroute").check()
    box = page.locator(".item svg.picture")
    lights = {}
    for stage in ("Home", "End"):
        page.get_by_role("slider").focus()
        page.keyboard.press(stage)
        drawn = Image.open(io.BytesIO(box.screenshot())).convert("L")
        step = drawn.width / 4
        lights[stage] = [
            drawn.getpixel((int((at % 4 + 0.5) * step), int((at // 4 + 0.5) * step))) for at in range(16)
        ]
    darker = [after < 0.5 * before for before, after in zip(lights["Home"], lights["End"], strict=True)]
    assert darker == [state == "d" for state in runs.REROUTED[1]]


def test_the_theme_can_be_chosen(opened):
    """The switch overrules the system, both ways, for the page and its charts."""
    page = opened(runs.PROFILE, scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "document.querySelector('.plot .xtick text, .plot .ytick text').style.fill"
    light = page.evaluate(ground), page.evaluate(ink)
    page.get_by_label("Theme").select_option("dark")
    dark = page.evaluate(ground), page.evaluate(ink)
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    page.get_by_label("Theme").select_option("")
    assert (page.evaluate(ground), page.evaluate(ink)) == light


def test_paper_is_light(opened):
    """Printed from the dark theme, the page is black on white, its charts too, and it is not empty."""
    page = opened(runs.PROFILE, scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden()
    assert len(page.pdf()) > 20_000


def test_the_keyboard_reaches_everything(opened, traced):
    """Tab visits every control, header, table and fold of the page, and each shows that it has the focus."""
    page = opened(runs.COMPARISON, traced)
    wanted = page.evaluate(
        "Array.from(document.querySelectorAll('a, button, select, input, summary, [tabindex]')).filter("
        "one => one.checkVisibility() && !(one.type === 'radio' && !one.checked)).length"
    )
    page.evaluate("document.body.tabIndex = -1; document.body.focus()")
    reached, bare = set(), []
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        at = page.evaluate(
            "(() => { const one = document.activeElement; if (one === document.body) return null;"
            "const all = Array.from(document.querySelectorAll('*')); const style = getComputedStyle(one);"
            "return [all.indexOf(one), style.outlineStyle !== 'none', one.outerHTML.slice(0, 80)]; })()"
        )
        if at is None:
            break
        reached.add(at[0])
        bare += [] if at[1] else [at[2]]
    assert len(reached) >= wanted
    assert bare == []


@pytest.mark.parametrize("text", [HOSTILE[1], HOSTILE[8], HOSTILE[9]], ids=["script", "link", "long"])
def test_hostile_text_does_nothing(opened, tmp_path, text):
    """Whatever a report says, no script runs, no policy is violated, no link leads out, the page fits."""
    report = hostile_eval(text)
    for item, more in zip(report["items"], HOSTILE, strict=False):
        item["question"] = more
        item["said"]["dense"]["answer"] = more
    first = runs.write(tmp_path / "eval.json", report)
    page = opened(first, runs.write(tmp_path / "sweep.json", hostile_sweep(text)), width=375)
    page.locator(".plot").first.hover()
    assert page.said == []
    assert page.title().startswith("reroute: ")
    assert page.locator("a:not([href^='#']), img, iframe, object, embed").count() == 0
    assert page.locator("svg a").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_a_script_that_gets_in_does_not_run(opened):
    """The policy is alive: a script, a handler and a picture from elsewhere, put in by hand, are refused."""
    page = opened(runs.COMPARISON)
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend',"
        ' \'<img src="https://example.org/a.png" onerror="document.title=1">\');'
        "const one = document.createElement('script'); one.textContent = 'document.title = 2';"
        "document.body.append(one);"
    )
    page.wait_for_timeout(100)
    assert page.title().startswith("reroute: ")
    refused = " ".join(said for said in page.said if "Content Security Policy" in said)
    assert all(what in refused for what in ("inline event handler", "inline script", "img-src data:"))
