"""`propsync init`: what is found in a source, and the job file it writes."""

from __future__ import annotations

from .proposal import Proposal, propose_job

__all__ = ["Proposal", "propose_job"]
