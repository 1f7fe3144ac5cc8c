"""How large a page gets: many answers, many boxes and many pictures stay below the limit."""

import json
import random
import statistics

import pytest

from reroute_cli.views.write import charts, html
from tests.cli.views.pages import samples_of_runs as runs


def test_many_boxes_over_pictures_are_counted(page, tmp_path, monkeypatch):
    """A page whose boxes take more room than its pictures is below the limit to the byte, and shows some."""
    record = json.loads(runs.ANSWERS.read_text("utf-8").splitlines()[0])
    path = tmp_path / "many.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(60):
            boxes = [[float(at), 0.0, at + 10.0, 10.0] for at in range(100)]
            changed = record | {"key": f"{number}", "question": f"{number}?", "boxes": boxes}
            file.write(json.dumps(changed) + "\n")
    monkeypatch.setattr(html, "LARGEST", 5_050_000)
    seen = page(path)
    assert (tmp_path / "page.html").stat().st_size <= html.LARGEST
    assert 1 < len(seen.having(klass="item")) < 60
    assert "of 60 questions" in seen.text
    assert "image" in {tag for tag, _ in seen.elements}


def test_many_values_are_thinned_by_rank():
    """Of 50,000 values 1,000 are drawn, with the same least, largest and quartiles."""
    source = random.Random(7)
    values = [source.lognormvariate(0, 1) for _ in range(50_000)]
    drawn = charts.by_rank(values, 1_000)
    assert len(drawn) == 1_000
    assert (drawn[0], drawn[-1]) == pytest.approx((min(values), max(values)))
    for mine, true in zip(statistics.quantiles(drawn), statistics.quantiles(values), strict=True):
        assert abs(mine / true - 1) < 0.01


def test_schedules_of_one_name_are_told_apart_by_their_layers(page, tmp_path):
    """The same method, action and ratio at other decoder layers are two rows, two answers."""
    records = [json.loads(line) for line in runs.ANSWERS.read_text("utf-8").splitlines()]
    routed = next(record for record in records if record["schedule"]["stages"])
    other = json.loads(json.dumps(routed))
    other |= {"key": "other", "answer": "something else"}
    other["schedule"]["stages"] = [stage | {"layer": 5} for stage in routed["schedule"]["stages"][:1]]
    path = tmp_path / "two.jsonl"
    path.write_text(f"{json.dumps(routed)}\n{json.dumps(other)}\n", "utf-8")
    layers = "+".join(str(stage["layer"]) for stage in routed["schedule"]["stages"])
    text = page(path).text
    assert f"@{layers}" in text
    assert "@5" in text
    assert "under 2 schedules" in text
