"""What there is: methods, models, profiles and benchmarks, a table each; and what is installed and checked.

Knows the records; no writer.
"""

from __future__ import annotations

from reroute_cli.console.units import UNKNOWN
from reroute_cli.records.lists import (
    BenchmarkList,
    Check,
    Installation,
    MethodList,
    ModelList,
    ProfileList,
    ShownProfile,
    UnfiledTypePart,
)
from reroute_cli.views import wording as w
from reroute_cli.views.document import Cell, Column, Document, Heading, Text, Tone

_BARE = ("packages", "settings")  # groups whose names speak for themselves


def methods(found: MethodList, *, verbose: bool = False) -> Document:  # noqa: ARG001  it says all it has
    """What each method can do, and where it was published."""
    rows = []
    for one in found.methods:
        source = f"{one.title} {one.year}, {one.paper}" if one.paper else ""
        what = Cell(one.summary, note=source, joint="\n")
        rows.append((w.words(one.name), w.words(", ".join(one.actions)), what))
    headers = w.columns("method", "actions", "what it does")
    return Document("methods", (w.table("Methods", headers, rows),))


def models(found: ModelList, *, verbose: bool = False) -> Document:  # noqa: ARG001  it says all it has
    """Families with a file, types without one, models known by name, types that are refused."""
    families = (map(w.words, (one.model_type, one.title, one.boxes or UNKNOWN)) for one in found.families)
    known = (
        (w.words(one.name), w.words(one.hub), w.counted(one.layers), w.counted(one.visual_tokens))
        for one in found.known
    )
    unfiled = [
        (w.words(one.model_type), w.words(", ".join(one.layer_kinds)), w.words(_standing(one)))
        for one in found.unfiled
    ]
    refused = (map(w.words, (one.model_type, one.reason)) for one in found.refused)
    numbers = ("layers", "visual")
    named = w.columns("name", "hub id", *numbers, right=numbers)
    return Document(
        "models",
        (
            Heading("Families that can be routed: any checkpoint of theirs, by hub id or folder"),
            w.table("Families that can be routed", w.columns("model_type", "models", "boxes"), families),
            Heading(
                f"Other types of transformers {found.transformers}: a checkpoint is checked when it is first "
                "loaded; of default configs this is what 'reroute check --family TYPE' has found"
            ),
            w.table("Other types", w.columns("model_type", "layers", "checked"), unfiled),
            Heading("Models known by name: 'plan' and '--load-format dummy' need no download"),
            w.table("Models known by name", named, known),
            Heading("Types that are refused"),
            w.table("Types that are refused", w.columns("model_type", "because"), refused),
        ),
    )


def _standing(one: UnfiledTypePart) -> str:
    if one.proven is None:
        return "not yet"
    return "proven" if one.proven else "fails: " + "; ".join(": ".join(each) for each in one.failed.items())


def profiles(found: ProfileList, *, verbose: bool = False) -> Document:  # noqa: ARG001  it says all it has
    """Every profile with its true average."""
    headers = w.columns("profile", "origin", "visual tokens/layer", right=("visual tokens/layer",))
    rows = []
    for one in found.profiles:
        average = one.visual_tokens_per_layer
        shown = UNKNOWN if average is None else f"{average:.1f} of {one.visual_tokens}"
        rows.append((w.words(one.name), w.words(one.origin), Cell(shown, average)))
    return Document("profiles", (w.table("Profiles", headers, rows),))


def profile(found: ShownProfile, *, verbose: bool = False) -> Document:  # noqa: ARG001  it says all it has
    """One profile with its stages."""
    numbers = ("layer", "keep_ratio")
    headers = w.columns(*numbers, right=numbers)
    rows = (map(w.counted, (stage["layer"], stage["keep_ratio"])) for stage in found.schedule["stages"])
    source = f"{found.origin}, {found.source}" if found.source else found.origin
    title = Text(f"{found.name}: {found.title}", Tone.HEADLINE)
    return Document("profile", (title, w.table("Stages", headers, rows), Text(source)))


def benchmarks(found: BenchmarkList, *, verbose: bool = False) -> Document:  # noqa: ARG001  it says all it has
    """A row for each benchmark: its name, what it is, its splits (the first is the default), its source."""
    headers = w.columns("--bench", "questions", "--split", "from")
    rows = (
        map(w.words, (one.name, one.title, ", ".join(one.splits), one.source)) for one in found.benchmarks
    )
    told = dict.fromkeys(one.notes for one in found.benchmarks if one.notes)
    notes = (
        f"{', '.join(one.name for one in found.benchmarks if one.notes == note)}: {note}" for note in told
    )
    return Document("benchmarks", (w.table("Benchmarks", headers, rows), *map(Text, notes)))


def installation(found: Installation, *, verbose: bool = False) -> Document:  # noqa: ARG001  it says all it has
    """Every value with a name, groups laid flat."""
    headers = (Column("name", ""), Column("value", ""))
    rows = []
    for group, value in found.model_dump(exclude={"schema_"}).items():
        for part in (value if isinstance(value, list) else [value]) or [None]:
            named = {group: part}
            if isinstance(part, dict):
                one = group.removesuffix("s")
                named = {
                    key if group in _BARE else f"{one} {key.replace('_', ' ')}": part[key] for key in part
                }
            for key, inner in named.items():
                shown = ", ".join(inner) if isinstance(inner, list) else inner
                rows.append((w.words(key), w.words("none" if shown is None else shown)))
    return Document("env", (w.table("What measurements here depend on", headers, rows),))


def check(found: Check, *, verbose: bool = False) -> Document:  # noqa: ARG001  it says all it has
    """A line a family: how many invariants hold, and the first thing to say of them."""
    installed = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    standing = f"this release was {'' if found.proven else 'not '}proven with them"
    proven = "; ".join(f"{name} {', '.join(known)}" for name, known in found.proven_releases.items())
    headers = (*w.columns("family", "holds", "seconds", right=("holds", "seconds")), Column("remark", ""))
    rows = []
    for family in found.families:
        failed = [finding for finding in family.findings if not finding.passed]
        told = failed or [finding for finding in family.findings if finding.detail]
        remark = f"{told[0].invariant}: {told[0].detail}" if told else ""
        held = len(family.findings) - len(failed)
        holds = Cell(f"{held} of {len(family.findings)}", held, tone="bad" if failed else "")
        seconds = Cell(f"{family.seconds:.1f}", family.seconds)
        rows.append((w.words(family.family), holds, seconds, w.words(remark)))
    tone = Tone.PASSED if found.passed else Tone.FAILED
    table = w.table("Every family", headers, rows)
    return Document("check", (Text(f"{installed}: {standing}", tone), table, Text(f"proven with {proven}")))
