"""The lists of what there is, as tables: methods, models, profiles, benchmarks, and what is installed."""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.records.installation import Installation
from reroute_cli.records.lists import BenchmarkList, MethodList, ModelList, ProfileList
from reroute_cli.render.draw import DIM, STRONG, Page, lines, plain, table

_BARE = ("packages", "settings")  # groups whose names speak for themselves


def method_list(record: MethodList) -> Page:
    """A row for each method: its actions, what it does, and where it was published."""
    rows = [
        (
            one.name,
            ", ".join(one.actions),
            lines(one.summary, *([f"{one.title} {one.year}, {one.paper}"] if one.paper else [])),
        )
        for one in record.methods
    ]
    return [table(("method", "actions", "what it does"), rows)]


def model_list(record: ModelList) -> Page:
    """The families that can be routed, the models that are known by name, and what is refused."""
    families = [(row.model_type, row.title, row.boxes or "–") for row in record.families]
    known = [(row.name, row.hub, row.layers, row.visual_tokens) for row in record.known]
    return [
        plain("Families that can be routed: any checkpoint of theirs, by hub id or folder", STRONG),
        table(("model_type", "models", "boxes"), families),
        plain(""),
        plain("Models known by name: 'plan' and '--load-format dummy' need no download", STRONG),
        table(("name", "hub id", "layers", "visual"), known, right=(2, 3)),
        plain(""),
        plain("Families that are refused", STRONG),
        table(("model_type", "because"), [(row.model_type, row.reason) for row in record.refused]),
    ]


def profile_list(record: ProfileList) -> Page:
    """A row for each profile: where it comes from, and its average number of visual tokens."""
    rows = [
        (
            one.name,
            one.origin,
            "–"
            if one.visual_tokens_per_layer is None
            else f"{one.visual_tokens_per_layer:.1f} of {one.visual_tokens}",
        )
        for one in record.profiles
    ]
    return [table(("profile", "origin", "visual tokens/layer"), rows, right=(2,))]


def benchmark_list(record: BenchmarkList) -> Page:
    """A row for each benchmark: its name, what it is, its splits (the first is the default), its source."""
    rows = [(one.name, one.title, ", ".join(one.splits), one.source) for one in record.benchmarks]
    told = dict.fromkeys(one.notes for one in record.benchmarks if one.notes)
    notes = [
        f"{', '.join(one.name for one in record.benchmarks if one.notes == note)}: {note}" for note in told
    ]
    drawn: Page = [table(("--bench", "questions", "--split", "from"), rows)]
    return [*drawn, *([plain("")] if notes else []), *(plain(note, DIM) for note in notes)]


def installation(record: Installation) -> Page:
    """Every value with a name, groups laid flat."""
    return [table(("", ""), list(_values(record)))]


def _values(record: Installation) -> Iterator[tuple[str, str]]:
    for name, value in record.as_dict().items():
        if name == "schema":
            continue
        parts = value if isinstance(value, list) else [value]
        for part in parts or [None]:
            if not isinstance(part, dict):
                yield name, "none" if part is None else str(part)
                continue
            for key, inner in part.items():
                label = key if name in _BARE else f"{name.removesuffix('s')} {key.replace('_', ' ')}"
                shown = ", ".join(inner) if isinstance(inner, list) else inner
                yield label, "none" if shown is None else str(shown)
