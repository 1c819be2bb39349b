"""What a run tells besides its summary: files, mapping, changes by property, examples of rejects."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from etl.run_events import Detailed, Ended, Event, Progressed
from etl.sandbox import Sandbox
from tests.pipeline.nights import job_in, send, users, write


def told(job: Any, sandbox: Sandbox, path: Path, **settings: Any) -> tuple[Detailed, list[Event]]:
    events: list[Event] = []
    send(job, sandbox, [path], listener=events.append, **settings)
    (details,) = (event for event in events if isinstance(event, Detailed))
    assert isinstance(events[events.index(details) + 1], Ended)
    return details, events


def test_files_mapping_and_examples(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path / "job")
    rows = [*users(range(20)), *({"id": f"user-{n}x", "score": "much"} for n in range(5))]
    path = write(job.folder / "users.ndjson", rows)
    details, events = told(job, sandbox, path)
    ((name, size, digest),) = details.files
    assert (name, size) == (str(path), path.stat().st_size)
    assert digest.startswith("crc32 ")
    assert details.mapping == (
        ("user_id", "id", {}),
        ("user_properties.$set.plan", "plan", {}),
        ("user_properties.$set.score", "score", {"type": "number"}),
    )
    assert [(code, row) for code, _, row, _ in details.examples] == [("bad_number", n) for n in (21, 22, 23)]
    assert details.rejects_path.endswith("rejects.ndjson")
    answered = Counter[float]()
    for event in events:
        answered.update(event.latencies if isinstance(event, Progressed) else {})
    assert answered.total() == 1


@pytest.mark.parametrize("changes", ["property", "user", "off"])
def test_changes_by_property_are_what_became_of_users(tmp_path: Path, sandbox: Sandbox, changes: str) -> None:
    job = job_in(tmp_path / "job", changes=changes, absent="unset" if changes != "off" else "keep")
    first = write(job.folder / "one.ndjson", users(range(100)))
    later = [*users(range(10)), *users(range(10, 90), plan="new"), *users(range(200, 205), score=None)]
    second = write(job.folder / "two.ndjson", later)
    one = told(job, sandbox, first)[0].changes
    two = told(job, sandbox, second, max_absent=100.0, max_changes=100.0)[0].changes
    three = told(job, sandbox, second, max_absent=100.0)[0].changes
    known = {
        "property": (
            {"$set.plan": (100, 0, 0), "$set.score": (100, 0, 0)},
            {"$set.plan": (5, 80, 10), "$set.score": (0, 0, 10)},
        ),
        "user": ({"fingerprint": (100, 0, 0)}, {"fingerprint": (5, 80, 10)}),
        "off": (None, None),
    }[changes]
    assert (one, two) == known
    assert three is None or set(three.values()) == {(0, 0, 0)}


def test_a_limited_run_claims_no_changes(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path / "job", changes="property")
    path = write(job.folder / "users.ndjson", users(range(100)))
    assert told(job, sandbox, path, limit=50)[0].changes is None
    assert told(job, sandbox, path)[0].changes == {"$set.plan": (100, 0, 0), "$set.score": (100, 0, 0)}
