"""A run that is reported to a monitor, a chat or a person: when it starts, and how it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from ..checkpoint.run_records import past_runs
from ..errors import EtlError, ExitCode, StateError, UsageError
from ..run_events import Ended, Event, Started, Summary
from ..text import address, one_line
from .summary import headline, row_phrases, summary_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

When: TypeAlias = Literal["change", "always", "failure"]
_MESSAGES: Final = "webhook+"
_SECONDS: Final = 10.0  # for all notifications at the end of a run
_START_SECONDS: Final = 4.0
_TRIES: Final = 2
_DONE: Final = {ExitCode.DONE, ExitCode.REJECTS}


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send notifications: `url` is a secret, and messages show only `place`.

    A monitor has a path for the start and one for a failure; "webhook" gets one JSON message with a text,
    "apprise" one message for people.
    """

    url: str
    kind: Literal["monitor", "webhook", "apprise"]
    place: str

    @property
    def secrets(self) -> tuple[str, ...]:
        """The URL, and its parts before and behind the host."""
        rest = self.url.partition("://")[2]
        login = rest.partition("/")[0].rpartition("@")[0]
        tail = rest.partition("/")[2] if self.kind != "apprise" else rest
        return tuple(text for text in (self.url, tail, login, login.partition(":")[2]) if text)


def notify_target(text: str) -> Target:
    """Read a URL to notify. Raises UsageError, which doesn't show it, if it can't be used."""
    scheme = text.partition(":")[0].lower()
    hint = "give https://..., webhook+https://..., or a URL of Apprise such as mailtos://..."
    if scheme.removeprefix(_MESSAGES) in {"http", "https"}:
        url = text[len(_MESSAGES) :] if scheme.startswith(_MESSAGES) else text
        try:
            host, _ = urlsplit(url).hostname, urlsplit(url).port
        except ValueError:
            host = None
        if not host or any(sign <= " " for sign in url):
            raise UsageError("the URL to notify has no host, or one that can't be read", hint=hint)
        return Target(url, "webhook" if url != text else "monitor", host)
    try:
        import apprise
    except ImportError:
        message = "the URL to notify is neither http:// nor https://, and for others Apprise is needed"
        raise UsageError(message, hint="pip install 'propsync[notify]', or " + hint) from None
    if not apprise.Apprise().add(text):
        raise UsageError("the URL to notify is not one that Apprise can read", hint=hint)
    return Target(text, "apprise", f"{scheme}://***")


class Notifier:
    """Notifies `target` of the start and the end; `when` None: always for a monitor, else on a change.

    Only a monitor with "always" is notified of the start. A change is the first failure, or the first success
    after one, by the records of past runs in `state_dir`. The run doesn't wait for the start's notification,
    and at its end for 10 s at most; StateError is raised then if something didn't arrive.
    """

    def __init__(self, target: Target, when: When | None = None) -> None:
        self._target = target
        self._when = when or ("always" if target.kind == "monitor" else "change")
        self._failed_before: bool | None = None
        self._start: Thread | None = None
        self._faults: list[str] = []

    def compare_with(self, state_dir: Path) -> None:
        """Look up how the last run ended, before this one leaves its record."""
        codes = (record["summary"].get("exit_code") for record in past_runs(state_dir))
        last = next((code for code in codes if code != ExitCode.ACTIVE), None)
        self._failed_before = None if last is None else last not in _DONE

    def __call__(self, event: Event) -> None:
        """Notify of the start in a thread; notify of the end, and wait for both."""
        if isinstance(event, Started) and self._when == "always" and self._target.kind == "monitor":
            started = {"status": "started", "job": event.job, "endpoint": address(event.endpoint)}
            resumed = {"total_rows": event.total_rows, "resumed_rows": event.resumed.rows}
            self._start = self._post("/start", {**started, **resumed}, _START_SECONDS)
        if isinstance(event, Ended) and self._is_wanted(event.summary):
            self._end(event.summary)

    def _is_wanted(self, summary: Summary) -> bool:
        failed = summary.failed
        if self._when == "change":
            changed = failed != bool(self._failed_before)
            return changed and summary.exit_code != ExitCode.ACTIVE
        return failed or self._when == "always"

    def _end(self, summary: Summary) -> None:
        end, failed = time.monotonic() + _SECONDS, summary.failed
        if self._start is not None:  # the two must arrive in their order
            self._start.join(_START_SECONDS)
        left, data, tally = end - time.monotonic(), summary_dict(summary), summary.tally
        title = f"{one_line(summary.job)}: {headline(summary)}"
        again = "The run before had failed." if self._failed_before and not failed else None
        lines = [", ".join(row_phrases(tally)) if tally.rows else None, summary.reason, summary.hint, again]
        body = "\n".join(line for line in lines if line)
        if self._target.kind == "apprise":
            thread = self._in_thread(lambda: self._by_apprise(title, body, failed=failed))
        elif self._target.kind == "webhook":
            thread = self._post("", {"text": f"{title}\n{body}", "summary": data}, left)
        else:
            thread = self._post("/fail" if failed else "", data, left)
        thread.join(end - time.monotonic())
        if thread.is_alive():
            self._faults.append(f"no answer from {self._target.place} in time")
        if self._faults:
            raise StateError(f"a notification was not delivered: {self._faults[-1]}")

    def _in_thread(self, send: Callable[[], None]) -> Thread:
        """Begin to send; what `send` raises is noted."""

        def deliver() -> None:
            try:
                send()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the run goes on
                self._faults.append(error.message if isinstance(error, EtlError) else type(error).__name__)

        thread = Thread(target=deliver, name="notifier", daemon=True)
        thread.start()
        return thread

    def _post(self, path: str, data: dict[str, Any], seconds: float) -> Thread:
        return self._in_thread(lambda: _posted(self._target.url, path, data, seconds / _TRIES))

    def _by_apprise(self, title: str, body: str, *, failed: bool) -> None:
        import logging

        import apprise

        logging.getLogger("apprise").disabled = True  # its messages may hold the URL
        kind = apprise.NotifyType.FAILURE if failed else apprise.NotifyType.SUCCESS
        targets = apprise.Apprise(self._target.url)
        if not any(targets.notify(title=title, body=body, notify_type=kind) for _ in range(_TRIES)):
            raise StateError("Apprise could not deliver it")


def _posted(url: str, path: str, data: dict[str, Any], seconds: float) -> None:
    """Post JSON, twice if need be, each within so many seconds. Raises StateError if it did not arrive."""
    import asyncio
    import json

    import aiohttp

    from ..amplitude.responses import Response
    from ..sender.http import HttpSession

    parts = urlsplit(url)
    base, place = urlunsplit((parts.scheme, parts.netloc, "", "", "")), parts.path.rstrip("/") + path
    query = f"?{parts.query}" if parts.query else ""
    body, headers = json.dumps(data).encode(), {"Content-Type": "application/json"}

    async def post() -> None:
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with HttpSession(base, connections=1, allow_http=True, timeout=timeout) as session:
            for _ in range(_TRIES):
                answer = await session.request("POST", (place or "/") + query, (body,), headers)
                if not isinstance(answer, Response):
                    fault = answer.message
                elif 200 <= answer.status < 300:
                    return
                else:
                    fault = f"{parts.hostname} answered {answer.status}"
        raise StateError(fault)

    asyncio.run(post())
