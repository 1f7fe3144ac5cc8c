"""The page of a sweep, from reports made by hand: marks, the headline's count, and what is warned of."""

from reroute_cli.views.document import BLANK, TEXT, Text
from reroute_cli.views.sweep import document
from tests.cli import sweeps


def _difference(value, low, high, base="x"):
    more = {"n": 2, "images": 2, "only_this": 1, "only_base": 0, "mcnemar_p": 0.0004}
    return {"base": base, "title": "t", "value": value, "low": low, "high": high} | more


def _page(report, **options):
    """What text has: the rows of each table by its first headers, as lines of cells, and all sentences."""
    found, tables = document(report, **options), {}
    for table in found.tables:
        if TEXT in table.on:
            ((columns, rows),) = table.parts()
            key = columns[1 if table.grouped else 0].title
            tables[key] = [tuple(row.get(column.key, BLANK).line for column in columns) for row in rows]
            tables[f"{key}: titles"] = [column.title for column in columns]
    return tables, [block.text for block in found.blocks if isinstance(block, Text)]


def _with(**parts):
    plain = sweeps.build().as_dict() | parts
    return type(sweeps.build()).model_validate(plain)


def test_arms_on_and_near_the_front_are_marked():
    """• where nobody is better, ~ where the interval to the better one holds 0, nothing where it does not."""
    beaten = [
        {"arm": "fastv-prune 0.5", "by": "fastv-prune 0.8", "score": _difference(-0.1, -0.2, 0.1)},
        {"arm": "fastv-reroute 0.5", "by": "fastv-prune 0.8", "score": _difference(-0.3, -0.4, -0.2)},
    ]
    front = {"score": "box_acc_at_05", "cost": "prefill_flops", "arms": ["fastv-prune 0.8"], "beaten": beaten}
    tables, _ = _page(_with(fronts=[front, front | {"score": "words_right"}]))
    cells = [cell for row in tables["box Acc@0.5"] for cell in row[2:4]]
    assert [cell for cell in cells if cell.startswith("•")] == ["•0.30"]
    assert [cell for cell in cells if cell.startswith("~")] == ["~0.60"]
    assert "0.70" in cells
    assert tables["Pareto front"] == [("fastv-prune 0.8", "0.20×", "0.30 [0.25, 0.35]", "1", "1")]


def test_the_headline_counts_differences_that_leave_0_out():
    """Better and worse are those whose interval does; the rest is neither."""
    values = [(0.3, 0.1, 0.5), (0.1, -0.1, 0.3), (-0.2, -0.3, -0.1), (0.2, 0.1, 0.3), (0.0, None, None)]
    pairs = []
    for value, low, high in values:
        part = _difference(value, low, high)
        part |= {"reasons": {"low": "none", "high": "none"} if low is None else {}}
        names = {"place": "fastv", "prune": "fastv-prune 0.5", "reroute": "fastv-reroute 0.5"}
        pairs.append(names | {"ratio": 0.5, "budget": None, "scores": {"box_acc_at_05": part}})
    _, sentences = _page(_with(pairs=pairs))
    assert "box Acc@0.5 better in 2 of 5, worse in 1" in sentences[0]


def test_amounts_out_of_reach_are_told_in_one_sentence_an_arm():
    """The reason of the first, before it all the amounts it is a reason for."""
    arms = [
        sweeps.arm(f"fastv@9-prune {ratio}", "fastv", "prune", [9], ratio, refused=f"not at {ratio}")
        for ratio in (0.7, 0.8)
    ]
    _, sentences = _page(sweeps.build([*sweeps.routed()[:2], *arms]))
    assert [text for text in sentences if "not asked" in text] == ["not asked at 0.7, 0.8: not at 0.7"]


def test_a_reason_that_two_arms_share_is_told_once():
    """A budget beyond the visual tokens is out of reach whatever becomes of the others."""
    arms = [
        sweeps.arm(f"fastv-{action} 300", "fastv", action, ratio=0.1, refused="too many")
        for action in ("prune", "reroute")
    ]
    _, sentences = _page(sweeps.build([*sweeps.routed()[:2], *arms]))
    assert [text for text in sentences if "not asked" in text] == ["not asked at 0.1: too many"]


def test_a_cost_that_no_arm_knows_has_no_column():
    """These reports have FLOPs and no KV cache or times."""
    tables, _ = _page(sweeps.build())
    titles = ["method", "prune · reroute", "visual tokens/layer", "prefill FLOPs"]
    assert tables["prune · reroute: titles"] == titles
    assert ("fastv", "0.8", "–", "0.20×") in tables["prune · reroute"]


def test_a_front_of_nothing_says_why():
    """Where no arm's cost is known, there is no front, and a cost is named that is always known."""
    fronts = [{"score": name, "cost": "ttft", "arms": [], "beaten": []} for name in sweeps.SCORES]
    report = _with(fronts=fronts)
    report.arms[0].unknown["ttft"] = "no clock"
    _, sentences = _page(report)
    assert "no front without TTFT: no clock; try --against visual-tokens" in sentences


def test_verbose_shows_who_beats_whom():
    """Every arm that is not on the front, with its distance."""
    beaten = [{"arm": "fastv-prune 0.5", "by": "dense", "score": _difference(-0.1, -0.2, 0.1)}]
    front = {"score": "box_acc_at_05", "cost": "visual_tokens_per_layer", "arms": ["dense"], "beaten": beaten}
    tables, _ = _page(_with(fronts=[front, front | {"score": "words_right"}]), verbose=True)
    assert tables["not on the front"] == [("fastv-prune 0.5", "128", "≈−0.10 [−0.20, 0.10]", "dense")]
