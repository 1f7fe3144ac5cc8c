"""What is installed, `reroute.env/1`, and whether the engine is right on it, `reroute.check/1`.

Knows the records; no writer.
"""

from __future__ import annotations

from reroute_cli.records.installation import Check, Installation
from reroute_cli.views import wording as w
from reroute_cli.views.document import Cell, Column, Document, Text, Tone

_BARE = ("packages", "settings")  # groups whose names speak for themselves


def document(found: Installation, *, verbose: bool = False) -> Document:  # noqa: ARG001  it says all it has
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


def check_document(found: Check, *, verbose: bool = False) -> Document:  # noqa: ARG001  it says all it has
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
