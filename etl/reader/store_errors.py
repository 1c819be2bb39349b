"""What went wrong with an object store: one message for each kind of error, with what to do about it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import SourceError
from .files import first_line

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
    "abfs": (("AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE",
              "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN"),
             "Azure CLI", ("~/.azure",), "managed identity"),
}  # fmt: skip


class StoreFault(NamedTuple):
    """A kind of error. `passing`: trying again may help; `unreachable`: nothing of the store was reached."""

    what: str
    hint: str
    passing: bool = False
    unreachable: bool = False


_AGAIN: Final = "run again; what is committed is kept"
# What the clients of the stores say, and the fault with its flags; the first sign that is found counts.
_FAULTS: Final = tuple(
    (re.compile(sign, re.IGNORECASE), StoreFault(what, hint, *flags))
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
         "for a store without TLS add scheme=http to the address; otherwise check its certificate",
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
        (r"HTTP status (404|405|501)|XML|parse", "what answers is not such a store{at}",
         "check the endpoint: it is the address of the store's API, not of its web page"),
        (r"curlCode: 28\b|timed? ?out|too slow", "the store is silent{at}",
         f"check the network and the endpoint, and {_AGAIN}", True),
        (r"NETWORK_CONNECTION|curlCode: \d+|connection (was )?(reset|closed)|partial",
         "the connection broke{at}", f"check the network, and {_AGAIN}", True),
    )
)  # fmt: skip


def store_fault(error: Exception) -> tuple[StoreFault, dict[str, str]]:
    """Return which kind of error it is, and what its message names."""
    for pattern, fault in _FAULTS:
        if found := pattern.search(str(error)):
            return fault, {name: value or "" for name, value in found.groupdict().items()}
    other = StoreFault("the store's client reports: {brief}", "check the address, and run again")
    return other, {"brief": first_line(error)}


def store_error(name: str, endpoint: str, error: Exception, *, tries: int = 1) -> SourceError:
    """Return the error for the object, folder or bucket called `name` (`s3://bucket/key`).

    `endpoint` is the host, if the address names it; `tries` is how often in a row it was tried.
    """
    fault, found = store_fault(error)
    scheme, _, path = name.partition("://")
    family = "abfs" if scheme.startswith("abfs") else "gs" if scheme in {"gs", "gcs"} else "s3"
    bucket, _, key = path.partition("/")
    found |= {"bucket": bucket, "key": key, "at": f" at {endpoint}" if endpoint else ""}
    found |= {"credentials": credentials_tried(family), "rights": _RIGHTS[family]}
    what, hint = fault.what.format(**found), fault.hint.format(**found)
    times = f", {tries} times in a row" if tries > 1 else ""
    return SourceError(f"{name} can't be read: {what}{times}", hint=hint)


def credentials_tried(family: str) -> str:
    """Return where a client of s3, gs or abfs looks for credentials, and what is there; no values."""
    names, label, paths, *others = _CREDENTIALS[family]
    given = [name for name in names if os.environ.get(name)]
    environment = f"environment ({', '.join(given) or f'{names[0]} is not set'})"
    label = label.format(os.environ.get("AWS_PROFILE", "default"))
    paths = tuple(os.environ.get(_MOVED.get(path, ""), path) for path in paths)
    files = [path for path in paths if Path(path).expanduser().exists()]
    tried = [environment, f"{label} ({', '.join(files) or f'{paths[0]} is not there'})", *others]
    return f"{'credentials tried' if given or files else 'no credentials found'}: {', '.join(tried)}"
