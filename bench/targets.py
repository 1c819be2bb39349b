"""Lines of the table of targets, and how two things that took turns compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def holding(what: str, measured: str, target: str, holds: bool) -> str:
    """A target, and whether it holds."""
    return f"| {what} | {measured} | {target} | {'holds' if holds else 'missed'} |"


def at_least(what: str, share: float, least: float) -> str:
    """A target for a share of something."""
    return holding(what, f"{share:.2f}", f"at least {least}", share >= least)


def costs_of(found: Mapping[str, Any], one: str, other: str) -> list[float]:
    """How much longer than the other one takes, as a share, in each pair of runs one after the other."""
    return [own["wall"] / its["wall"] - 1 for own, its in zip(found[one], found[other], strict=True)]
