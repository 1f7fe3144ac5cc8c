"""The arithmetic of the reduction table, on made-up answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routing
from samples.pocket_training.evaluate import Item
from samples.reduction_table import Arm, Comparison, arms, choose, markdown, run, table


@pytest.fixture
def items() -> list[Item]:
    """Twenty pictures with one question each of three kinds."""
    kinds = ["where", "exists", "count"] * 20
    return [Item(str(n), kind, Path(f"{n // 3:02d}.webp"), "", "yes", None) for n, kind in enumerate(kinds)]


def line(method: str, action: str, right: str | None, reason: str | None = None) -> dict[str, Any]:
    """One made-up line of arms.jsonl."""
    ratio = 0.0 if method == "none" else 0.5
    fields = {"method": method, "action": action, "ratio": ratio, "right": right, "reason": reason}
    return {**fields, "achieved": ratio, "stages": []}


def test_only_boxes_and_yes_no_of_the_first_pictures_are_asked(items: list[Item]) -> None:
    """Five pictures with one question of each kind give ten questions."""
    chosen = choose(items, scenes=5)
    assert {item.kind for item in chosen} == {"where", "exists"}
    assert len(chosen) == 10


def test_a_difference_is_the_mean_of_the_paired_differences(items: list[Item]) -> None:
    """Ten boxes lost out of twenty are minus one half, with an interval around it and not around zero."""
    compare = Comparison(items, boxes=True)
    lost = np.array([-float(item.kind == "where" and int(item.id) < 30) for item in items])
    estimate = compare.mean(lost)
    assert (estimate.value, compare.count) == (-0.5, 20)
    assert -0.8 < estimate.low < -0.5 < estimate.high < -0.2


def test_equal_arms_differ_by_exactly_nothing(items: list[Item]) -> None:
    """Pairing leaves no spread where every answer is the same."""
    right = "10" * 30
    rows = table([line("none", "prune", right), line("fastv", "prune", right)], items)
    assert rows[1]["boxes"]["minus_dense"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_reroute_is_compared_with_prune_of_the_same_method_and_ratio(items: list[Item]) -> None:
    """Reroute right everywhere against prune wrong everywhere is plus one."""
    lines = [
        line("none", "prune", "1" * 60),
        line("fastv", "prune", "0" * 60),
        line("fastv", "reroute", "1" * 60),
    ]
    rows = table(lines, items)
    assert rows[1]["boxes"]["minus_prune"] is None
    assert rows[2]["yes_no"]["minus_prune"]["value"] == 1


def test_an_unreachable_arm_is_listed_with_its_reason(items: list[Item]) -> None:
    """The table has a row that says why there is no number."""
    rows = table([line("none", "prune", "1" * 60), line("nuwa", "prune", None, "out of reach")], items)
    assert "| nuwa | prune | 0.5 | out of reach |" in markdown(rows)


def test_every_schedule_reaches_its_ratio() -> None:
    """On 12 layers and 256 visual tokens each arm averages what it says, or says why not."""
    every = list(arms(layers=12, visual=256))
    assert (every[0].ratio, every[0].schedule) == (0.0, routing.Schedule())
    assert len(every) == 1 + 4 * 4 * 2 + 2 * 2 * 2
    for arm in every:
        if arm.schedule is None:
            assert arm.reason
        else:
            assert arm.schedule.achieved_ratio(256, 12) == pytest.approx(arm.ratio, abs=0.01)


def test_a_second_run_asks_nothing_again(
    tmp_path: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arms that stand in arms.jsonl are read from there."""
    one = Arm("none", "prune", 0.0, routing.Schedule())
    monkeypatch.setattr("samples.reduction_table.arms", lambda layers, visual: iter([one]))
    monkeypatch.setattr("samples.reduction_table.evaluate", lambda *_: pytest.fail("asked again"))
    written = {"key": f"{one.name} {one.schedule.digest()} 60", **line("none", "prune", "1" * 60)}
    (tmp_path / "arms.jsonl").write_text(json.dumps(written) + "\n")
    model = type("Model", (), {"config": type("Config", (), {"image_seq_length": 256})})
    monkeypatch.setattr(
        "samples.reduction_table.routing.describe", lambda _: type("Info", (), {"layers": 12})
    )
    assert run(tmp_path, model, None, items, 8) == [written]
