"""Sends the sample export to a sandbox with the real commands, and reads one user back."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
import tempfile
import textwrap
import unicodedata
import urllib.request
from pathlib import Path
from typing import Any

from etl import Job, preview
from etl.errors import ExitCode
from etl.sandbox import running_sandbox

ROOT = Path(__file__).resolve().parents[1]
EXPORT = Path("sample_data", "users.csv")
JOB = Path("sample_data", "users-csv.yml")
BAD_JOB, BAD_EXPORT = (Path("sample_data", "faulty", name) for name in ("faulty.yml", "bad-numbers.csv"))
PROFILE = "/v1/userprofile?user_id={}&get_amp_props=true"
WIDTH, COLUMN = 80, 34


def main() -> None:
    """Show it, and exit with 1 if anything is otherwise than it should be."""
    os.chdir(ROOT)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    with running_sandbox() as sandbox, tempfile.TemporaryDirectory(prefix="propsync-demo-") as state:
        to_sandbox = ("--endpoint", sandbox.url, "--rate", "max", "--state-dir")
        say(f"A stand-in for Amplitude listens at {sandbox.url}.\nNothing leaves this machine.")
        command("check", str(JOB))
        command("run", str(JOB), *to_sandbox, f"{state}/good")
        show_user(sandbox.url)
        say("\nAn export with mistakes in it: each costs its own row, and exit code 3 says so.")
        bad = ("run", str(BAD_JOB), str(BAD_EXPORT), *to_sandbox, f"{state}/bad")
        command(*bad, expected=ExitCode.REJECTS)
        show_rejects(Path(state, "bad", "rejects.ndjson"))
    say("\nNow with your own export: propsync init users.csv -o job.yml")


def command(*words: str, expected: ExitCode = ExitCode.DONE) -> None:
    """Type a command, run it, and show what it says."""
    say(f"\n$ {typed(words)}")
    environment = {**os.environ, "AMPLITUDE_API_KEY": "the-sandbox-takes-any-key", "COLUMNS": str(WIDTH)}
    code = subprocess.run([sys.executable, "-m", "etl", *words], env=environment, check=False).returncode
    if code != expected:
        sys.exit(f"the demo failed: propsync ended with exit code {code}, not {expected}")


def typed(words: tuple[str, ...]) -> str:
    """The command as one would type it, in lines that fit."""
    text = shlex.join(["propsync", *words])
    lines = textwrap.wrap(
        text, WIDTH - 4, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    return " \\\n".join(lines)


def show_rejects(path: Path) -> None:
    """Show why rows were handed back."""
    say(f"\nIn {path.name}, to be fixed and sent again:")
    for line in path.read_text(encoding="utf-8").splitlines():
        reject = json.loads(line)
        say(f"  row {reject['row']}, {reject['code']}: {reject['reason']}")


def show_user(url: str) -> None:
    """Read the first user back and show it beside the row it came from."""
    job = Job.load(JOB)
    sent = json.loads(next(preview(job, count=1)))
    with EXPORT.open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    found = read_back(url, sent["user_id"])
    say("\n$ curl -H 'Authorization: Api-Key any' \\")
    say(f"    '{url}{PROFILE.format(sent['user_id'])}'\n")
    beside(
        [str(EXPORT), "", *(f"{name}: {json.dumps(text, ensure_ascii=False)}" for name, text in row.items())],
        ["the user in the sandbox", "", *json.dumps(found, ensure_ascii=False, indent=1).splitlines()],
    )
    if found["user_id"] != sent["user_id"] or not set_properties(sent).items() <= found["amp_props"].items():
        sys.exit("the demo failed: what was read back is not what was sent")


def set_properties(sent: dict[str, Any]) -> dict[str, Any]:
    """What an identification sets in the profile of a new user."""
    given = sent["user_properties"]
    return {**given.get("$setOnce", {}), **given.get("$set", {})}


def read_back(url: str, user_id: str) -> dict[str, Any]:
    """A user's profile."""
    request = urllib.request.Request(
        f"{url}{PROFILE.format(user_id)}", headers={"Authorization": "Api-Key any"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        profile: dict[str, Any] = json.load(answer)["userData"]
    return profile


def beside(left: list[str], right: list[str]) -> None:
    """Show two texts side by side, cut where they are too wide."""
    for number in range(max(len(left), len(right))):
        first, second = (cut(lines[number] if number < len(lines) else "") for lines in (left, right))
        say(f"  {first}{' ' * (COLUMN - width(first))}   {second}".rstrip())


def cut(line: str) -> str:
    """The line, or as much of it as fits in a column."""
    if width(line) <= COLUMN:
        return line
    while width(line) > COLUMN - 3:
        line = line[:-1]
    return line + "..."


def width(line: str) -> int:
    """How many cells of a terminal the text takes."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in line)


def say(text: str) -> None:
    """Show a line before anything that a command shows."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
