"""Committed chunks and checkpoints for tests."""

from __future__ import annotations

from etl.model import CommittedRows, Reject
from etl.tally import RowRange, Tally

IDENTITY = {"job": "abc", "endpoint": "http://127.0.0.1", "limits": {"identifications": 500}, "source": []}


def committed(first: int, rows: int, *, rejects: tuple[Reject, ...] = (), file: int = 0) -> CommittedRows:
    tally = Tally(rows=rows, accepted=rows - len(rejects), rejected=len(rejects))
    return CommittedRows(RowRange(file, first, first + rows), tally, rejects)


def reject(row: int, code: str = "missing_id", values: str = '{"id":""}') -> Reject:
    return Reject("users.csv", row, code, "column id: there is no user_id", values)
