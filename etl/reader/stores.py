"""Object stores: S3, Google Cloud Storage and Azure; what addresses name, and calls that are tried again."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode

import pyarrow as pa
from pyarrow import fs

from ..errors import SourceError
from .files import Stopped
from .store_errors import store_error, store_fault

_KEPT: Final = 3 << 23
_SILENCE: Final = 8.0
# What stands before the path; nothing else, so that no credentials do. And what may be set behind it.
_ADDRESSES: Final = {
    "s3": (r"[\w.-]+", "region endpoint_override scheme"),
    "gs": (r"(anonymous@)?[\w.-]+", "endpoint_override scheme project_id retry_limit_seconds"),
    "abfs": (
        r"[\w.$-]+(@[\w.-]+(:\d+)?)?",
        "blob_storage_authority dfs_storage_authority enable_tls tenant_id client_id",
    ),
}
_FAMILIES: Final = {"gcs": "gs", "abfss": "abfs"}
# Where Azure's own tools look for the key of an account, or a token for some of it.
_AZURE_SECRETS: Final = ("AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN")
_T = TypeVar("_T")

PlacedBytes = tuple[int, bytes]  # where it begins in an object, and its bytes


def never() -> bool:
    """Don't stop."""
    return False


class Seen(NamedTuple):
    """A version of an object, its size and time of change, and a handle of one process."""

    process: int
    version: str
    handle: pa.NativeFile
    size: int
    modified: int | None


@dataclass(slots=True)
class Store:
    """A store that an address names. `make` makes its client; `endpoint` is its host if that isn't usual.

    A call that fails in a way that may pass is repeated after each of `waits` seconds. Before the store has
    answered once, it isn't repeated if the store can't be reached.
    """

    scheme: str
    endpoint: str
    make: Callable[[], fs.FileSystem]
    waits: Sequence[float] = (0.5, 2.0, 5.0)
    _clients: dict[int, fs.FileSystem] = field(default_factory=dict, repr=False)
    _answered: bool = False
    seen: dict[str, Seen] = field(default_factory=dict, repr=False)
    kept: dict[str, PlacedBytes] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def attempt(self, path: str, call: Callable[[fs.FileSystem], _T], stopped: Stopped = never) -> _T:
        """Return what a call with the client returns. Raises SourceError, which names the path."""
        tries = 1
        while True:
            try:
                # A forked process has its own: it can't share connections, and closing them would end them.
                if os.getpid() not in self._clients:
                    self._clients[os.getpid()] = self.make()
                found = call(self._clients[os.getpid()])
            except (OSError, pa.ArrowException) as error:
                fault, _ = store_fault(error)
                hopeless = not fault.passing or (fault.unreachable and not self._answered)
                if hopeless or stopped() or tries > len(self.waits):
                    name = f"{self.scheme}://{path}"
                    raise store_error(name, self.endpoint, error, tries=tries) from error
                time.sleep(self.waits[tries - 1])
                tries += 1
            else:
                self._answered = True
                return found

    def get_file_info(self, wanted: str | fs.FileSelector) -> Any:
        """As the method of a file system. Raises SourceError for a bucket that isn't there."""
        path = wanted if isinstance(wanted, str) else wanted.base_dir

        def ask(system: fs.FileSystem) -> Any:
            if isinstance(wanted, str) and system.type_name == "s3" and re.search(r"/.*[^/]$", path):
                with suppress(FileNotFoundError):  # it is a folder, or not there
                    seen = self.seen[path] = look(system, path)
                    if seen.size:  # it may mark a folder
                        return fs.FileInfo(path, fs.FileType.File, size=seen.size, mtime_ns=seen.modified)
            if isinstance(wanted, fs.FileSelector) and system.type_name == "gcs":
                return list_google_folder(system, wanted)
            found = system.get_file_info(wanted)
            if isinstance(found, fs.FileInfo) and found.type == fs.FileType.NotFound and "/" in path:
                try:  # it may be the bucket that isn't there, rather than the key
                    system.get_file_info(fs.FileSelector(path.partition("/")[0]))
                except FileNotFoundError as error:
                    raise OSError("NO_SUCH_BUCKET") from error
            return found

        return self.attempt(path, ask)

    def keep(self, path: str, piece: PlacedBytes) -> None:
        """Keep a piece of an object, and drop what was kept for longest, beyond 24 MiB."""
        with self._lock:
            self.kept.pop(path, None)
            self.kept[path] = piece
            while sum(len(data) for _, data in self.kept.values()) > _KEPT:
                del self.kept[next(iter(self.kept))]

    def missing(self, path: str) -> SourceError:
        """Return the error for a key, or a bucket, that isn't there."""
        sign = "NO_SUCH_KEY" if "/" in path else "NO_SUCH_BUCKET"
        return store_error(f"{self.scheme}://{path}", self.endpoint, FileNotFoundError(sign))


