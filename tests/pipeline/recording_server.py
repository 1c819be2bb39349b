"""A destination that takes everything and keeps each request's array of updates, byte for byte."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256

from tests.serving import serving

_RUN_ID = re.compile(rb'(?<="insert_id":")[0-9a-f]{32}')


@dataclass
class Recorder:
    """`arrays` are JSON text, those of the Identify API as the form has them."""

    url: str = ""
    arrays: list[bytes] = field(default_factory=list)

    def digest(self) -> str:
        """The SHA-256 of all updates in the order of their arrival, as a plan has it."""
        updates = b"".join(array[1:-1] + b"," for array in self.arrays)
        return sha256(_RUN_ID.sub(b"0" * 32, updates)).hexdigest()

    def take(self, path: str, body: bytes) -> bytes:
        """Keep a request; the answer."""
        if path == "/batch":
            array = gzip.decompress(body).partition(b'"events":')[2].removesuffix(b"}")
            self.arrays.append(array)
            return b'{"code":200,"events_ingested":%d}' % array.count(b'"insert_id"')
        self.arrays.append(body.partition(b"&identification=")[2])
        return b"success"


@contextmanager
def recording() -> Iterator[Recorder]:
    recorder = Recorder()
    with serving(lambda path, _, body: (200, recorder.take(path, body), {})) as recorder.url:
        yield recorder
