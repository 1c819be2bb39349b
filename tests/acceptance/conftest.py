"""A job that sends an export of 200 users."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance import exports


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The job file; its export lies beside it as users.csv."""
    exports.write_csv(tmp_path / "users.csv", 200)
    return exports.write_job(tmp_path, source="users.csv")
