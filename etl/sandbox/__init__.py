"""A stand-in for Amplitude on this machine, written from what is known of its APIs."""

from etl.sandbox.faults import FaultRule, parse_fault
from etl.sandbox.options import SandboxOptions, parse_latency
from etl.sandbox.running import Sandbox, running_sandbox, serve

__all__ = [
    "FaultRule",
    "Sandbox",
    "SandboxOptions",
    "parse_fault",
    "parse_latency",
    "running_sandbox",
    "serve",
]
