"""What a probe found out about a destination, kept in the state folder: a run keeps to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson

from ..state_files import replacing_file
from .state_dir import StateDir


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
                return cls(known, date, {name: Finding(**found) for name, found in data.items()})
        return None

    def as_json(self) -> dict[str, Any]:
        """The content of the file."""
        found = {name: asdict(finding) for name, finding in self.findings.items()}
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
