"""A plain client for the sandbox, and a clock that moves by hand."""

from __future__ import annotations

import gzip
import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Reply:
    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class HandClock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def call(
    url: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Reply:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Reply(response.status, response.read().decode(), dict(response.getheaders()))
    finally:
        connection.close()


def identify(url: str, identification: object, *, key: str = "abc") -> Reply:
    text = identification if isinstance(identification, str) else json.dumps(identification)
    return post_form(url, {"api_key": key, "identification": text})


def post_form(url: str, fields: dict[str, str]) -> Reply:
    return call(url, "POST", "/identify", urlencode(fields).encode(), {"Content-Type": FORM})


def upload(
    url: str,
    events: object,
    *,
    path: str = "/batch",
    key: str = "abc",
    options: object = None,
    zipped: bool = False,
) -> Reply:
    fields = {"api_key": key, "events": events}
    return post_json(url, fields if options is None else {**fields, "options": options}, path, zipped=zipped)


def post_json(url: str, fields: object, path: str = "/batch", *, zipped: bool = False) -> Reply:
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    headers = {"Content-Type": "application/json"}
    if zipped:
        return call(url, "POST", path, gzip.compress(body, mtime=0), {**headers, "Content-Encoding": "gzip"})
    return call(url, "POST", path, body, headers)


def read_back(url: str, query: dict[str, str], *, authorization: str = "Api-Key secret") -> Reply:
    path = "/v1/userprofile?" + urlencode({"get_amp_props": "true", **query})
    return call(url, "GET", path, headers={"Authorization": authorization} if authorization else {})


def control(url: str, name: str, values: object = None) -> Reply:
    if values is None:
        return call(url, "GET", f"/_sandbox/{name}")
    return call(url, "POST", f"/_sandbox/{name}", json.dumps(values).encode())


def user(number: int, **properties: object) -> dict[str, object]:
    return {"user_id": f"user-{number}", "user_properties": properties}


def event(number: int, properties: object = None, **keys: object) -> dict[str, Any]:
    """A `$identify` event with what only events have, of a user."""
    return {
        "event_type": "$identify",
        "user_id": f"user-{number}",
        "time": 1_700_000_000_000,
        "user_properties": {} if properties is None else properties,
        **keys,
    }


def numbered(count: int) -> list[dict[str, Any]]:
    return [event(number) for number in range(count)]
