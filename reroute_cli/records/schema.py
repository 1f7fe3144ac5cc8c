"""Every kind of record with its model, and the JSON Schema that follows from it.

A schema is made from the model when it is asked for, and pinned by its digest in a test. Listing them imports
no model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"
KINDS: dict[str, tuple[int, str]] = {
    "answer": (2, "answer.AnyAnswer"),
    "batch": (2, "batch.BatchSummary"),
    "benchmarks": (1, "lists.BenchmarkList"),
    "check": (1, "lists.Check"),
    "comparison": (2, "comparison.Comparison"),
    "cost": (2, "sweep.CostBlock"),
    "env": (1, "lists.Installation"),
    "eval": (2, "evaluation.Evaluation"),
    "lmms_costs": (2, "batch.LmmsCosts"),
    "method": (1, "lists.ShownMethod"),
    "methods": (1, "lists.MethodList"),
    "models": (1, "lists.ModelList"),
    "plan": (2, "plan.Plan"),
    "profile": (2, "lists.ShownProfile"),
    "profiles": (2, "lists.ProfileList"),
    "report": (2, "report.Report"),
    "sweep": (2, "sweep.SweepReport"),
    "trace": (2, "trace.TraceRecord"),
    "tune": (2, "tune.TuneReport"),
}
"""Kind -> its version, and its module and class in this package."""


def name_of(kind: str) -> str:
    """What a record of this kind says of itself: 'reroute.report/2'."""
    return f"reroute.{kind}/{KINDS[kind][0]}"


def kind_of(name: str) -> str:
    """The kind in such a name, whatever its version: 'report'."""
    return name.removeprefix("reroute.").partition("/")[0]


def model_of(kind: str) -> type[BaseModel]:
    """The pydantic model of a kind."""
    module, _, name = KINDS[kind][1].partition(".")
    model: type[BaseModel] = getattr(import_module(f"reroute_cli.records.{module}"), name)
    return model


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema of what a record of this kind is written as."""
    return {"$schema": DIALECT} | model_of(kind).model_json_schema(by_alias=True, mode="serialization")
