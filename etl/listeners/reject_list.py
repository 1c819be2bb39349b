"""A list of rejects in a file that a user names: CSV for a spreadsheet, or lines of JSON that can be sent."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from contextlib import nullcontext
from io import TextIOWrapper
from typing import IO, TYPE_CHECKING, Final

import orjson

from ..checkpoint import Checkpoint, reject_lines
from ..model import LISTED
from ..run_events import Ended, Event, Started
from ..state_files import check_writable, replacing_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ..model import Reject

# Where a spreadsheet sees a formula; and the quote itself, so that one can be taken off each text again.
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "'")
# What the values of a row have that could not be split into its columns.
_UNSPLIT: Final = ("extra fields", "line")


class _Number(str):
    """A number with the digits that it has in the file."""

    __slots__ = ()


class RejectList:
    """Writes rejects to `path` once there are all: as CSV if that is how its name ends, else as NDJSON.

    Until then they lie in a temporary file. As a listener it writes those of a run when that ends, unless it
    could not begin; `checkpoint` returns where they are. Raises UsageError or StateError if the file can't be
    written.
    """

    def __init__(self, path: Path, *, checkpoint: Callable[[], Path | None] = lambda: None) -> None:
        check_writable(path)
        self._path, self._checkpoint = path, checkpoint
        self._began = False
        self._lines: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - until they are written
        self._columns: dict[str, None] = {}
        self._csv = path.suffix.lower() == ".csv"

    def __call__(self, event: Event) -> None:
        """Note the start; at the end, write the file."""
        self._began |= isinstance(event, Started)
        path = self._checkpoint() if self._began and isinstance(event, Ended) else None
        if path is not None:
            with Checkpoint.load(path) or nullcontext() as found:
                if found is not None:
                    self.add(found.rejects(), found.progress().number)
            self.write()

    def add(self, rejects: Iterable[Reject], run: int | None = None) -> None:
        """Add rejects, of a run or of none."""
        for line in reject_lines(rejects, run=run):
            self._lines.write(line)
            if self._csv:
                self._columns.update(dict.fromkeys(json.loads(line)["values"]))

    def write(self) -> None:
        """Replace the file. Raises StateError."""
        self._lines.seek(0)
        with replacing_output(self._path) as file:
            if self._csv:
                self._write_csv(file)
            else:
                shutil.copyfileobj(self._lines, file)
        self._lines.close()

    def _write_csv(self, file: IO[bytes]) -> None:
        """One record for each reject, with the columns of the export in their order."""
        columns = sorted(self._columns, key=lambda name: name in _UNSPLIT)
        text = TextIOWrapper(file, "utf-8-sig", "replace", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow([*LISTED, *map(_cell, columns)])
        for line in self._lines:
            reject = json.loads(line, parse_int=_Number, parse_float=_Number)
            values = reject["values"]
            reject["faults"] = "; ".join(fault["reason"] for fault in reject.get("faults") or [reject])
            cells = (*(reject[field] for field in LISTED), *(values.get(name) for name in columns))
            writer.writerow(map(_cell, cells))
        text.detach()


def _cell(value: object) -> str:
    """A value as a spreadsheet shows it: texts are never formulas, objects and lists are JSON."""
    if isinstance(value, str):
        formula = not isinstance(value, _Number) and value.startswith(_FORMULAS)
        return f"'{value}" if formula else str(value)
    if value is None:
        return ""
    option = orjson.OPT_PASSTHROUGH_SUBCLASS
    try:
        return orjson.dumps(
            value, default=lambda number: orjson.Fragment(str(number)), option=option
        ).decode()
    except orjson.JSONEncodeError:  # half a surrogate pair
        return json.dumps(value, separators=(",", ":"))
