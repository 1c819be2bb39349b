"""Object stores (S3, Google Cloud Storage, Azure): their addresses, calls that are retried, and messages.

A call that fails for a temporary reason is retried. Every other error has a message of its kind with the
remedy.
"""

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
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode

import pyarrow as pa
from pyarrow import fs

from ..errors import SourceError
from .files import Stopped, first_line, never

_CACHED_BYTES: Final = 3 << 23
_TIMEOUT: Final = 8.0
# What may stand before the path, so that it can't be credentials, and the settings that may follow it.
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


class ObjectVersion(NamedTuple):
    """A version of an object, its size and time of change, and a handle of one process."""

    process: int
    version: str
    handle: pa.NativeFile
    size: int
    modified: int | None


@dataclass(slots=True)
class Store:
    """A store that an address names. `make` makes its client; `endpoint` is its host if that isn't usual.

    A call that fails for a temporary reason is repeated after each of `waits` seconds. If the store was never
    reached, a call that can't reach it isn't repeated.

    `versions` are those that a search found; `cached` has pieces of objects, by path.
    """

    scheme: str
    endpoint: str
    make: Callable[[], fs.FileSystem]
    waits: Sequence[float] = (0.5, 2.0, 5.0)
    _clients: dict[int, fs.FileSystem] = field(default_factory=dict, repr=False)
    _answered: bool = False
    versions: dict[str, ObjectVersion] = field(default_factory=dict, repr=False)
    cached: dict[str, PlacedBytes] = field(default_factory=dict, repr=False)
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
                fault, _ = _fault_of(error)
                hopeless = not fault.temporary or (fault.unreachable and not self._answered)
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
                    seen = self.versions[path] = look_up(system, path)
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

    def cache(self, path: str, piece: PlacedBytes) -> None:
        """Cache a piece of an object; beyond 24 MiB, those that were cached first are dropped."""
        with self._lock:
            self.cached.pop(path, None)
            self.cached[path] = piece
            while sum(len(data) for _, data in self.cached.values()) > _CACHED_BYTES:
                del self.cached[next(iter(self.cached))]

    def missing(self, path: str) -> SourceError:
        """Return the error for a key, or a bucket, that isn't there."""
        sign = "NO_SUCH_KEY" if "/" in path else "NO_SUCH_BUCKET"
        return store_error(f"{self.scheme}://{path}", self.endpoint, FileNotFoundError(sign))


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
        given.setdefault("retry_limit_seconds", str(_TIMEOUT))
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
            connect_timeout=_TIMEOUT,
            request_timeout=_TIMEOUT,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),  # `attempt` does that
        )

    return Store(scheme, endpoint.rpartition("@")[2].rstrip("/"), make), path


def look_up(system: fs.FileSystem, path: str) -> ObjectVersion:
    """Return the present version of an object; one request if the store is S3."""
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
    return ObjectVersion(os.getpid(), digest, handle, size, modified)


def list_google_folder(system: fs.FileSystem, wanted: fs.FileSelector) -> list[fs.FileInfo]:
    """List what is directly in a folder of Google's: without `recursive`, pyarrow leaves out its folders."""
    begin, found = wanted.base_dir.rstrip("/") + "/", dict[tuple[str, bool], fs.FileInfo]()
    below = fs.FileSelector(wanted.base_dir, allow_not_found=wanted.allow_not_found, recursive=True)
    for info in system.get_file_info(below):
        name, slash, _ = info.path.removeprefix(begin).partition("/")
        one = fs.FileInfo(begin + name, fs.FileType.Directory) if slash else info
        found.setdefault((name, one.type == fs.FileType.Directory), one)
    return list(found.values())


# --- what goes wrong -------------------------------------------------------------------------------------

