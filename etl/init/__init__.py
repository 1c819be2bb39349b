"""`propsync init`: a source becomes a proposal for its job file."""

from __future__ import annotations

from etl.init.proposing import Proposal, propose, propose_job

__all__ = ["Proposal", "propose", "propose_job"]
