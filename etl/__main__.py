"""`python -m etl` and the `propsync` command: errors to messages and exit codes."""

from __future__ import annotations

import os
import sys
import traceback

from etl.errors import EtlError, ExitCode


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run the command line; the exit code. Messages for the user go to stderr."""
    import click

    from etl.cli import propsync

    try:
        return int(propsync.main(arguments, prog_name="propsync", standalone_mode=False) or ExitCode.DONE)
    except EtlError as error:
        _say(f"propsync: {error}")
        return error.exit_code
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        _say("propsync: interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; Python must not try to flush it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except Exception:  # noqa: BLE001 - a fault of ours: never silent, and never with the key
        _say(f"propsync: this is a fault of propsync, please report it\n{_blotted(traceback.format_exc())}")
        return ExitCode.FAULT


def _blotted(text: str) -> str:
    secrets = [value for name, value in os.environ.items() if name.endswith("_KEY") and len(value) >= 8]
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - the one place that talks to the user in the end


if __name__ == "__main__":
    main()
