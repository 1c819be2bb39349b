"""What the files of this stage say of themselves, in the metadata of their Arrow schema. No I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from etl.snapshot.hashes import FIRST, NEWEST

VERSION: Final = 2  # 1 knew neither doubts nor links; it is read as one without any
_FIELD: Final = b"propsync"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Stamp:
    """Of which run a file is: `number` counts the runs of the job, `run_id` names it everywhere."""

    number: int
    run_id: str
    endpoint: str
    job: str
    created: str = field(default_factory=_now)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds.

    `kind` tells it from our other files; `mode`, `names` and `hashing` are a layout's.
    """

    kind: str
    stamp: Stamp
    mode: str = ""
    names: Sequence[str] = ()
    hashing: int = FIRST  # before there was a choice

    def metadata(self) -> dict[bytes, bytes]:
        """What `contents_of` reads."""
        text = json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True)
        return {_FIELD: text.encode()}


class NewerError(ValueError):
    """The file was written by a later version."""


def contents_of(metadata: dict[bytes, bytes] | None) -> Contents:
    """Read a schema's metadata. Raises ValueError, KeyError or TypeError where it isn't ours."""
    fields: dict[str, Any] = json.loads((metadata or {})[_FIELD])
    if int(fields.pop("version")) > VERSION or int(fields.get("hashing", FIRST)) > NEWEST:
        raise NewerError("version")
    return Contents(**fields | {"stamp": Stamp(**fields["stamp"])})