def list_google_folder(system: fs.FileSystem, wanted: fs.FileSelector) -> list[fs.FileInfo]:
    """List what is right in a folder of Google's: without `recursive`, pyarrow leaves out its folders."""
    begin, found = wanted.base_dir.rstrip("/") + "/", dict[tuple[str, bool], fs.FileInfo]()
    below = fs.FileSelector(wanted.base_dir, allow_not_found=wanted.allow_not_found, recursive=True)
    for info in system.get_file_info(below):
        name, slash, _ = info.path.removeprefix(begin).partition("/")
        one = fs.FileInfo(begin + name, fs.FileType.Directory) if slash else info
        found.setdefault((name, one.type == fs.FileType.Directory), one)
    return list(found.values())


def look(system: fs.FileSystem, path: str) -> Seen:
    """Return which version of an object there is now; one request where the store is S3."""
    handle = system.open_input_file(path)
    said = {} if system.type_name == "gcs" else handle.metadata()  # Google's would begin a download
    found = {name.lower(): value.decode() for name, value in said.items()}
    mark, changed = found.get("etag"), found.get("last-modified")
    if mark is not None:
        size, modified = handle.size(), None
        if changed and system.type_name == "s3":
            modified = round(datetime.fromisoformat(changed).timestamp()) * 10**9
    else:
        info = system.get_file_info(path)
        size, modified = info.size, info.mtime_ns
        mark = f"{size} {modified}"
    digest = hashlib.blake2b(mark.encode(), digest_size=16).hexdigest()
    return Seen(os.getpid(), digest, handle, size, modified)


def open_store(address: str, settings: str) -> tuple[Store, str]:
    """Return the store of an address and the path in it. Raises SourceError, also for credentials in it."""
    scheme, _, rest = address.partition("://")
    scheme = scheme.lower()
    family = _FAMILIES.get(scheme, scheme)
    pattern, settable = _ADDRESSES.get(family, ("[^@]*", ""))
    place, known = rest.partition("/")[0], settable.split()
    if not re.fullmatch(pattern, place):
        hint = f"write {scheme}://BUCKET/KEY; the environment or a profile has the credentials"
        raise SourceError(f"an address of {scheme}:// names no bucket, or has credentials in it", hint=hint)
    given = dict(parse_qsl(settings, keep_blank_values=True))
    if not set(given) <= set(known):
        hint = f"the settings of {scheme} are: {', '.join(known) or 'none'}; credentials are none of them"
        raise SourceError(f"{address} is followed by a setting that is not known", hint=hint)
    if family == "s3":
        return _s3(scheme, unquote(rest), given)
    if family == "gs":
        given.setdefault("retry_limit_seconds", str(_SILENCE))
    whole = f"{address}?{urlencode(given)}" if given else address
    try:
        _, path = fs.FileSystem.from_uri(whole)
    except (OSError, pa.ArrowException) as error:
        hint = "an address begins with s3://, gs://, abfs://, https:// or file://"
        raise SourceError(f"{address} can't be read: {error}", hint=hint) from error
    host = place.rpartition("@")[2] if family == "abfs" else ""
    endpoint = given.get("endpoint_override") or given.get("blob_storage_authority") or host

    def make() -> fs.FileSystem:
        system = fs.FileSystem.from_uri(whole)[0]
        key, token = (os.environ.get(name, "") for name in _AZURE_SECRETS)
        if family != "abfs" or not key + token:
            return system
        # pyarrow takes them from an address, where they would show, or as arguments only.
        options = system.__reduce__()[1][0]
        if os.environ.get("AZURE_STORAGE_ACCOUNT", options["account_name"]) != options["account_name"]:
            return system  # they are of another account
        secret = {"account_key": key} if key else {"sas_token": "?" + token.removeprefix("?")}
        return fs.AzureFileSystem(**options | secret)

    return Store(scheme, endpoint, make), path


def _s3(scheme: str, path: str, given: dict[str, str]) -> tuple[Store, str]:
    environment = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    protocol, _, endpoint = (given.get("endpoint_override") or environment).rpartition("://")

    def make() -> fs.FileSystem:
        if not endpoint:  # Amazon's own: anybody may ask for the region of a bucket
            given["region"] = given.get("region") or fs.resolve_s3_region(path.partition("/")[0])
        return fs.S3FileSystem(
            endpoint_override=endpoint.rstrip("/") or None,
            region=given.get("region"),
            scheme=given.get("scheme") or protocol or "https",
            connect_timeout=_SILENCE,
            request_timeout=_SILENCE,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),  # `attempt` does that
        )

    return Store(scheme, endpoint.rpartition("@")[2].rstrip("/"), make), path
