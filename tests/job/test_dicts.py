from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from etl.errors import JobError
from etl.job import job_from_dict, parse_job

SMALL: dict[str, object] = {"identification": {"user_id": "id"}}


def told(data: dict[Any, Any]) -> list[str]:
    with pytest.raises(JobError) as caught:
        job_from_dict(data)
    assert all(fault.line is None for fault in caught.value.faults)
    return [fault.message for fault in caught.value.faults]


def test_a_dict_makes_the_job_that_its_file_makes() -> None:
    data = {
        "name": "n",
        "source": ("a.csv",),
        "identification": {
            "user_id": "id",
            "user_properties": {"a": {"value": [1, 2.5, "x", True]}, "b": {"column": "c", "type": "date"}},
        },
    }
    text = "name: n\nsource: a.csv\nidentification:\n  user_id: id\n  user_properties:\n"
    text += "    a: {value: [1, 2.5, x, true]}\n    b: {column: c, type: date}\n"
    assert job_from_dict(data, folder=Path("f")) == parse_job(text, name="job", folder=Path("f"))


def test_faults_of_a_dict_tell_the_path() -> None:
    assert told({"identification": {"user_id": "id", "user_propertys": {}}}) == [
        "identification.user_propertys: unknown key `user_propertys`; did you mean `user_properties`?"
    ]


def test_a_path_may_be_a_source() -> None:
    assert job_from_dict({**SMALL, "source": [Path("a") / "b.csv"]}).source == ("a/b.csv",)


def test_variables_come_from_the_caller() -> None:
    data = {**SMALL, "source": "${A}.csv"}
    assert job_from_dict(data, environ={"A": "x"}).source == ("x.csv",)
    assert told(data) == ["source.0: `source` needs the environment variable A, which is not set"]


@pytest.mark.parametrize("value", [dt.date(2024, 1, 1), b"x", {1, 2}, object(), "\ud800", {"a": "\ud800"}])
def test_what_no_file_could_hold_is_refused(value: object) -> None:
    data = {"identification": {"user_id": "id", "user_properties": {"p": {"value": value}}}}
    assert any("can't be used" in message for message in told(data))


def test_keys_are_text() -> None:
    assert "a key must be text" in told({**SMALL, 1: 2})


def test_data_that_holds_itself_is_refused() -> None:
    data: dict[str, object] = {"identification": {"user_id": "id"}}
    data["identification"] = {"user_id": "id", "user_properties": {"p": {"value": data}}}
    assert any("nested deeper" in message for message in told(data))
    wide: list[object] = ["x"]
    for _ in range(40):
        wide = [wide, wide]
    assert any("parts" in message for message in told({**SMALL, "name": wide}))


def test_numbers_are_not_taken_for_names() -> None:
    assert told({"identification": {"user_id": 2024}}) == [
        "identification.user_id: `user_id` must be a column's name, or a mapping such as {column: NAME}"
    ]
