"""What went wrong on the way to an answer, in words of our own: a library's text names its insides."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from typing import Final

import aiohttp

_BY_NUMBER: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "the connection was reset",
    errno.ECONNABORTED: "the connection was aborted",
    errno.EPIPE: "the connection was closed at the other end",
    errno.ENETUNREACH: "the network is unreachable",
    errno.EHOSTUNREACH: "the host is unreachable",
    errno.ETIMEDOUT: "timed out",
}


def in_words(error: BaseException) -> str:
    """What an error of the network means."""
    cause = getattr(error, "os_error", error)
    if isinstance(error, aiohttp.ClientConnectorDNSError) or isinstance(cause, socket.gaierror):
        return "the name was not found"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "timed out"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed before an answer came"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer broke off"
    if isinstance(error, aiohttp.ClientResponseError):
        return "what came back is not HTTP"
    # Also where it came as the reason of a TLS connection that failed.
    for one in (cause, error, error.__cause__):
        if isinstance(one, ssl.SSLError):
            return _tls(one)
    return _system(cause if isinstance(cause, OSError) else error)


def certificate_fault(error: BaseException) -> str | None:
    """What is wrong with the other end's certificate; None where something else failed."""
    for one in (error, getattr(error, "certificate_error", None), getattr(error, "os_error", None)):
        if isinstance(one, ssl.SSLCertVerificationError):
            return str(getattr(one, "verify_message", "") or "it could not be verified")
    return "it could not be verified" if isinstance(error, aiohttp.ClientConnectorCertificateError) else None


def _tls(error: ssl.SSLError) -> str:
    reason = getattr(error, "reason", None) or ""
    known = reason.lower().replace("_", " ") if re.fullmatch(r"[A-Z0-9_]{1,80}", reason) else ""
    return f"the TLS handshake failed: {known}".removesuffix(": ")


def _system(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number in _BY_NUMBER:
        return _BY_NUMBER[number]
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    if isinstance(error, ConnectionError):
        return "the connection was lost"
    return f"the connection failed ({type(error).__name__})"
