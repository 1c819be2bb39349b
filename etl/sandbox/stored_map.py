"""Maps whose values lie in SQLite: of a million profiles, memory holds those of the request at hand."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Final, TypeVar

import orjson

Value = TypeVar("Value")

_PAGE: Final = 1000  # keys that are read at once
_PRAGMAS: Final = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000;"


class MapStore:
    """The maps of one sandbox. Without `memory` they grow into a file that is gone with the process."""

    def __init__(self, *, memory: bool = False) -> None:
        # Without a name SQLite opens a file only for what doesn't fit its cache, and unlinks it at once.
        self.connection = sqlite3.connect(
            ":memory:" if memory else "", check_same_thread=False, isolation_level=None
        )
        weakref.finalize(self, self.connection.close)
        self.connection.executescript(_PRAGMAS)


class StoredMap(MutableMapping[str, Value]):
    """A dict by text, in order of insertion, in the table `name`.

    Values are written by orjson and read by `unpack`. A value that was changed has to be set again.
    """

    def __init__(self, store: MapStore, name: str, unpack: Callable[[bytes], Value] = orjson.loads) -> None:
        self._store, self._name, self._unpack = store, name, unpack  # the store stays open
        self._execute = store.connection.execute
        self._execute(f"CREATE TABLE {name} (id TEXT PRIMARY KEY, value BLOB)")

    def __getitem__(self, key: str) -> Value:
        row = self._execute(f"SELECT value FROM {self._name} WHERE id = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return self._unpack(row[0])

    def __setitem__(self, key: str, value: Value) -> None:
        put = f"INSERT INTO {self._name} VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET value = excluded.value"
        self._execute(put, (key, orjson.dumps(value)))

    def __delitem__(self, key: str) -> None:
        if not self._execute(f"DELETE FROM {self._name} WHERE id = ?", (key,)).rowcount:
            raise KeyError(key)

    def __len__(self) -> int:
        return int(self._execute(f"SELECT count(*) FROM {self._name}").fetchone()[0])

    def __iter__(self) -> Iterator[str]:
        query = f"SELECT rowid, id FROM {self._name} WHERE rowid > ? ORDER BY rowid LIMIT {_PAGE}"
        last = 0
        while rows := self._execute(query, (last,)).fetchall():
            last = rows[-1][0]
            yield from (key for _, key in rows)

    def search(self, text: str, most: int) -> list[str]:
        """Return the first keys: that which is the text, those that begin with it, and those that contain it.

        Only the last of these looks at all keys; there A to Z stand for their small letters, too.
        """
        found: dict[str, Any] = {}
        for where, values in (
            ("id >= ? AND id < ?", (text, text + "\U0010ffff")),
            ("instr(lower(id), lower(?))", (text,)),  # not LIKE, whose pattern ends at a NUL
        ):
            if len(found) < most:
                query = f"SELECT id, 0 FROM {self._name} WHERE {where} ORDER BY id LIMIT {most}"
                found |= dict(self._execute(query, values))
        return list(found)[:most]
