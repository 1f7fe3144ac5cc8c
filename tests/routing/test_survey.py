"""The committed survey of model types: its page shows what was found, and what is cheap to see is so."""

import json

import pytest
import transformers

from routing.checks.check import INVARIANTS
from routing.checks.defaults import default_config, model_types
from routing.families import FAMILIES, describe_config
from tests.survey import BEGIN, END, FOUND, PAGE, refusal, table

SURVEY = json.loads(FOUND.read_text(encoding="utf-8"))
ROWS = {row["type"]: row for row in SURVEY["types"]}
ROUTED = [row for row in ROWS.values() if "refused" not in row and not row["failed"]]
same_release = pytest.mark.skipif(
    transformers.__version__ != SURVEY["transformers"],
    reason=f"this transformers is not that of the survey, {SURVEY['transformers']}",
)


def test_the_page_shows_what_was_found():
    """`python -m tests.survey` wrote both."""
    page = PAGE.read_text(encoding="utf-8")
    shown = page.split(BEGIN)[1].split(END)[0]
    assert shown.strip() == table(SURVEY["types"], SURVEY["transformers"]).strip()


@same_release
def test_every_type_has_its_row():
    """None of the library's image-text-to-text types is left out."""
    assert tuple(ROWS) == model_types()


def test_more_than_sixty_types_are_routed_with_every_invariant():
    """And every family that has a file is among them."""
    assert len(ROUTED) >= 60
    assert all(row["held"] == len(INVARIANTS) for row in ROUTED)
    routed = {row["type"] for row in ROUTED}
    assert set(FAMILIES) <= routed


@same_release
@pytest.mark.parametrize("kind", [kind for kind, row in ROWS.items() if "refused" in row])
def test_a_refused_type_is_refused_with_its_sentence(kind):
    """The sentence of the page is the engine's; where the library itself fails, the config is no reason."""
    said = ROWS[kind]["refused"]
    assert refusal(kind) == (None if said.startswith("the library does not run it alone") else said)


@same_release
@pytest.mark.parametrize("kind", [row["type"] for row in ROUTED])
def test_a_routed_type_is_described_by_its_config(kind):
    """Placeholders and a kind for each decoder layer."""
    info = describe_config(default_config(kind))
    assert info.image_token_ids
    assert len(info.kinds) == info.layers
