"""What a plan file has: the parts that are read of it, with their types. It may have more."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

PLAN_FORMAT: Final = 1


@dataclass(frozen=True)
class _File:
    name: str
    bytes: int | None
    sha256: str


@dataclass(frozen=True)
class _Inputs:
    job: str
    endpoint: str
    transport: str
    keys: dict[str, str]
    transform: str | None
    full: bool
    identifications: int
    bytes: int
    files: list[_File]


@dataclass(frozen=True)
class _Snapshot:
    run: int
    written: str
    users: int
    sha256: str


@dataclass(frozen=True)
class _Identifications:
    count: int
    sha256: str


@dataclass(frozen=True)
class _Property:
    property: str
    column: str | None
    filled: int
    sent: int


@dataclass(frozen=True)
class _Faults:
    column: str
    count: int


@dataclass(frozen=True)
class _Changes:
    new: int
    changed: int
    unchanged: int


@dataclass(frozen=True)
class _Guard:
    guard: str
    limit: str
    found: str
    stops: str | None


@dataclass(frozen=True)
class _Warning:
    message: str


@dataclass(frozen=True)
class _Planned:
    job: str
    endpoint: str
    rows: int
    accepted: int
    unchanged: int
    merged: int
    rejected: int
    requests: int
    bytes: int
    seconds: float
    users: int
    changes: _Changes | None
    properties: list[_Property]
    rejected_values: list[_Faults]
    skipped: list[_Faults]
    rejects_by_code: dict[str, int]
    guards: list[_Guard]
    warnings: list[_Warning]


@dataclass(frozen=True)
class _PlanFile:
    propsync: str
    made: str
    digest: str
    inputs: _Inputs
    snapshot: _Snapshot | None
    identifications: _Identifications
    plan: _Planned


@cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(_PlanFile)


def format_fault(text: bytes) -> str | None:
    """Return what is wrong with the text of a plan file, such as `plan.rows: field required`, or None."""
    try:
        _adapter().validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        message = str(first["msg"])
        return f"{'.'.join(map(str, first['loc'])) or 'it'}: {message[:1].lower()}{message[1:]}"
    return None
