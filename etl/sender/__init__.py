"""Stage 5, SEND: chunks to Amplitude until every identification has a verdict, in order for each user."""

from etl.sender.backoff import Backoff, Clock
from etl.sender.outcome import Outcome
from etl.sender.protocols import Transport
from etl.sender.rate import AdaptiveRate, FixedRate, RateLimiter
from etl.sender.sender import Sender

__all__ = ["AdaptiveRate", "Backoff", "Clock", "FixedRate", "Outcome", "RateLimiter", "Sender", "Transport"]
