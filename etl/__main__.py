"""`python -m etl` and the `propsync` command: errors to messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback

from etl.errors import EtlError, ExitCode


def main() -> None:
    """Run the command line and exit with its code."""
    from etl.cli.allocation import settle_allocation
    from etl.cli.pandas_import import keep_out

    settle_allocation()
    keep_out()
    code = run_command(sys.argv[1:])
    # The code is decided; an impatient Ctrl-C while Python tidies up must not replace it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if any(thread.daemon for thread in threading.enumerate()):
        # A reader that is stuck in a pipe: Python would wait for it, or stumble over it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run_command(arguments: list[str]) -> int:
    """Run the command line; the exit code. Messages for the user go to stderr."""
    import click

    from etl.cli import propsync
    from etl.cli.invocation import Invocation

    invocation = Invocation(tuple(arguments))
    try:
        code = propsync.main(arguments, prog_name="propsync", standalone_mode=False, obj=invocation)
        return int(code or ExitCode.DONE)
    except EtlError as error:
        invocation.tell_error(error)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        invocation.tell("interrupted", "propsync: interrupted")
        return ExitCode.INTERRUPTED
    except Exception:  # noqa: BLE001 - a fault of ours: never silent, and never with the key
        invocation.tell_fault(traceback.format_exc())
        return ExitCode.FAULT


if __name__ == "__main__":
    main()
