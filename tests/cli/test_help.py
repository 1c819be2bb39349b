"""What the command says of itself, and how fast."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import click
import jsonschema
import pytest
import yaml

from etl.__main__ import run_command_line
from etl.cli.app import propsync as commands
from etl.errors import ExitCode
from tests.acceptance import exports, test_real_data
from tests.commands import REPOSITORY, Propsync
from tests.examples import each_row

NAMES = list(commands.commands)


def test_the_commands_are_those_of_the_design() -> None:
    assert {"init", "check", "preview", "run", "status", "schema", "sandbox"} <= set(NAMES)


def test_without_arguments_the_help_is_shown_once(propsync: Propsync) -> None:
    finished = propsync()
    assert finished.code == 2
    assert finished.err == propsync("--help").out


def test_a_choice_that_is_missing_is_named_in_one_line(propsync: Propsync) -> None:
    finished = propsync("plan")
    assert finished.code == 2
    assert finished.err.splitlines()[-1].startswith("Error: Missing argument")
    assert finished.err.endswith("Choose from: show\n")


@each_row("words", [[], *([name] for name in NAMES)])
@each_row("flag", ["--help", "-h"])
def test_help_has_examples_and_fits_a_terminal(
    propsync: Propsync, words: list[str], flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    finished = propsync(*words, flag)
    assert finished.code == 0
    assert "Examples\n" in finished.out
    assert "\\b" not in finished.out
    assert [line for line in finished.out.splitlines() if len(line) > 80] == []
    assert not finished.err


def test_every_example_is_a_command_that_there_is() -> None:
    for name, command in commands.commands.items():
        examples = re.findall(r"propsync (\w+)", command.epilog or "")
        assert name in examples
        assert set(examples) <= set(NAMES)


def test_every_flag_in_an_example_is_taken() -> None:
    for command in commands.commands.values():
        flags = {flag for option in command.params for flag in option.opts}
        for example in re.findall(r"propsync \w+(.*)", command.epilog or ""):
            assert set(re.findall(r"(?<= )--?[a-z-]+", example.split("|")[0])) <= flags


def test_help_tells_every_exit_code(propsync: Propsync) -> None:
    out = propsync("--help").out
    assert all(re.search(rf"^ +{int(code)}  +\w", out, re.MULTILINE) for code in ExitCode)


def test_the_version_is_told(propsync: Propsync) -> None:
    assert re.fullmatch(r"propsync, version \d+\.\d+\.\d+\S*\n", propsync("--version").out)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from etl.__main__ import run_command_line\n"
        "for words in (['--help'], ['run', '--help'], ['--version']):\n"
        "    assert run_command_line(words) == 0\n"
        "heavy = {'pandas', 'pyarrow', 'aiohttp', 'numpy', 'pydantic', 'rich', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_comes_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    monkeypatch.setenv("_PROPSYNC_COMPLETE", f"{shell}_source")
    with pytest.raises(SystemExit, match="0"):  # so ends click, before there is a command
        run_command_line([])
    assert "_PROPSYNC_COMPLETE" in capsys.readouterr().out


def test_completion_knows_commands_and_flags(propsync: Propsync) -> None:
    words = {"_PROPSYNC_COMPLETE": "bash_complete", "COMP_WORDS": "propsync run --rep", "COMP_CWORD": "2"}
    assert "plain,--report" in propsync.process(full=True, **words).out
    assert commands.shell_complete(click.Context(commands), "ch")[0].value == "check"


def test_the_schema_takes_the_job_files_of_the_tests(propsync: Propsync) -> None:
    finished = propsync("schema")
    assert finished.code == 0
    schema = yaml.safe_load(finished.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for text in (exports.JOB, test_real_data.CDNOW_JOB, test_real_data.USERDATA_JOB):
        # As editors read it: every key is a text, `null` too.
        validator.validate(yaml.load(text, Loader=yaml.BaseLoader))


def test_the_schema_refuses_what_a_run_would(propsync: Propsync) -> None:
    validator = jsonschema.Draft202012Validator(yaml.safe_load(propsync("schema").out))
    assert not validator.is_valid(yaml.safe_load(exports.JOB.replace("plan: plan", "plan: {colum: plan}")))
    assert not validator.is_valid({"source": "users.csv"})
