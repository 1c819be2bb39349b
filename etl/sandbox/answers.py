"""Answers of the API, and the refusals that become answers."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it is sent; JSON where `text` is an object. `reason` says why it isn't a success."""

    status: int
    text: str
    reason: str = ""


class RequestRefusedError(Exception):
    """The request is answered with `status` and nothing of it is applied.

    `message` and, in a JSON answer, `details` go to the client; `reason` is the message without what may not
    be kept, such as a key.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        reason: str | None = None,
        details: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = message if reason is None else reason
        self.details = details

    def as_answer(self) -> Answer:
        """Answer as the Identify API does: these two messages as bare text, all others as JSON."""
        if self.message in {"missing_event", "invalid_api_key"}:
            return Answer(self.status, self.message, self.reason)
        return self.as_json_answer()

    def as_json_answer(self) -> Answer:
        """Answer with a JSON object, as the event APIs always do."""
        body = {"code": self.status, "error": self.message, **self.details}
        return Answer(self.status, orjson.dumps(body).decode(), self.reason)
