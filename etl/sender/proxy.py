"""The proxy that the environment names, read as curl reads it. No I/O.

A user and password are taken out of the address here, so that no library's message can hold them.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from ..errors import UsageError

# Scheme, user with password, which may hold anything, and address.
_PARTS: Final = re.compile(r"(?:([a-z][a-z0-9+.-]*)://)?(?:(.*)@)?(.*)", re.IGNORECASE | re.DOTALL)
_ADDRESS: Final = re.compile(
    r"(\[[0-9a-f:.%]+\]|[^\s\[\]:/?#@\\]+)(?::(\d{1,5}))?(?:[/?#].*)?", re.IGNORECASE
)
# Schemes that may be named in a message; any other word before `://` may be a part of a password.
_KNOWN_SCHEMES: Final = frozenset({"https", "socks", "socks4", "socks4a", "socks5", "socks5h", "ftp"})
_VARIABLES: Final = ("http_proxy", "https_proxy", "all_proxy")
_HINT: Final = "write it like http://proxy.example.com:3128 or http://user:password@proxy.example.com:3128"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy to send through: `url` without its user and password, and the `variable` that named it.

    `login` is the value of a Proxy-Authorization header, or empty; `secrets` are never to be shown.
    """

    variable: str
    url: str
    login: str = field(default="", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


def proxy_for(
    endpoint: str, environ: Mapping[str, str], system: Mapping[str, str] | None = None
) -> Proxy | None:
    """The proxy for requests to a base URL, None for none.

    `system` has the machine's own settings by scheme, for where no variable is set. Raises UsageError for a
    proxy that can't be used, naming the variable and never what stands in it.
    """
    parts = urlsplit(endpoint)
    host, scheme = (parts.hostname or "").lower().rstrip("."), parts.scheme
    port = parts.port or (443 if scheme == "https" else 80)
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if any(_covers(entry, host, port) for entry in re.split(r"[\s,]+", exempt) if entry):
        return None
    names = [f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"]
    if "REQUEST_METHOD" in environ and scheme == "http":
        # In a CGI script, HTTP_PROXY is what the client of that script wrote into a header.
        names.remove("HTTP_PROXY")
    given = {f"the variable {name}": environ.get(name, "") for name in names}
    given["the system's proxy setting"] = (system or {}).get(scheme, "")
    return next((_parsed(value.strip(), name) for name, value in given.items() if value.strip()), None)


def proxy_secrets(environ: Mapping[str, str]) -> set[str]:
    """The users' passwords in all proxy variables, whether these are used or not."""
    found = {
        secret
        for name, value in environ.items()
        if name.lower() in _VARIABLES
        for secret in _secrets(_PARTS.findall(value.strip())[0][1])
    }
    return found - {""}


def _parsed(value: str, variable: str) -> Proxy:
    scheme, login, place = _PARTS.findall(value)[0]
    if scheme.lower() not in {"", "http"}:
        kind = f"{scheme.lower()}://" if scheme.lower() in _KNOWN_SCHEMES else "of another kind"
        raise UsageError(f"{variable} names a proxy {kind}, and only http:// works", hint=_HINT)
    address = _ADDRESS.fullmatch(place)
    if address is None:
        raise UsageError(f"{variable} does not name a proxy: its host or port can't be read", hint=_HINT)
    port = address[2] or (80 if scheme else None)
    if port is None:
        raise UsageError(f"{variable} names a proxy without a port", hint=_HINT)
    if not 0 < int(port) < 2**16:
        raise UsageError(f"{variable} names a proxy with a port that doesn't exist", hint=_HINT)
    return Proxy(variable, f"http://{address[1]}:{port}", login and _basic(login), tuple(_secrets(login)))


def _secrets(login: str) -> Iterable[str]:
    password = login.partition(":")[2]
    # Where only one word stands before the @, it may be a token.
    return (login, password, _basic(login).removeprefix("Basic ")) if login else ()


def _basic(login: str) -> str:
    user, _, password = login.partition(":")
    return "Basic " + b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether an entry of the variable no_proxy lets requests to a host go directly."""
    if entry == "*":
        return True
    with_port = re.fullmatch(r"(\[[^\]]*\]|[^:]*):(\d+)", entry)
    if with_port and int(with_port[2]) != port:
        return False
    name = (with_port[1] if with_port else entry).lower().strip("[]")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        domain = name.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
