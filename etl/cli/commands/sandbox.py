"""`propsync sandbox`: serve a stand-in for Amplitude on this machine."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ...errors import UsageError
from ..console import open_browser, show_lines
from ..options import PATH, command, option, parse_duration, switch


# Each option sets the field of SandboxOptions that has its name, or its plural if it may be repeated; what
# isn't given keeps that field's default.
@command("sandbox")
@option("--port", "N", int, "Port to listen on; 0: any free port.  [default: 0]")
@option("--api-key", "KEY", str, "Accept only this API key. May be repeated.", multiple=True)
@option(
    *("--fault", "KIND:SHARE", str),
    "Let a share of the requests fail, such as 503:5%. May be repeated; the kinds are below.",
    multiple=True,
)
@option("--latency", "DURATION", parse_duration, "Wait before each answer, such as 80ms.")
@option("--seed", "N", int, "Seed that decides which requests fail.  [default: 0]")
@option("--identifications-per-second", "N", float, "Answer 429 above this rate.")
@option("--hot-user", "ID", str, "Answer 429 to requests with this user. May be repeated.", multiple=True)
@option("--poison-user", "ID", str, "Answer 400 to requests with this user. May be repeated.", multiple=True)
@switch("--sink", "Answer success to everything without reading it, to measure speed.")
@switch("--record", "Keep records of all requests, for /_sandbox/requests.")
@option("--journal", "FILE", PATH, "Append one line per request to this file.")
@switch("--memory", "Keep profiles in memory, not in a temporary file.")
@switch("--open", "Open its page in a browser.")
def sandbox_command(**given: Any) -> None:
    r"""Serve a stand-in for Amplitude on this machine until Ctrl-C.

    It takes identifications at /identify and events at /batch and /2/httpapi as Amplitude would, keeps
    profiles, and serves them back at /v1/userprofile. Its page at / shows users, requests and faults. By
    default every key is good, nothing fails and no speed is too high.

    Kinds of faults
      400 to 599  answer with that status
      reset       break the connection without an answer
      stall       never answer
      truncate    answer 200, and end before the body does
      html        answer 502 with an HTML page
      oversized   answer 502 with 8 MiB of text
      empty       answer 200 without a body
      portal      answer 200 with the sign-in page of a portal
      With -before the request is not applied, with -after it is: reset-after:1%

    Examples
      propsync sandbox --port 8900
      propsync sandbox --fault 503:5% --fault reset-after:1% --latency 80ms
      curl -H 'Authorization: Api-Key any' \
        'http://127.0.0.1:8900/v1/userprofile?user_id=user-1&get_amp_props=true'

    Limits, quotas and more can be changed while it runs: POST /_sandbox/faults, see docs/sandbox.md.
    """
    import asyncio

    from ...sandbox import SandboxError, make_options, serve

    opens = given.pop("open")

    def ready(url: str) -> None:
        show_lines([f"sandbox at {url}"])
        if opens:
            open_browser(url)

    given = {name: value for name, value in given.items() if value is not None}
    values = {f"{name}s" if isinstance(value, tuple) else name: value for name, value in given.items()}
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(serve(make_options(values), ready=ready))
    except SandboxError as error:
        raise UsageError(error.message, hint=error.hint) from error
