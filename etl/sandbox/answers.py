"""What a request asks for and what it is answered, whichever of Amplitude's paths it came by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from etl.amplitude import MIN_ID_LENGTH

if TYPE_CHECKING:
    from etl.sandbox.checks import Identification, RequestRefusedError
    from etl.sandbox.flights import UserKey


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it goes out; JSON where `text` is an object. `reason` says why it isn't a success."""

    status: int
    text: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """What a request asks for, not yet checked: its JSON text, what was in it, and whom each is about.

    An upload of events has them as `identifications`, and the `min_id_length` that it asked for.
    """

    text: str
    identifications: list[Identification]
    users: tuple[UserKey, ...]
    min_id_length: int = MIN_ID_LENGTH


def refusal(error: RequestRefusedError) -> Answer:
    """Answer a refused request: bare words where the Identify API is known to use them, or JSON."""
    bare = error.words in {"missing_event", "invalid_api_key"}
    return Answer(error.status, error.words, error.reason) if bare else json_refusal(error)


def json_refusal(error: RequestRefusedError) -> Answer:
    """Answer a refused request with a JSON object, as the event APIs always do."""
    told = {"code": error.status, "error": error.words, **error.details}
    return Answer(error.status, orjson.dumps(told).decode(), error.reason)
