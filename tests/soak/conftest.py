"""Gathers what the soak tests proved, and fingerprints it at the end."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.soak.proof import Proof

_PLACE = "PROPSYNC_PROOF"


def pytest_configure() -> None:
    """Name the file before worker processes are begun, so that they inherit it."""
    os.environ.setdefault(_PLACE, str(Path(tempfile.mkdtemp(prefix="propsync-proof-")) / "proof.ndjson"))


@pytest.fixture
def proof() -> Proof:
    return Proof(Path(os.environ[_PLACE]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = Proof(Path(os.environ[_PLACE])).table()
    if lines and not hasattr(config, "workerinput"):
        terminalreporter.section("the laws, and what was tried against them")
        for line in lines:
            terminalreporter.write_line(line)
