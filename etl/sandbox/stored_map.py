"""Maps whose values lie in SQLite: of a million profiles, memory holds those of the request at hand."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Final, TypeVar

import orjson

Value = TypeVar("Value")

MOST_HELD: Final = 4096  # values of one map that are in hand at most
_PAGE: Final = 1000  # keys that are read at once
_PRAGMAS: Final = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -32000;
"""


class MapStore:
    """The maps of one sandbox. Without `memory` they grow into a file that is gone with the process.

    `lock` is held while a value is changed that is in a map.
    """

    def __init__(self, *, memory: bool = False) -> None:
        self.lock = threading.RLock()
        # Without a name SQLite opens a file only for what doesn't fit its cache, and unlinks it at once.
        self.connection = sqlite3.connect(
            ":memory:" if memory else "", check_same_thread=False, isolation_level=None
        )
        weakref.finalize(self, self.connection.close)
        self.connection.executescript(_PRAGMAS)
        self._maps: list[StoredMap[Any]] = []

    def map(
        self,
        name: str,
        pack: Callable[[Any], bytes] = orjson.dumps,
        unpack: Callable[[bytes], Any] = orjson.loads,
    ) -> StoredMap[Any]:
        """Make a map of text to what `pack` and `unpack` take and give, in a table of its own."""
        made = StoredMap[Any](self, name, pack, unpack)
        self._maps.append(made)
        return made

    def write(self) -> None:
        """Write what is in hand, each map in one transaction."""
        for one in self._maps:
            one.write()


class StoredMap(MutableMapping[str, Value]):
    """A dict by text, in order of insertion.

    What is given out may be changed in place until the next `write`, which comes after each request.
    """

    def __init__(
        self, store: MapStore, name: str, pack: Callable[[Value], bytes], unpack: Callable[[bytes], Value]
    ) -> None:
        self._store, self._lock, self._database = store, store.lock, store.connection  # the store stays open
        self._name, self._pack, self._unpack = name, pack, unpack
        self._held: dict[str, Value] = {}
        self._database.execute(f"CREATE TABLE {name} (id TEXT PRIMARY KEY, value BLOB)")

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or the default."""
        with self._lock:
            value = self._held.get(key)
            if value is None:
                row = self._database.execute(
                    f"SELECT value FROM {self._name} WHERE id = ?", (key,)
                ).fetchone()
                if row is None:
                    return default
                value = self[key] = self._unpack(row[0])
            return value

    def __getitem__(self, key: str) -> Value:
        value: Value | None = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Value) -> None:
        with self._lock:
            if len(self._held) >= MOST_HELD:
                self.write()
            self._held[key] = value

    def __delitem__(self, key: str) -> None:
        with self._lock:
            deleted = self._database.execute(f"DELETE FROM {self._name} WHERE id = ?", (key,)).rowcount
            if self._held.pop(key, None) is None and not deleted:
                raise KeyError(key)

    def __len__(self) -> int:
        with self._lock:
            self.write()
            count: int = self._database.execute(f"SELECT count(*) FROM {self._name}").fetchone()[0]
            return count

    def __iter__(self) -> Iterator[str]:
        last = 0
        while True:
            with self._lock:
                self.write()
                rows = self._database.execute(
                    f"SELECT rowid, id FROM {self._name} WHERE rowid > ? ORDER BY rowid LIMIT {_PAGE}",
                    (last,),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from (key for _, key in rows)

    def search(self, text: str, most: int) -> list[str]:
        """Return the first keys: that which is the text, those that begin with it, and those that contain it.

        Only the last of these looks at all keys; there A to Z stand for their small letters, too.
        """
        with self._lock:
            self.write()
            found: dict[str, None] = {}
            for where, values in (
                ("id >= ? AND id < ?", (text, text + "\U0010ffff")),
                ("instr(lower(id), lower(?))", (text,)),  # not LIKE, whose pattern ends at a NUL
            ):
                if len(found) < most:
                    rows = self._database.execute(
                        f"SELECT id FROM {self._name} WHERE {where} ORDER BY id LIMIT {most}", values
                    )
                    found.update(dict.fromkeys(key for (key,) in rows))
        return list(found)[:most]

    def write(self) -> None:
        """Write what is in hand, and hold nothing any more."""
        with self._lock:
            if not self._held:
                return
            rows = [(key, self._pack(value)) for key, value in self._held.items()]
            self._database.execute("BEGIN")
            self._database.executemany(
                f"INSERT INTO {self._name} VALUES (?, ?)"
                " ON CONFLICT (id) DO UPDATE SET value = excluded.value",
                rows,
            )
            self._database.execute("COMMIT")
            self._held.clear()
