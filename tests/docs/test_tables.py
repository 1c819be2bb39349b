"""What the pages list is what there is: commands, options, exit codes, codes of rejects, events, settings."""

from __future__ import annotations

import dataclasses
import re
import shlex
from functools import cache
from pathlib import Path

import click

from etl import errors
from etl.amplitude.requests import DEFAULT_REQUESTS_PER_SECOND, TRANSPORT_RULES
from etl.cli.app import propsync
from etl.errors import REMEDIES, EtlError, ExitCode
from etl.listeners.metrics import metrics_text
from etl.listeners.summary import summary_dict
from etl.pipeline.settings import Settings
from etl.run_events import Summary
from etl.tally import Tally
from tests.docs.pages import DOCS, README, ROOT, blocks, prose, table, user_pages
from tests.docs.playing import steps
from tests.docs.source_codes import reject_codes
from tests.examples import each_row
from tests.listeners.events import every_metric

RUNNING, LIBRARY = DOCS / "running.md", DOCS / "library.md"
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
# Names that have a `--` before them and are not options of the command.
_OTHERS = {"--help", "--version", "--json-lines"} | {
    # What docs/containers.md gives to Docker and Kubernetes.
    *("--build-arg", "--cap-drop", "--from-file", "--read-only", "--rm", "--security-opt"),
    *("--stop-timeout", "--tmpfs"),
}

# click keeps the help option of its first context: it has to be that of the command itself.
COMMAND = click.Context(propsync, **propsync.context_settings)


@cache
def text() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in user_pages())


def spellings() -> list[list[str]]:
    """For each option of each command, the ways to write it."""
    return [
        parameter.opts
        for command in propsync.commands.values()
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
    ]


def test_every_option_named_is_one_of_the_command() -> None:
    known = {name for names in spellings() for name in names}
    assert set(_OPTION.findall(text())) - known - _OTHERS == set()


def test_every_option_of_the_command_is_named() -> None:
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text()))
    assert [names for names in spellings() if named.isdisjoint(names)] == []


def test_every_command_is_in_the_readme() -> None:
    listed = {re.sub(r"^propsync (\w+).*", r"\1", row[0]) for row in table(README, "command")}
    assert listed == set(propsync.commands)


def typed_commands() -> list[str]:
    shown = [
        step.command.partition(" > ")[0]
        for page in user_pages()
        for block in blocks(page, "console")
        for step in steps(block.text)
    ]
    in_lines = [line for page in user_pages() for line in re.findall(r"`([^`\n]*)`", prose(page))]
    in_lines = [part.strip() for line in in_lines for part in re.split(r"&&|>", line)]
    found = [re.sub(r"^(?:[A-Z_]+=\S+ )+", "", command) for command in (*shown, *in_lines)]
    return sorted({command for command in found if command.startswith("propsync ")})


@each_row("command", typed_commands())
def test_every_command_typed_is_understood(command: str) -> None:
    name, *words = shlex.split(command)[1:]
    if name.startswith("-"):
        assert any(name in option.opts for option in propsync.get_params(COMMAND))
        return
    assert name in propsync.commands
    if words:
        propsync.commands[name].make_context(name, words, parent=COMMAND)


def test_exit_codes_are_the_same_everywhere() -> None:
    readme = {int(code): meaning for code, meaning in table(README, "code")}
    told = re.findall(r"^ +(\d+) +(\S.*(?:\n {7,}\S.*)*)$", propsync.get_help(COMMAND), re.MULTILINE)
    assert readme == {int(code): " ".join(meaning.split()) for code, meaning in told}
    assert set(readme) == {int(code) for code in ExitCode}
    assert {int(row[0]) for row in table(RUNNING, "exit")} == set(readme)


def test_reject_codes_are_those_of_the_program() -> None:
    rows = [row[0] for row in table(RUNNING, "code")]
    assert sorted(rows) == sorted(reject_codes(ROOT / "etl"))
    assert reject_codes(ROOT / "etl") <= REMEDIES.keys(), "each has a remedy"


def test_the_summary_has_the_keys_in_the_table() -> None:
    told = ", ".join(row[0] for row in table(RUNNING, "key of the summary")).split(", ")
    assert sorted(told) == sorted(summary_dict(Summary("", Tally(), 0.0, 0, "finished")))


def test_metrics_are_those_of_the_program() -> None:
    written = set(re.findall(r"^# TYPE (\w+)", metrics_text(every_metric()), re.MULTILINE))
    assert set(re.findall(r"\bpropsync_[a-z_]+", RUNNING.read_text(encoding="utf-8"))) == written


def test_settings_are_those_of_the_program() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)} - {"clock"}
    assert {row[0] for row in table(LIBRARY, "setting")} == fields


def test_errors_are_those_of_the_program() -> None:
    told = {name: int(code) for names, _, code in table(LIBRARY, "error") for name in names.split(", ")}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EtlError)]
    assert told == {kind.__name__: int(kind.exit_code) for kind in kinds if kind is not EtlError}


def test_defaults_are_those_of_the_command() -> None:
    told = {row[0].split()[0]: row[1] for row in table(RUNNING, "option")}
    assert float(told.pop("--requests-per-second")) == DEFAULT_REQUESTS_PER_SECOND  # it depends on --rate
    identify, batch = (
        TRANSPORT_RULES["identify"],
        TRANSPORT_RULES["batch"],
    )  # and these on the job's transport
    assert told.pop("--batch-size") == f"{identify.batch_size}; with batch {batch.batch_size}"
    waits = f"{identify.throttle_seconds:g}; with batch {batch.throttle_seconds:g}"
    assert told.pop("--throttle-wait") == waits
    run = propsync.commands["run"]
    assert told == {p.opts[0]: str(p.default) for p in run.params if p.opts[0] in told}


def test_the_changes_begin_with_this_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = re.search(
        r'^version = "(.+)"$', Path(ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert version is not None
    assert re.findall(r"^## (\S+)", changes, re.MULTILINE)[0] == version[1]
