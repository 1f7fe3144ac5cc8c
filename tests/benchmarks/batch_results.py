"""From the courses of interleaved runs to how many times faster than batch 1 each batch size is.

A ratio is the quotient of median seconds, batch 1 over the batch, with a bootstrap interval over rounds; the
same of processor seconds, which another program on the machine hardly changes; and of plain `generate` at the
same batch size over this run. Waiting is the share of its own time that a run waited for prepared pictures.
Knows no model and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from reroute_cli.measure.stats import Quotient, ratio_of_medians

SCHEMA = "reroute.batch-speed/2"
PLAIN = "generate"  # the arm that is transformers alone


@dataclass(frozen=True)
class Course:
    """One run over all items, in seconds: of the clock, of the processor, and of waiting for pictures."""

    seconds: float
    busy: float
    waiting: float


def arm_results(
    courses: Mapping[int, Sequence[Course]], plain: Mapping[int, Sequence[Course]]
) -> dict[str, Any]:
    """Batch size -> medians, ratios to batch 1 and to plain `generate`, and every value; batch 1 is first."""
    return {str(size): _size_result(courses[1], plain[size], own) for size, own in courses.items()}


def _size_result(alone: Sequence[Course], plain: Sequence[Course], own: Sequence[Course]) -> dict[str, Any]:
    return {
        "seconds": median(one.seconds for one in own),
        "times_faster_than_generate": _ratio([one.seconds for one in plain], [one.seconds for one in own]),
        "times_less_processor_than_generate": _ratio([one.busy for one in plain], [one.busy for one in own]),
        "times_faster": _ratio([one.seconds for one in alone], [one.seconds for one in own]),
        "times_less_processor": _ratio([one.busy for one in alone], [one.busy for one in own]),
        "waiting_share": median(one.waiting / one.seconds for one in own),
        "raw": [asdict(one) for one in own],
    }


def _ratio(part: Sequence[float], whole: Sequence[float]) -> dict[str, Any]:
    found = ratio_of_medians(part, whole)
    assert found is not None, "a run takes time"
    return asdict(found)


def machine_of(report: Mapping[str, Any]) -> str:
    """'pocket, float32 on cpu (AMD EPYC, 2 threads)', of a report with a model."""
    machine, model = report["environment"]["cpu"], report["model"]
    where = f"{machine['model']}, {machine['torch_threads']} threads"
    return f"{model['name']}, {model['dtype']} on {model['device']} ({where})"


def table(report: Mapping[str, Any]) -> list[str]:
    """Markdown: a row for each schedule and size."""
    asked = f"{report['items']} items of at most {report['max_new_tokens']} new tokens"
    head = f"{machine_of(report)}: {asked}, {report['rounds']} rounds"
    columns = (
        "| schedule | batch | items/s | times faster | less processor | faster than generate "
        "| less processor than generate | waiting |"
    )
    rows = [
        _row(name, size, report["items"], found)
        for name, sizes in report["results"].items()
        for size, found in sizes.items()
    ]
    return [head, "", columns, f"|---{'|--:' * 7}|", *rows]


def _row(name: str, size: str, items: int, found: Mapping[str, Any]) -> str:
    parts = ("times_faster", "times_less_processor")
    keys = (*parts, *(f"{part}_than_generate" for part in parts))
    ratios = (_shown(Quotient(**found[key])) for key in keys)
    cells = (
        name,
        size,
        f"{items / found['seconds']:.2f}",
        *ratios,
        f"{found['waiting_share']:.1%}",
    )
    return f"| {' | '.join(cells)} |"


def _shown(ratio: Quotient) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.2f}"
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
