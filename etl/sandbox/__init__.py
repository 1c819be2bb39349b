"""A stand-in for Amplitude on this machine, written from what is known of its APIs."""

from etl.sandbox.fault_injection import FaultRule, SandboxError, parse_fault
from etl.sandbox.lifecycle import Sandbox, running_sandbox, serve
from etl.sandbox.sandbox_options import SandboxOptions, make_options, parse_latency

__all__ = [
    "FaultRule",
    "Sandbox",
    "SandboxError",
    "SandboxOptions",
    "make_options",
    "parse_fault",
    "parse_latency",
    "running_sandbox",
    "serve",
]
