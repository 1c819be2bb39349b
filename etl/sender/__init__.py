"""Stage 5, SEND: chunks to Amplitude until every identification has a verdict, in order for each user."""

from .backoff import Backoff, Clock
from .delivery import Transport
from .parts import Outcome
from .rate import AdaptiveRate, RateLimiter
from .sender import Sender

__all__ = ["AdaptiveRate", "Backoff", "Clock", "Outcome", "RateLimiter", "Sender", "Transport"]
