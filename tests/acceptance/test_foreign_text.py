"""What comes from files, servers and arguments can't move a cursor, forge a line or turn its direction."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.cli.console import printable_json
from etl.sandbox import Sandbox
from etl.text import one_line, printable, visible
from tests.commands import QUICK, Finished, Propsync
from tests.examples import each_row, examples

HOSTILE = "\x1b[31mred\x1b[2J\u202e\u2066\x9b1A\x07\x7f\r\nFORGED: all is well\n\u2028FORGED"
# As a part of a file's name: no slash, no NUL, and not too long.
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
CONTROLS = st.text(st.sampled_from("ab \x1b\r\n\t\u202e\x9b\x7f\x00\u200b\ud800é名🙂"), max_size=12)


def is_clean(finished: Finished) -> None:
    for text in (finished.out, finished.err):
        assert all(character == "\n" or character.isprintable() for character in text), ascii(text)
        assert not any(line.lstrip().startswith("FORGED") for line in text.split("\n")), ascii(text)


def all_commands(propsync: Propsync, sandbox: Sandbox, folder: Path, name: str, column: str) -> None:
    quoted = json.dumps(column)
    job, source = folder / f"job{name}.yml", folder / f"users{name}.csv"
    header = column.replace('"', '""')
    source.write_text(f'id,"{header}"\nuser-1,a\n1,b\n', encoding="utf-8", newline="")
    properties = f"user_properties: {{{quoted}: {{column: {quoted}, type: number}}}}"
    job.write_text(f"name: j\nidentification: {{user_id: id, {properties}}}\n", encoding="utf-8")
    run = ("run", job, source, "--endpoint", sandbox.url, *QUICK, "--state-dir", folder / f"state{name}")
    for command in (
        ("init", source),
        ("init", source, "-o", folder / f"new{name}.yml", "--force"),
        ("check", job, source),
        ("check", job, source, "--json"),
        ("preview", job, source),
        run,
        (*run, "--max-rejects", "0"),
        (*run, "--json", "--log-format", "json"),
        (*run, "--report", folder / f"no{name}" / "page"),
        ("status", job, "--state-dir", folder / f"state{name}"),
        ("status", job, "--state-dir", folder / f"state{name}", "--json"),
        ("baseline", job, source, "--json"),
        ("run", folder / f"none{name}"),
        ("run", job, folder / f"none{name}.csv"),
        ("run", job, f"--rate={name}"),
        ("run", job, f"--{name}"),
        ("run", job, f"--log-format={name}", "--json"),
        (name,),
    ):
        is_clean(propsync(*command))
    job.write_text(f"{quoted}: 1\nname: {quoted}\nsource: [1]\n", encoding="utf-8")
    is_clean(propsync("run", job, "--json"))


def test_hostile_names_are_shown_printable_by_every_command(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path
) -> None:
    all_commands(propsync, sandbox, tmp_path, HOSTILE, HOSTILE)


@settings(
    max_examples=examples(8, least=4),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(name=NAMES, column=CONTROLS.filter(lambda text: "\0" not in text and "\ud800" not in text))
def test_any_name_is_shown_printable_by_every_command(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, name: str, column: str
) -> None:
    all_commands(propsync, sandbox, tmp_path, name, column)


def test_names_that_are_no_utf_8_are_told(propsync: Propsync, tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    (tmp_path / f"{name}.yml").write_text("identification: {user_id: id}\n")
    for command in (("run", f"{name}.yml"), ("run", f"{name}.yml", "--json"), ("status", f"{name}.yml")):
        finished = propsync(*command)
        assert finished.code == 2
        is_clean(finished)
        assert r"caf\udce9" in finished.err
    (tmp_path / "job.yml").write_text("identification: {user_id: id}\n")
    finished = propsync("status", "job.yml", "--json", "--state-dir", name)
    assert json.loads(finished.out)["state_dir"] == name
    is_clean(finished)


def test_log_lines_stay_lines(propsync: Propsync, sandbox: Sandbox, tmp_path: Path) -> None:
    source = tmp_path / f"{HOSTILE}.csv"
    source.write_text("id\nuser-1\n")
    (tmp_path / "job.yml").write_text("identification: {user_id: id}\n")
    for log_format in ("text", "json"):
        told = propsync("run", "job.yml", f"{HOSTILE}.parquet", "--log-format", log_format)
        assert told.code == 7
        if log_format == "json":
            (line,) = told.err.splitlines()
            assert "FORGED" in json.loads(line)["message"]


@given(CONTROLS)
def test_every_form_of_showing_is_printable_and_keeps_what_can_be_read(text: str) -> None:
    assert visible(text).isprintable()
    assert printable(text).isprintable()
    assert one_line(text).isprintable()
    kept = "".join(character for character in text if character.isprintable())
    assert kept in visible(text) or len(kept) < len(text)
    assert visible(kept) == kept


@given(st.recursive(CONTROLS.filter(lambda text: "\ud800" not in text), st.lists, max_leaves=5))
def test_json_says_the_same_with_escapes(data: object) -> None:
    shown = printable_json(json.dumps(data, ensure_ascii=False))
    assert json.loads(shown) == data
    assert shown.isprintable()


@each_row("character", ["\x1b", "\x9b", "\x7f", "\u202e", "\u2028", "\U000e0001"])
def test_json_of_what_can_t_be_printed_is_escaped(character: str) -> None:
    assert printable_json(f'"{character}"').isascii()
    assert json.loads(printable_json(f'"{character}"')) == character
