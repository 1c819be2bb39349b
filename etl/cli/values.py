"""What flags take: numbers with units, rates, limits. Wrong ones are told with an example."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from etl.pipeline import RejectLimit, RowMinimum

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Seconds out of `90s`, `30m`, `2h`, `500ms` or a plain number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text.strip(), re.ASCII)
    if match is None:
        raise click.BadParameter(f"{text!r} is no duration; give one like 90s, 30m or 2h")
    return float(match[1]) * _UNITS[match[2]]


def per_second(text: str) -> float:
    """A rate above 0; `max` is infinity."""
    if text == "max":
        return float("inf")
    rate = float(text) if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII) else 0.0
    if not rate > 0:
        raise click.BadParameter(f"{text!r} is no rate; give a number above 0, or max")
    return rate


def endpoint(text: str) -> str:
    """A base URL, or the word for a region; what is refused isn't shown, as it may hold a password."""
    from etl.job import endpoint as base_url

    try:
        return base_url(text)
    except ValueError as error:
        raise click.BadParameter(f"it {error}; give one like https://api2.amplitude.com") from error


def percent(text: str) -> float:
    """A percentage out of `5%` or `0.5%`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip(), re.ASCII)
    if match is None or float(match[1]) > 100:
        raise click.BadParameter(f"{text!r} is no share; give one like 50%")
    return float(match[1])


def row_minimum(text: str) -> RowMinimum:
    """A minimum out of `1000` rows or `90%` of the last run's rows."""
    from etl.pipeline import RowMinimum

    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)\s*%", text.strip(), re.ASCII)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a minimum; give rows like 1000, or a share like 90%")
    return RowMinimum(count=int(match[1])) if match[1] else RowMinimum(percent=float(match[2]))


def reject_limit(text: str) -> RejectLimit:
    """A reject limit out of `100` rows or `0.5%` of the rows."""
    from etl.pipeline import RejectLimit

    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)\s*%", text.strip(), re.ASCII)
    if match is None or float(match[2] or 0) > 100:
        raise click.BadParameter(f"{text!r} is no limit; give rows like 100, or a share like 0.5%")
    return RejectLimit(count=int(match[1])) if match[1] else RejectLimit(percent=float(match[2]))
