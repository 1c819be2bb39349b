"""A table in one test is as strict as a test for each of its rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples import each_row


def test_every_row_is_tried_and_each_that_fails_is_told(tmp_path: Path) -> None:
    tried = []

    @each_row("number", [1, 2, 0, 3])
    @each_row("sign", "+-")
    def divides(tmp_path: Path, number: int, sign: str) -> None:
        tried.append(f"{sign}{number}")
        (tmp_path / "left").touch(exist_ok=False)
        assert number != 2 or sign == "+"
        with pytest.raises(ZeroDivisionError):
            assert 1 / max(0, number - 2)

    with pytest.raises(BaseExceptionGroup, match="2 of 4 rows fail") as failed:
        divides(tmp_path=tmp_path)
    assert tried == ["+1", "-1", "+2", "-2", "+0", "-0", "+3", "-3"]
    two, three = failed.value.exceptions
    assert isinstance(two, BaseExceptionGroup)
    assert isinstance(three, BaseExceptionGroup)
    assert [type(fault) for fault in two.exceptions] == [AssertionError]
    assert [type(fault) for fault in three.exceptions] == [pytest.fail.Exception] * 2
    assert "'number': 2" in two.__notes__[0]
