"""Settled chunks and checkpoints for tests."""

from __future__ import annotations

from etl.model import Reject, Settled, Stretch, Tally

IDENTITY = {"job": "abc", "endpoint": "http://127.0.0.1", "limits": {"identifications": 500}, "source": []}


def settled(first: int, rows: int, *, rejects: tuple[Reject, ...] = (), file: int = 0) -> Settled:
    tally = Tally(rows=rows, accepted=rows - len(rejects), rejected=len(rejects))
    return Settled(Stretch(file, first, first + rows), tally, rejects)


def reject(row: int, code: str = "missing_id", values: str = '{"id":""}') -> Reject:
    return Reject("users.csv", row, code, "column id: there is no user_id", values)
