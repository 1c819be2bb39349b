"""Who is let in and how often: keys, speed and throttled users, counted over all paths together."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from etl.sandbox.checks import RequestRefusedError
from etl.sandbox.limits import RollingCount, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from etl.sandbox.options import SandboxOptions

_HOUR_SECONDS: Final = 3600.0


class Gate:
    """Holds what is counted against the options' limits. What it refuses is a RequestRefusedError."""

    def __init__(self, options: SandboxOptions, clock: Callable[[], float]) -> None:
        self._options = options
        self._hot_tries: Counter[str] = Counter()
        self._requests = _bucket(options.requests_per_second, clock)
        self._identifications = _bucket(options.identifications_per_second, clock)
        self._reads = _bucket(options.reads_per_minute and options.reads_per_minute / 60, clock)
        per_second, window = options.user_updates_per_second, options.user_window
        self._updates = None if per_second is None else RollingCount(per_second * window, window, clock)
        hourly = options.user_updates_per_hour
        self._hourly = None if hourly is None else RollingCount(hourly, _HOUR_SECONDS, clock)

    def enter(self) -> None:
        """Let one more request in."""
        if self._requests is not None and not self._requests.take(1):
            raise RequestRefusedError(429, "too many requests a second")

    def admit(self, count: int) -> None:
        """Let that many identifications or events in."""
        if self._identifications is not None and not self._identifications.take(count):
            raise RequestRefusedError(429, "too many identifications a second")

    def read(self, authorization: str) -> None:
        """Let one more read with this Authorization header in."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "api-key" or not _known(secret.strip(), self._options.secret_keys):
            raise RequestRefusedError(401, "invalid secret key")
        if self._reads is not None and not self._reads.take(1):
            raise RequestRefusedError(429, "too many reads a minute")

    def check_key(self, api_key: str | None) -> None:
        """Refuse a key that isn't right; the reason never holds it."""
        if _known(api_key, self._options.api_keys):
            return
        echo = f"Invalid API key: {api_key or ''}"
        words = echo if self._options.echo_key else "invalid_api_key"
        raise RequestRefusedError(400, words, reason="invalid_api_key")

    def hot(self, names: Collection[str]) -> list[str]:
        """Pick the hot ones among the ids of one request, and count its try."""
        hot, limit = self._options.hot_users.intersection(names), self._options.hot_tries
        self._hot_tries.update(hot)
        return [name for name in hot if limit is None or self._hot_tries[name] <= limit]

    def quick(self, names: Collection[str]) -> list[str]:
        """Pick those who can't have one more update now, on the average of the window."""
        return [] if self._updates is None else [name for name in names if self._updates.full(name)]

    def count(self, name: str) -> bool:
        """Count one update of a user; False where the hourly limit drops it."""
        if self._updates is not None:
            self._updates.add(name)
        if self._hourly is not None:
            if self._hourly.full(name):
                return False
            self._hourly.add(name)
        return True


def _known(key: str | None, valid: frozenset[str]) -> bool:
    return bool(key) and (not valid or key in valid)


def _bucket(rate: float | None, clock: Callable[[], float]) -> TokenBucket | None:
    return None if rate is None else TokenBucket(rate, clock)
