"""`python -m etl` and the `propsync` command: errors become messages and exit codes."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from .process import exit_on_signals, watch_imports, watch_signals

    watch_signals()
    code = 130
    try:
        from .cli.console import make_sturdy

        make_sturdy()
        watch_imports()
        code = run_command_line(sys.argv[1:])
        exit_on_signals(code)
    except KeyboardInterrupt:  # before or after the command itself
        exit_on_signals(code)
    _leave(code)


def run_command_line(arguments: list[str]) -> int:
    """Run the command line and return the exit code. Messages for the user go to stderr."""
    import click

    from .cli.app import propsync
    from .cli.console import Invocation

    invocation = Invocation(tuple(arguments), secrets=[os.environ.get("AMPLITUDE_API_KEY", "")])
    try:
        code = propsync.main(arguments, prog_name="propsync", standalone_mode=False, obj=invocation)
        return int(code or 0)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - never silent, and never with the key
        return invocation.failure(error)


def _leave(code: int) -> None:
    """End the process. The code is decided, and further signals do not change it."""
    import threading

    from .process import ignore_signals

    sys.stdout.flush()
    sys.stderr.flush()
    ignore_signals()
    if any(thread.daemon for thread in threading.enumerate()):
        # A reader that is stuck in a pipe: Python would wait for it, or fail over it.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
