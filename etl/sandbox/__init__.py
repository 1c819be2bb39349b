"""A stand-in for Amplitude on this machine, written from what is known of its APIs."""

from .sandbox_options import FaultRule, SandboxError, SandboxOptions, make_options, parse_fault, parse_latency
from .server import Sandbox, running_sandbox, serve

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
