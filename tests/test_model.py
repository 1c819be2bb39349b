"""Tallies add up field by field."""

from __future__ import annotations

from dataclasses import astuple, fields

from etl.model import Tally


def test_every_count_is_added() -> None:
    one = Tally(*range(1, len(fields(Tally)) + 1))
    other = Tally(*range(100, 100 + len(fields(Tally))))
    assert astuple(one + other) == tuple(a + b for a, b in zip(astuple(one), astuple(other), strict=True))
