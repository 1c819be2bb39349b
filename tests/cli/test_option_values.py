"""What flags take, and what they say of anything else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etl.cli.options import (
    parse_duration,
    parse_endpoint,
    parse_percent,
    parse_rate,
    parse_reject_limit,
    parse_row_minimum,
)
from etl.errors import JobError
from etl.job.spec import parse_job
from tests.examples import each_row


@each_row(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("500ms", 0.5), ("15", 15), ("0.05", 0.05), ("1.5m", 90)],
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


def test_a_rate_is_a_number_or_max() -> None:
    assert parse_rate("max") == math.inf
    assert parse_rate("2.5") == 2.5


def test_a_reject_limit_is_rows_or_a_share() -> None:
    assert (parse_reject_limit("100").count, parse_reject_limit("100").percent) == (100, None)
    assert (parse_reject_limit("0.5%").count, parse_reject_limit("0.5%").percent) == (None, 0.5)
    assert parse_reject_limit("100 %").percent == 100


def test_a_share_is_a_percentage() -> None:
    assert (parse_percent("50%"), parse_percent("0.5 %"), parse_percent("100%"), parse_percent("0%")) == (
        50,
        0.5,
        100,
        0,
    )
    for wrong in ("50", "101%", "-1%", "%", "5%%"):
        with pytest.raises(click.BadParameter, match=r"use e\.g\. 50%"):
            parse_percent(wrong)


@given(st.text().filter(lambda text: not any("0" <= letter <= "9" for letter in text)))
@example("-1")
@example("1e")
@example("1 000")
def test_anything_else_is_told_with_an_example(text: str) -> None:
    for take, sample in (
        (parse_duration, "90s"),
        (parse_rate, "max"),
        (parse_reject_limit, "0.5%"),
        (parse_percent, "50%"),
        (parse_row_minimum, "90%"),
    ):
        if text != "max":
            with pytest.raises(click.BadParameter, match=sample):
                take(text)


def job_with(option: str, text: str) -> None:
    given = f"run: {{{option}: {json.dumps(text)}}}"
    parse_job(f"source: x.csv\nidentification: {{user_id: id}}\n{given}", name="job.yml", folder=Path())


@each_row(
    ("option", "parse", "taken"),
    [
        ("rate", parse_rate, ["max", "1", "0.5", "0", "-1", "1e3", "maximum", ""]),
        (
            "max_rejects",
            parse_reject_limit,
            ["0", "100", "1%", "0.5 %", "100%", "100.0%", "101%", "-1%"],
        ),
        ("min_rows", parse_row_minimum, ["0", "1000", "90%", "100 %", "100.5%", "150%", "1000%", "90"]),
        ("max_absent", parse_percent, ["5%", "0%", "100%", "100.1%", "5", "5%%"]),
        ("max_outage", parse_duration, ["90s", "1.5m", "500ms", "15", "-1s", "1 h", "1d", "s"]),
    ],
)
def test_the_job_file_takes_what_the_command_line_takes(
    option: str, parse: Callable[[str], object], taken: list[str]
) -> None:
    for text in taken:
        fits = []
        for read in (parse, partial(job_with, option)):
            try:
                read(text)
            except (click.BadParameter, JobError):
                fits.append(False)
            else:
                fits.append(True)
        assert fits[0] is fits[1], text


def test_an_endpoint_is_a_base_url_or_a_region() -> None:
    assert parse_endpoint("eu") == "https://api.eu.amplitude.com"
    assert parse_endpoint("http://127.0.0.1:8900/") == "http://127.0.0.1:8900"
    for wrong in ("127.0.0.1:8900", "ftp://host", "https://host?key=1", "https://me:pw@host", "https://"):
        with pytest.raises(click.BadParameter, match=r"use e\.g\. https://") as caught:
            parse_endpoint(wrong)
        assert "pw" not in caught.value.message
