"""`reroute schema`: the JSON Schema of each kind of record."""

from __future__ import annotations

import difflib

from reroute_cli.console.command_options import SchemaName
from reroute_cli.console.errors import UsageError
from reroute_cli.console.output import Sink
from reroute_cli.records.schema import KINDS, name_of, schema_of


def schema(wanted: SchemaName) -> None:
    """Print the JSON Schema of a kind of record; without NAME, list the kinds."""

    if wanted.name is None:
        for kind in KINDS:
            Sink().result(name_of(kind))
        return
    for kind in KINDS:
        if wanted.name in (kind, name_of(kind), name_of(kind).removeprefix("reroute.")):
            Sink().json(schema_of(kind))
            return
    close = difflib.get_close_matches(wanted.name, KINDS, n=1)
    hint = f"did you mean '{close[0]}'? There are" if close else "choose one of"
    raise UsageError(f"there is no schema '{wanted.name}': {hint} {', '.join(map(name_of, KINDS))}")
