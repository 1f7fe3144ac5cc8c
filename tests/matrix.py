"""Which method works with which family: `python -m tests.matrix` writes it into routing/methods/README.md.

A method works everywhere, unless it chooses at the vision tower: then where the family's tower can be asked;
or makes images smaller: then where that makes them fewer tokens.
Needs no torch.
"""

from __future__ import annotations

from pathlib import Path

from routing.families import FAMILIES, family_of
from routing.families.family import Family, Missing
from routing.methods import OWN, Method

PAGE = Path(__file__).resolve().parents[1] / "routing" / "methods" / "README.md"
BEGIN, END = "<!-- matrix: python -m tests.matrix -->\n", "<!-- end of the matrix -->"
OTHERS = "types without a file"


def why_not(method: Method, family: Family) -> str | None:
    """Why a method can't be had with a family, or gains nothing; None where it works."""
    if method.resizes and family.one_size:
        return "its processor brings every image to one size, and a smaller one saves nothing"
    chooses = any(selection.at_the_tower for selection in method.selections.values())
    missing = family.vision_stage
    return missing.because if chooses and isinstance(missing, Missing) else None


def table() -> str:
    """A row a method, a column a family, and below it the reasons that its cells number."""
    columns = {", ".join(family.model_types): family for family in FAMILIES.values()}
    columns[OTHERS] = family_of(OTHERS)
    reasons: dict[str, int] = {}
    rows = [f"| method | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    for method in OWN.values():
        whys = [why_not(method, family) for family in columns.values()]
        cells = [
            "yes" if why is None else f"no ({reasons.setdefault(why, len(reasons) + 1)})" for why in whys
        ]
        rows.append(f"| `{method.name}` | {' | '.join(cells)} |")
    return "\n".join([*rows, "", *(f"{number}. {why}" for why, number in reasons.items())]) + "\n"


def main() -> None:
    """Write the table between its markers."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
