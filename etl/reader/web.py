"""Files at http and https addresses, read from beginning to end; the only user of fsspec."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from etl.errors import SourceError


@dataclass(frozen=True, slots=True)
class Web:
    """A file at a web address. `name` is the address without its user and query, which may be secrets."""

    name: str
    address: str
    repeatable: bool = True

    def open(self) -> pa.NativeFile:
        """A stream over the body of the answer, which needs no server that can send parts of files."""
        with _reachable(self.name):
            return pa.PythonFile(
                _Body(self.name, _web().open(self.address, mode="rb", block_size=0)), mode="r"
            )

    def state(self) -> tuple[int | None, int | None]:
        """The size and the time of change that the server's headers tell."""
        with _reachable(self.name):
            told = _web().info(self.address)
        changed = told.get("Last-Modified")
        modified = int(parsedate_to_datetime(changed).timestamp()) * 10**9 if changed else None
        return told.get("size"), modified


class _Body(io.RawIOBase):
    """The body of an answer, with errors in the reader's words."""

    def __init__(self, name: str, body: Any) -> None:
        super().__init__()
        self._name = name
        self._body = body

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        with _reachable(self._name):
            chunk: bytes = self._body.read(count)
        return chunk

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()


def web_name(address: str) -> str:
    """The address as it may be shown."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _web() -> Any:
    try:
        fsspec = importlib.import_module("fsspec")
        return fsspec.filesystem("http")
    except ImportError as error:
        hint = "install it with: pip install 'propsync[remote]'"
        raise SourceError("reading http and https addresses needs the extra `remote`", hint=hint) from error


@contextmanager
def _reachable(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise SourceError(
            f"{name} is not there", hint="check the address, and that its server is up"
        ) from error
    except Exception as error:
        if (
            not isinstance(error, OSError | ValueError)
            and type(error).__module__.partition(".")[0] != "aiohttp"
        ):
            raise
        kind = type(error).__name__
        raise SourceError(f"{name} can't be read: {kind}", hint="try again, or download it first") from error
