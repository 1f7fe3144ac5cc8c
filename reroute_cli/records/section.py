"""The base of every part of a record: strict fields, and a reason beside every null.

Base units only: FLOPs and bytes are int, times are seconds, boxes are pixels of the original picture.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Source = Literal["measured", "counted", "estimated"]
CHAT_TEMPLATE = "^(model|(family|file) [0-9a-f]{64})$"


class Part(BaseModel):
    """A part of a record: no unknown fields, no NaN, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Section(Part):
    """A part of a record; every null in it needs a reason, but for fields whose null says it all."""

    plain_nulls: ClassVar[frozenset[str]] = frozenset()

    reasons: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _explains_nulls(self) -> Section:
        fields = set(type(self).model_fields) - self.plain_nulls
        nulls = {name for name in fields if getattr(self, name) is None}
        if missing := nulls - set(self.reasons):
            raise ValueError(f"null without a reason: {', '.join(sorted(missing))}")
        if stale := set(self.reasons) - nulls:
            raise ValueError(f"a reason for what is known: {', '.join(sorted(stale))}")
        return self


def as_json(record: BaseModel) -> dict[str, Any]:
    """A record as plain JSON values, `schema` first and `reasons` last in each section."""
    plain: dict[str, Any] = _reasons_last(record.model_dump(mode="json", by_alias=True))
    return plain


def _reasons_last(value: Any) -> Any:
    if isinstance(value, list):
        return [_reasons_last(part) for part in value]
    if not isinstance(value, dict):
        return value
    ordered = {name: _reasons_last(part) for name, part in value.items() if name != "reasons"}
    return ordered | ({"reasons": value["reasons"]} if "reasons" in value else {})
