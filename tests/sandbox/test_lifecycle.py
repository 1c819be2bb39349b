from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from etl.sandbox import Sandbox, SandboxError, SandboxOptions, running_sandbox, serve

from .client import HandClock, control, identify, user

if TYPE_CHECKING:
    from pathlib import Path

SERVE = """
import asyncio
from etl.sandbox import SandboxOptions, serve
asyncio.run(serve(SandboxOptions(), ready=lambda url: print(url, flush=True)))
"""


def test_it_listens_on_this_machine_only_and_on_a_free_port() -> None:
    with running_sandbox() as one, running_sandbox() as other:
        assert one.url.startswith("http://127.0.0.1:")
        assert one.url != other.url


def test_a_taken_port_is_an_error_with_a_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = SandboxOptions(port=taken.getsockname()[1])
        with pytest.raises(SandboxError, match="port") as caught, running_sandbox(options):
            pass
    assert "--port" in (caught.value.hint or "")


def test_the_port_is_free_again_afterwards() -> None:
    with running_sandbox() as sandbox:
        port = int(sandbox.url.rpartition(":")[2])
        identify(sandbox.url, user(1))
    with running_sandbox(SandboxOptions(port=port)) as sandbox:
        assert identify(sandbox.url, user(1)).status == 200


def test_it_runs_in_an_event_loop_of_the_caller() -> None:
    async def scenario() -> int:
        async with Sandbox() as sandbox:
            reply = await asyncio.to_thread(identify, sandbox.url, [user(1), user(2)])
            assert reply.text == "success"
            return len(sandbox.profiles)

    assert asyncio.run(scenario()) == 2


def test_the_journal_is_appended_to_and_holds_no_bodies(tmp_path: Path) -> None:
    path = tmp_path / "journal.ndjson"
    wall = HandClock(1_700_000_000.5)
    for _ in range(2):
        with running_sandbox(SandboxOptions(journal=path), wall=wall) as sandbox:
            identify(sandbox.url, [user(1, secret="hush")], key="hush")
    first, second = map(json.loads, path.read_text().splitlines())
    text = json.dumps([user(1, secret="hush")])
    body = urlencode({"api_key": "hush", "identification": text}).encode()
    assert first == {
        "path": "/identify",
        "received": 1_700_000_000.5,
        "sha256": sha256(body).hexdigest(),
        "size": len(body),
        "identifications": 1,
        "users": 1,
        "status": 200,
        "applied": True,
        "fault": None,
        "reason": "",
    }
    assert second == first
    assert "hush" not in path.read_text()


def test_a_journal_that_cant_be_opened_is_an_error(tmp_path: Path) -> None:
    options = SandboxOptions(journal=tmp_path / "missing" / "journal")
    with pytest.raises(SandboxError, match="journal"), running_sandbox(options):
        pass


def test_serve_runs_until_it_is_interrupted() -> None:
    with subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert control(url, "stats").json["requests"] == 0
        process.send_signal(signal.SIGTERM)  # SIGINT: tests/cli/test_sandbox_command.py
        assert process.wait(30) == 0


def test_serve_ends_when_cancelled() -> None:
    async def scenario() -> None:
        ready = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(SandboxOptions(), ready=ready.set_result))
        url = await ready
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(OSError, match="refused"):
            control(url, "stats")

    asyncio.run(scenario())
