"""A stand-in for Amplitude on this machine, written from what is known of its APIs."""

from .sandbox_options import FaultRule as FaultRule
from .sandbox_options import SandboxError as SandboxError
from .sandbox_options import SandboxOptions as SandboxOptions
from .sandbox_options import make_options as make_options
from .sandbox_options import parse_fault as parse_fault
from .sandbox_options import parse_latency as parse_latency
from .server import Sandbox as Sandbox
from .server import running_sandbox as running_sandbox
from .server import serve as serve