_RIGHTS: Final = {
    "s3": "allow s3:GetObject on its objects and s3:ListBucket on the bucket",
    "gs": "grant the role Storage Object Viewer on the bucket",
    "abfs": "assign the role Storage Blob Data Reader on the container",
}
_MOVED: Final = {"~/.aws/credentials": "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/config": "AWS_CONFIG_FILE"}
# Names in the environment, what else there may be and its files, and what is asked in the end.
_CREDENTIALS: Final = {
    "s3": (("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
           "profile {}", ("~/.aws/credentials", "~/.aws/config"), "instance or container role"),
    "gs": (("GOOGLE_APPLICATION_CREDENTIALS",),
           "gcloud", ("~/.config/gcloud/application_default_credentials.json",), "metadata server"),
    "abfs": (("AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", *_AZURE_SECRETS),
             "Azure CLI", ("~/.azure",), "managed identity"),
}  # fmt: skip


class _Fault(NamedTuple):
    """A kind of error. `temporary`: a retry may help; `unreachable`: there is no connection to the store."""

    what: str
    hint: str
    temporary: bool = False
    unreachable: bool = False


_AGAIN: Final = "run again; what is committed is kept"
# What the clients of the stores say, and the fault with its flags; the first sign that is found counts.
_FAULTS: Final = tuple(
    (re.compile(sign, re.IGNORECASE), _Fault(what, hint, *flags))
    for sign, what, hint, *flags in (
        # Before what hinders it: it is Google's metadata server that isn't found, not the store.
        (r"OAuth2 access token", "access denied; {credentials}", "check these credentials, or {rights}"),
        (r"curlCode: 6\b|could ?n.t resolve|could not resolve",
         "the name of the store's host can't be found (DNS){at}",
         "check the endpoint, the name of the account or bucket, and the network", True, True),
        (r"curlCode: 7\b|could ?n.t connect|could not connect|failed to connect|connection refused",
         "the store refuses connections{at}",
         "check the endpoint and its port, and that the store is up", True, True),
        (r"curlCode: (35|5[138]|60|77|8[023])\b|SSL|certificate", "no secure connection can be made{at}",
         "for a store without TLS add scheme=http to the address; otherwise check its certificate "
         "(S3 trusts those in the file SSL_CERT_FILE)",
         False, True),
        (r"region is '[^']*' while the bucket is located in '(?P<region>[\w-]+)'",
         "the bucket {bucket} is in the region {region}",
         "add region={region} to the address, or set AWS_REGION"),
        (r"HTTP status 30\d|PERMANENT_REDIRECT|PermanentRedirect|AuthorizationHeaderMalformed",
         "the bucket {bucket} is in another region, or at another endpoint",
         "add the bucket's region to the address, for example ?region=eu-central-1"),
        (r"NO_SUCH_BUCKET|ContainerNotFound|bucket does not exist|Bucket '[^']*' not found",
         "there is no bucket {bucket}{at}",
         "check the name of the bucket, and the account or endpoint in which it is"),
        (r"NO_SUCH_KEY|RESOURCE_NOT_FOUND|BlobNotFound|NOT_FOUND|Path does not exist",
         "the bucket {bucket} has no key {key}{at}", "check the key; upper and lower case differ"),
        (r"EXPIRED_TOKEN|ExpiredToken|token .*expired", "the credentials have expired; {credentials}",
         "renew them, for example with: aws sso login"),
        (r"SLOW_DOWN|THROTTL|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT|HTTP status (429|5\d\d)"
         r"|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED",
         "the store is overloaded or down{at}", "run again later; what is committed is kept", True),
        (r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT_TOKEN|PERMISSION_DENIED"
         r"|UNRECOGNIZED_CLIENT|UNAUTHENTICATED|Authenti\w*Fail|Authoriz\w*Fail"
         r"|HTTP status 40[13]\b|CredentialUnavailable|failed to get token|AuthenticationException|Base64",
         "access denied; {credentials}", "check these credentials, or {rights}"),
        (r"HTTP status 400", "the store doesn't accept the request; {credentials}",
         "check the region, and whether the credentials are missing or have expired"),
        (r"HTTP status (404|405|501)|XML|parse", "the endpoint is not a store of this kind{at}",
         "check the endpoint: it is the address of the store's API, not of its web page"),
        (r"curlCode: 28\b|timed? ?out|too slow", "the store doesn't answer{at}",
         f"check the network and the endpoint, and {_AGAIN}", True),
        (r"NETWORK_CONNECTION|curlCode: \d+|connection (was )?(reset|closed)|partial",
         "the connection broke{at}", f"check the network, and {_AGAIN}", True),
    )
)  # fmt: skip


def _fault_of(error: Exception) -> tuple[_Fault, dict[str, str]]:
    """Which kind of error it is, and what its message names."""
    for pattern, fault in _FAULTS:
        if found := pattern.search(str(error)):
            return fault, {name: value or "" for name, value in found.groupdict().items()}
    other = _Fault("the store's client reports: {brief}", "check the address, and run again")
    return other, {"brief": first_line(error)}


def store_error(name: str, endpoint: str, error: Exception, *, tries: int = 1) -> SourceError:
    """Return the error for the object, folder or bucket called `name` (`s3://bucket/key`).

    `endpoint` is the host, if the address names it; `tries` is how often in a row it was tried.
    """
    fault, found = _fault_of(error)
    scheme, _, path = name.partition("://")
    family = _FAMILIES.get(scheme, scheme if scheme in _RIGHTS else "s3")
    bucket, _, key = path.partition("/")
    found |= {"bucket": bucket, "key": key, "at": f" at {endpoint}" if endpoint else ""}
    found |= {"credentials": _credentials_tried(family), "rights": _RIGHTS[family]}
    what, hint = fault.what.format(**found), fault.hint.format(**found)
    times = f", {tries} times in a row" if tries > 1 else ""
    return SourceError(f"{name} can't be read: {what}{times}", hint=hint)


def _credentials_tried(family: str) -> str:
    """Where a client of s3, gs or abfs looks for credentials, and what is there; no values."""
    names, label, paths, *others = _CREDENTIALS[family]
    given = [name for name in names if os.environ.get(name)]
    environment = f"environment ({', '.join(given) or f'{names[0]} is not set'})"
    label = label.format(os.environ.get("AWS_PROFILE", "default"))
    paths = tuple(os.environ.get(_MOVED.get(path, ""), path) for path in paths)
    files = [path for path in paths if Path(path).expanduser().exists()]
    tried = [environment, f"{label} ({', '.join(files) or f'{paths[0]} is not there'})", *others]
    return f"{'credentials tried' if given or files else 'no credentials found'}: {', '.join(tried)}"
