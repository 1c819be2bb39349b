"""Files at http and https addresses: copied as they are read, and read from the copy as often as needed."""

from __future__ import annotations

import io
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow as pa

from etl.errors import SourceError

# Whoever reads files of this machine doesn't load what HTTP takes.
if TYPE_CHECKING:
    from etl.reader.download import Download, Patience


@dataclass(frozen=True)
class Web:
    """A file at a web address. `name` is the address without its user and query, which may be secrets."""

    name: str
    address: str
    repeatable: bool = True
    patience: Patience | None = field(default=None, repr=False)

    def open(self) -> pa.NativeFile:
        """A stream over the copy, which can be read at any position."""
        self._copy.need(1)
        return pa.PythonFile(_Reading(self._copy), mode="r")

    def fetch(self) -> None:
        """Copy all of it."""
        self._copy.need(None)

    def state(self) -> tuple[int | None, int | None]:
        """The size and the time of change that the server tells now.

        If it doesn't any more, since addresses may be signed for an hour, those of the whole copy.
        """
        from etl.reader.download import ask, told_by

        if not self._copy.begun:
            self._copy.need(1)
            return self._copy.told
        try:
            with closing(ask(self.name, self.address, self.patience)) as answer:
                return told_by(answer.headers)
        except SourceError:
            if not self._copy.whole:
                raise
            return self._copy.told

    @cached_property
    def _copy(self) -> Download:
        from etl.reader.download import Download

        return Download(self.name, self.address, self.patience)


class _Reading(io.RawIOBase):
    """One reading of a copy."""

    def __init__(self, copy: Download) -> None:
        super().__init__()
        self._copy = copy
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        if count < 0:
            self._copy.need(None)
            count = self._copy.have - self._at
        chunk = self._copy.read_at(self._at, count)
        self._at += len(chunk)
        return chunk

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            self._copy.need(None)
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._copy.have}[whence]
        return self._at

    def tell(self) -> int:
        return self._at


def web_name(address: str) -> str:
    """The address as it may be shown."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
