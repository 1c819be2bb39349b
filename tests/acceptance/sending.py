"""Sends in a test's own process, quickly, and knows the law that every summary keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etl.sandbox import Sandbox
from tests.commands import QUICK, Finished, Propsync

ROW_ENDS = ("accepted", "unchanged", "merged", "rejected")


def holds_the_law(summary: dict[str, Any]) -> bool:
    """rows = accepted + unchanged + merged + rejected."""
    return bool(summary["rows"] == sum(summary[end] for end in ROW_ENDS))


def send(propsync: Propsync, sandbox: Sandbox, *arguments: str | Path) -> Finished:
    """`propsync run` of a job to the sandbox."""
    return propsync("run", *arguments, "--endpoint", sandbox.url, *QUICK)


def leave_unfinished(propsync: Propsync, sandbox: Sandbox, *arguments: str | Path) -> None:
    """A run that committed something and was then stopped, of an export with 200 users."""
    sandbox.change(poison_users=["user-000200"])
    assert send(propsync, sandbox, *arguments, "--max-rejects", "0").code == 4
    sandbox.change(poison_users=[])
