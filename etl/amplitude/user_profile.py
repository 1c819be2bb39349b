"""The User Profile API: what it is asked, and what its answers mean. No I/O.

Source: https://amplitude.com/docs/apis/analytics/user-profile
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias
from urllib.parse import urlencode, urlsplit

from .answers import Payload, json_object, quote_answer
from .requests import REGIONS, is_amplitude
from .responses import KeyRefused, Response, SlowDown, Stop, TryAgain, classify_response

PROFILE_URL: Final = "https://profile-api.amplitude.com"
PROFILE_PATH: Final = "/v1/userprofile"
READS_PER_MINUTE: Final = 600.0

_UNSEEN: Final = "not seen before"  # "User id and device id not seen before"
_TOO_MANY: Final = "requests per minute exceeds"
_CHECK_KEY: Final = "check the secret key: it is another one than the API key, and of the same project"
_CHECK_URL: Final = "check the base URL (`destination.region` or --endpoint)"


@dataclass(frozen=True, slots=True)
class UserProfile:
    """A user or device as it is read back.

    `user_id` None: the device has no user. `groups` None: the answer doesn't have them. `fields` are all
    other texts of the answer, by name.
    """

    user_id: str | None
    device_ids: tuple[str, ...]
    properties: Mapping[str, Any]
    groups: Mapping[str, Any] | None
    fields: Mapping[str, str]

    @classmethod
    def of(cls, data: Payload) -> Self:
        """The profile in the `userData` of an answer."""
        fields = {str(name): value for name, value in data.items() if isinstance(value, str)}
        properties, groups, devices = (data.get(key) for key in ("amp_props", "groups", "device_ids"))
        named = devices if isinstance(devices, list) else [data.get("device_id")]
        return cls(
            user_id=fields.get("user_id") or None,
            device_ids=tuple(one for one in named if isinstance(one, str)),
            properties=properties if isinstance(properties, dict) else {},
            groups=groups if isinstance(groups, dict) else None,
            fields=fields,
        )


@dataclass(frozen=True, slots=True)
class Unseen:
    """There is no such user. Unless `stated`, it is a bare 404, which a wrong base URL has, too."""

    stated: bool


ProfileVerdict: TypeAlias = UserProfile | Unseen | SlowDown | TryAgain | Stop


def profile_endpoint(endpoint: str) -> str | None:
    """The base URL for reading users of an endpoint: its own, but for Amplitude's. None in the EU."""
    if not is_amplitude(endpoint):
        return endpoint
    return None if urlsplit(endpoint).hostname == urlsplit(REGIONS["eu"]).hostname else PROFILE_URL


def profile_path(ids: Mapping[str, str]) -> str:
    """The path that asks for a user by `user_id` or `device_id`, with all properties."""
    return f"{PROFILE_PATH}?{urlencode({**ids, 'get_amp_props': 'true'})}"


def classify_profile(response: Response) -> ProfileVerdict:
    """The verdict of an answer; its message has at most 500 characters."""
    payload = json_object(response.body)
    error, message = payload.get("error"), quote_answer(response.body, *response.secrets)
    if response.status == 401:
        return KeyRefused(message, _CHECK_KEY)
    if isinstance(error, str) and _TOO_MANY in error:
        return SlowDown(response.wait, message, response.asked)
    if response.status in {200, 400, 404} and isinstance(error, str) and _UNSEEN in error:
        return Unseen(stated=True)
    if response.status == 404:
        return Unseen(stated=isinstance(error, str))
    if response.status != 200:
        verdict = classify_response(response)
        if isinstance(verdict, SlowDown | TryAgain | Stop) and not isinstance(verdict, KeyRefused):
            return verdict
        return Stop(f"unexpected answer {response.status} {message}".rstrip(), _CHECK_URL)
    if isinstance(data := payload.get("userData"), dict):
        return UserProfile.of(data)
    return TryAgain(False, f"no usable answer: 200 {message or 'with an empty body'}", status=200)
