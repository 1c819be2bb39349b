"""Python loads this at the start of every process that the tests begin with this folder on its path."""

from __future__ import annotations

import socket
from typing import Any

_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex
_getaddrinfo = socket.getaddrinfo
_LOOPBACK = {"127.0.0.1", "::1", "localhost", b"127.0.0.1", b"localhost", None, ""}


class OutsideError(AssertionError):
    """A test, or a process of one, wanted to talk to another machine."""


def _checked(address: Any) -> Any:
    if isinstance(address, tuple):
        _check_host(address[0])
    return address


def _check_host(host: Any) -> None:
    if host not in _LOOPBACK:
        raise OutsideError(f"no test talks to {host}")


def _looked_up(host: Any, *others: Any, **more: Any) -> Any:
    _check_host(host)
    return _getaddrinfo(host, *others, **more)


def keep_inside() -> None:
    """Let sockets connect to nothing but this machine, and look up no other name."""
    socket.getaddrinfo = _looked_up
    socket.socket.connect = lambda self, address: _connect(self, _checked(address))  # type: ignore[method-assign]
    socket.socket.connect_ex = lambda self, address: _connect_ex(self, _checked(address))  # type: ignore[method-assign]


keep_inside()
