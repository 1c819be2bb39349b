"""What `probe` found out about a destination, kept in the state folder: `run` keeps to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from ..amplitude.limits import TRANSPORT_RULES
from ..checkpoint import StateDir
from ..encoder import Limits
from ..job import Job
from ..run_events import Noted, Warned
from ..state_files import replacing_file
from .settings import Settings

_KEY_ROOM: Final = 1000  # bytes of a request for an API key, of whatever length


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question, None if it is unknown, and what it was read off."""

    value: Any
    evidence: str

    def __str__(self) -> str:
        if isinstance(self.value, dict):
            several = "updates" in self.value
            return "{updates} in {seconds} s".format(**self.value) if several else str(len(self.value))
        if isinstance(self.value, bool | None):
            return {True: "yes", False: "no", None: "unknown"}[self.value]
        return f"{self.value:,}" if isinstance(self.value, int) else str(self.value)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What is known of the Identify API at an endpoint, by question; `date` is when it was probed (UTC)."""

    endpoint: str
    date: str
    findings: Mapping[str, Finding]

    @classmethod
    def load(cls, folder: StateDir, endpoint: str) -> Capabilities | None:
        """What was last found out about an endpoint; None if nothing, or if the file isn't readable."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            data = dict(orjson.loads(folder.capabilities.read_bytes()))
            known, date = data.pop("endpoint"), datetime.fromisoformat(data.pop("date")).isoformat()
            if known == endpoint:
                return cls(known, date, {n: Finding(f["value"], f["evidence"]) for n, f in data.items()})
        return None

    def as_json(self) -> dict[str, Any]:
        """The content of the file."""
        found = {name: {"value": f.value, "evidence": f.evidence} for name, f in self.findings.items()}
        return {"endpoint": self.endpoint, "date": self.date, **found}

    def save(self, folder: StateDir) -> None:
        """Replace the file, which only its owner can read. Raises StateError."""
        with replacing_file(folder.capabilities) as file:
            file.write(orjson.dumps(self.as_json(), option=orjson.OPT_INDENT_2))

    def most(self, question: str) -> int | None:
        """A limit that was found; None if it is unknown."""
        value = self.findings[question].value if question in self.findings else None
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

    def differences(self, newer: Capabilities) -> Iterator[str]:
        """What is known of both and isn't the same, a sentence each."""
        for name, finding in newer.findings.items():
            before = self.findings[name].value if name in self.findings else None
            known = name != "refusals" and before is not None and finding.value is not None
            if known and before != finding.value:
                yield f"{name} was {self.findings[name]} on {self.date[:10]}, and is {finding} now"

    def __str__(self) -> str:
        found = ((name, self.most(name)) for name in ("identifications", "bytes"))
        sizes = (f"{most:,} {name}" if most else f"an unknown number of {name}" for name, most in found)
        return f"probed on {self.date[:10]}: a request takes {' and '.join(sizes)}"


def known_limits(job: Job, settings: Settings, folder: StateDir) -> tuple[Limits, tuple[Warned | Noted, ...]]:
    """The limits of a request, never above what a probe found, and up to that where no option is given.

    Raises UsageError for a batch size that is too big where nothing was found.
    """
    transport = job.destination.transport
    known = Capabilities.load(folder, job.destination.endpoint) if transport == "identify" else None
    count, size = (known.most(name) if known else None for name in ("identifications", "bytes"))
    if known is None or (count is None and size is None):
        return settings.limits(transport), ()
    rules, given, notes = TRANSPORT_RULES[transport], settings.batch_size, list[Warned | Noted]()
    if count is None:
        count = settings.limits(transport).identifications
    elif given is not None and given > count:
        text = f"a batch size of {given:,} is too big: the probe of {known.date[:10]} found {count:,}"
        notes.append(Warned("batch_size", f"{text}, which is used"))
    else:
        count = given or count
    body = rules.body_bytes if size is None else max(1, size - rules.frame_bytes - _KEY_ROOM)
    if (count, body) != (given or rules.batch_size, rules.body_bytes):
        notes.append(Noted("capabilities", f"requests have up to {count:,} identifications; {known}"))
    return Limits(identifications=count, body_bytes=body), tuple(notes)
