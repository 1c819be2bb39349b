"""Reads users back from a sandbox as anybody would: over HTTP, one after the other."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode, urlsplit


def read_back(url: str, user_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the profile API tells of each of these users."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        return {user_id: _read(connection, user_id) for user_id in user_ids}
    finally:
        connection.close()


def properties(url: str, user_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The user properties of each of these users."""
    return {user_id: told["amp_props"] for user_id, told in read_back(url, user_ids).items()}


def _read(connection: http.client.HTTPConnection, user_id: str) -> dict[str, Any]:
    query = urlencode({"user_id": user_id, "get_amp_props": "true"})
    connection.request("GET", f"/v1/userprofile?{query}", headers={"Authorization": "Api-Key any"})
    response = connection.getresponse()
    text = response.read()
    assert response.status == 200, f"{user_id}: {response.status} {text[:200]!r}"
    told = json.loads(text)["userData"]
    assert isinstance(told, dict)
    return told
