"""The published JSON Schemas, one file a kind and version; the records' pydantic models write them.

    python -m reroute_cli.schemas          rewrites every file from the models; a test checks them

Knows the records and nothing that is in them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from reroute_cli.console.output import write_file
from reroute_cli.records.answer import AnyAnswer
from reroute_cli.records.batch import BatchSummary
from reroute_cli.records.comparison import Comparison
from reroute_cli.records.evaluation import Evaluation
from reroute_cli.records.installation import Check, Installation
from reroute_cli.records.lists import BenchmarkList, MethodList, ModelList, ProfileList, ShownProfile
from reroute_cli.records.lmms_costs import LmmsCosts
from reroute_cli.records.plan import Plan
from reroute_cli.records.report import Report
from reroute_cli.records.sweep import CostBlock, SweepReport
from reroute_cli.records.trace import TraceRecord
from reroute_cli.records.tune import TuneReport

FOLDER = Path(__file__).resolve().parent
MODELS: dict[str, type[BaseModel]] = {
    "answer-1": AnyAnswer,
    "batch-1": BatchSummary,
    "benchmarks-1": BenchmarkList,
    "check-1": Check,
    "comparison-1": Comparison,
    "cost-1": CostBlock,
    "env-1": Installation,
    "eval-1": Evaluation,
    "lmms_costs-1": LmmsCosts,
    "methods-1": MethodList,
    "models-1": ModelList,
    "plan-1": Plan,
    "profile-1": ShownProfile,
    "profiles-1": ProfileList,
    "report-1": Report,
    "sweep-1": SweepReport,
    "trace-1": TraceRecord,
    "tune-1": TuneReport,
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of what a record writes."""
    return {"$schema": _DIALECT} | model.model_json_schema(by_alias=True, mode="serialization")


def published(name: str) -> dict[str, Any]:
    """A schema as it is published, by the name of its file without the suffix."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def update() -> None:
    """Rewrite every published schema."""
    for name, model in MODELS.items():
        write_file(FOLDER / f"{name}.json", json.dumps(schema_of(model), indent=2) + "\n")
