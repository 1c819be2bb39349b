"""What arrives of NDJSON: each row by itself, whatever stands in other rows, columns and blocks."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from etl import Job, explain, plan
from etl.encoder import Limits
from etl.errors import JobError
from etl.model import Chunk, Reject
from etl.pipeline.job_source import JobSource
from etl.pipeline.row_pipeline import RowPipeline
from etl.reader import open_source
from etl.reader.discovery import READERS
from etl.reader.file_reader import ReadOptions
from etl.reader.files import InputFile
from etl.reader.ndjson_reader import NdjsonReader
from etl.run_events import Summary
from etl.sandbox import Sandbox
from etl.tally import RowRange
from tests.examples import examples
from tests.pipeline.making import run_once

JOB: dict[str, Any] = {
    "name": "job",
    "identification": {"user_id": "id", "user_properties": {"p": "p", "q": "q"}},
    "changes": "off",
}
NUMBERS = [
    "0", "-0", "7", "-12", "9007199254740992", "9007199254740993", "-9007199254740995", "9223372036854775807",
    "9223372036854775808", "18446744073709551615", "18446744073709551616", "123456789012345678901234567890",
    "0.5", "1.0", "-2.50", "1e3", "1E-7", "1e16", "1e22", "0.1234567890123456789", "1e400", "-1e999",
    "9" * 500,
]  # fmt: skip
texts = st.sampled_from(["", "a", "é\n", "NaN", "12", "2024-01-01", "\u2028", '"\\', "x" * 1025, "{}", "]"])
scalars = st.sampled_from(["null", "true", "false", *NUMBERS]) | texts.map(json.dumps)
objects = st.dictionaries(st.sampled_from(["x", "y", "é"]), scalars, max_size=3)
lists = st.lists(scalars, max_size=3)


def written_list(elements: list[str]) -> str:
    return f"[{', '.join(elements)}]"


def written_object(members: dict[str, str]) -> str:
    return f"{{{', '.join(f'{json.dumps(key)}: {value}' for key, value in members.items())}}}"


nested = lists.map(written_list) | objects.map(written_object)
deeper = st.lists(nested | scalars, max_size=2).map(written_list) | st.dictionaries(
    st.sampled_from("xz"), nested | scalars, max_size=2
).map(written_object)
alike = (st.just("null"), st.sampled_from(NUMBERS[:9]), st.sampled_from(NUMBERS), texts.map(json.dumps))
kinds = st.sampled_from([*alike, scalars, lists.map(written_list), nested, deeper])
columns = kinds.flatmap(lambda kind: st.lists(st.none() | kind, min_size=1, max_size=8))
unmapped = st.sampled_from(
    [None, "1", '"x"', '{"a":{"b":1}}', "[[[1]]]", "1e999", '"\\ud800"', '{"k":"\udcff"}']
)
rows = st.tuples(columns, columns, unmapped).map(
    lambda drawn: [
        {"p": p, "q": drawn[1][place % len(drawn[1])], "other": drawn[2] if place % 2 else None}
        for place, p in enumerate(drawn[0])
    ]
)


def line(number: int, row: dict[str, str | None]) -> str:
    given = {name: text for name, text in row.items() if text is not None}
    return written_object({"id": f'"user-{number}"', **given})


def unfit(value: Any) -> Iterator[str]:
    """The codes of everything for which a value can't be sent; only one of them is told."""
    if isinstance(value, float) and math.isinf(value):
        yield "not_finite"
    if isinstance(value, str) and len(value) > 1024:
        yield "too_long"
    if isinstance(value, list):
        if any(isinstance(element, list) for element in value):
            yield "nested_list"
        if sum(len(element) for element in value if isinstance(element, str)) > 1024:
            yield "too_long"
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from unfit(inner)


def meant(value: Any) -> Any:
    """What is to arrive of a value as Python's own reader has it; None for nothing."""
    if isinstance(value, dict):
        members = {key: meant(member) for key, member in value.items()}
        return {key: member for key, member in members.items() if member is not None} or None
    if isinstance(value, list):
        return [found for element in value if (found := meant(element)) is not None]
    return value


def whole(digits: str) -> int | float:
    return int(digits) if len(digits) < 400 else float(digits)


def expected(text: str) -> dict[str, Any] | set[str]:
    """The properties that a line sets, or the codes of which its reject has one."""
    row = json.loads(text, parse_int=whole)
    codes = {code for name in ("p", "q") for code in unfit(row.get(name))}
    found = {name: meant(row.get(name)) for name in ("p", "q")}
    return codes or {name: value for name, value in found.items() if value is not None}


@contextmanager
def blocks_of(block: int, look: int) -> Iterator[None]:
    class Small(NdjsonReader):
        def __init__(self, given: InputFile, options: ReadOptions) -> None:
            super().__init__(given, options, block, look)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(READERS, "ndjson", Small)
        yield


def chunks_of(path: Path, job: dict[str, Any] = JOB) -> list[Chunk]:
    made = Job.of(job, folder=path.parent)
    production = RowPipeline(made, open_source([path]), limits=Limits(identifications=3))
    return [chunk for chunks in production.chunks([RowRange(0)]) for chunk in chunks]


def bodies(chunks: list[Chunk]) -> list[bytes]:
    return [b"".join(map(bytes, chunk.body)) for chunk in chunks]


def outcomes(chunks: list[Chunk], count: int) -> list[dict[str, Any] | str]:
    """By row, the properties that its identification sets, or the code of its reject."""
    found: list[dict[str, Any] | str] = [{} for _ in range(count)]
    for chunk, body in zip(chunks, bodies(chunks), strict=True):
        for identification in json.loads(unquote_to_bytes(body.replace(b"+", b" ")) or b"[]"):
            number = int(identification["user_id"].removeprefix("user-"))
            found[number] = identification["user_properties"]["$set"]
        for reject in chunk.rejects:
            found[reject.row - 1] = reject.code
    return found


def same(found: object, wanted: object) -> bool:
    """Equal, and numbers whole digit by digit; True is not 1."""
    if isinstance(wanted, set):
        return found in wanted
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[key], wanted[key]) for key in found)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)


def rejects_of(chunk: Chunk) -> list[Reject]:
    return [replace(reject, reason="") for reject in chunk.rejects]


some = settings(
    max_examples=examples(150, 20),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@some
@given(found=rows, block=st.integers(1, 200), look=st.sampled_from([1, 60, 1 << 20]))
@example(found=[{"p": None, "q": "1e400", "other": '{"k":"\udcff"}'}], block=1, look=1)
def test_each_row_is_what_it_says_whatever_stands_around_it(
    tmp_path: Path, found: list[dict[str, str | None]], block: int, look: int
) -> None:
    lines = [line(number, row) for number, row in enumerate(found)]
    if not any(f'"{name}":' in text for name in "p" for text in lines) or not any('"q":' in t for t in lines):
        lines.append(written_object({"id": f'"user-{len(lines)}"', "p": "null", "q": "null"}))
    path = tmp_path / "x.ndjson"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    wanted = [expected(text) for text in lines]
    with blocks_of(1 << 21, look):
        whole = chunks_of(path)
    with blocks_of(block, look):
        cut = chunks_of(path)
    results = outcomes(whole, len(lines))
    for text, one, other in zip(lines, results, wanted, strict=True):
        assert same(one, other), text
    assert [(c.first, c.stop) for c in cut] == [(c.first, c.stop) for c in whole]
    # But for the words: of an infinite number among others, they have it as the type of its block shows it.
    assert [rejects_of(c) for c in cut] == [rejects_of(c) for c in whole]
    if look > 60:  # with other looks, a whole number may be written with a point or without
        assert bodies(cut) == bodies(whole)
    for reject in (reject for chunk in whole for reject in chunk.rejects):
        # As JSON, a byte that is not UTF-8 is text: a backslash, which JSON escapes, and its number.
        assert reject.values.encode() == lines[reject.row - 1].replace("\udcff", r"\\xff").encode()


# --- as it arrives ---------------------------------------------------------------------------------------


def held(sandbox: Sandbox) -> dict[str, Any]:
    users: dict[str, Any] = sandbox.profiles.as_json()["users"]  # type: ignore[assignment]
    return {user: profile["amp_props"] for user, profile in sorted(users.items())}


def job_in(folder: Path, properties: dict[str, Any], **more: Any) -> Job:
    identification = {"user_id": "id", "user_properties": properties}
    return Job.of({"name": "job", "identification": identification, **more}, folder=folder)


def send(
    folder: Path, sandbox: Sandbox, lines: list[str], job: Job, name: str = "x.ndjson", **settings: Any
) -> Summary:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return run_once(folder, sandbox, path, job=job)


def rejects_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (folder / ".propsync/job/rejects.ndjson").read_text().splitlines()]


@pytest.mark.parametrize("odd", ["1.5", "18446744073709551615", '"text-id"', "1e300", "null"])
def test_ids_keep_their_digits_whatever_another_row_has(tmp_path: Path, sandbox: Sandbox, odd: str) -> None:
    ids = [9007199254740993 + 2 * number for number in range(200)]
    lines = [f'{{"id":{number},"plan":"pro"}}' for number in ids]
    send(tmp_path, sandbox, [*lines, f'{{"id":{odd},"plan":"x"}}'], job_in(tmp_path, {"plan": "plan"}))
    found = held(sandbox)
    assert {str(number) for number in ids} <= found.keys()
    mangled = [reject["code"] for reject in rejects_in(tmp_path)]
    assert mangled == {"1.5": ["mangled_id"], "1e300": ["mangled_id"], "null": ["missing_id"]}.get(odd, [])
    assert len(found) == 200 + (not mangled)


def test_properties_of_all_kinds_in_one_column(tmp_path: Path, sandbox: Sandbox) -> None:
    values = ["1", "2.5", '"three"', "true", '{"x": 9007199254740993}', '[1, "a"]', "18446744073709551615"]
    lines = [f'{{"id":"user-{number}","v":{value}}}' for number, value in enumerate(values)]
    send(tmp_path, sandbox, lines, job_in(tmp_path, {"v": "v"}))
    assert {user: props["v"] for user, props in held(sandbox).items()} == {
        f"user-{number}": json.loads(value) for number, value in enumerate(values)
    }


def test_a_column_that_one_day_lacks_is_null_there(tmp_path: Path, sandbox: Sandbox) -> None:
    days = {
        "days/1.ndjson": ['{"id":"user-1","plan":"a","left":"2024-01-01"}', '{"id":"user-2","plan":"a"}'],
        "days/2.ndjson": ['{"id":"user-3","plan":"a"}', '{"id":"user-4","plan":"b"}'],
    }
    for name, lines in days.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("\n".join(lines))
    job = job_in(tmp_path, {"plan": "plan", "left": {"column": "left", "type": "date"}})
    for order in (["days"], ["days/2.ndjson", "days/1.ndjson"]):
        rows = JobSource(job, open_source(order, folder=tmp_path))
        assert len(list(rows.files())) == 2
    run_once(tmp_path, sandbox, tmp_path / "days", job=job)
    assert held(sandbox) == {
        "user-1": {"plan": "a", "left": "2024-01-01"},
        "user-2": {"plan": "a"},
        "user-3": {"plan": "a"},
        "user-4": {"plan": "b"},
    }
    with pytest.raises(JobError, match=r"no column `lefft`.*did you mean `left`"):
        JobSource(job_in(tmp_path, {"left": "lefft"}), open_source([tmp_path / "days"]))


def test_another_row_changes_nothing_of_what_was_sent(tmp_path: Path, sandbox: Sandbox) -> None:
    """A column of one kind becomes one of several overnight, and only the new row is sent."""
    values = ["1", "2", "30", "9007199254740993"]
    lists = ["[1]", "[]", "[2, 3]", "null"]
    job = job_in(tmp_path, {"v": "v", "l": "l"})
    rows = [
        f'{{"id":"user-{n}","v":{v},"l":{one}}}' for n, (v, one) in enumerate(zip(values, lists, strict=True))
    ]
    assert send(tmp_path, sandbox, rows, job).tally.accepted == 4
    for number, odd in enumerate(["2.5", '"x"', "true", '{"k": 1}', "18446744073709551616"]):
        rows.append(f'{{"id":"other-{number}","v":{odd},"l":[{odd}, 1]}}')
        assert send(tmp_path, sandbox, rows, job).tally.accepted == 1
        assert send(tmp_path, sandbox, rows[::-1], job).tally.accepted == 0


@pytest.mark.parametrize("block", [1, 1 << 21])
def test_rows_of_one_user_are_merged_whatever_their_kinds(
    tmp_path: Path, sandbox: Sandbox, block: int
) -> None:
    values = ["9007199254740993", "2", "0.5", "1", "4", "9007199254740993"]
    users = ["user-1", "user-2", "user-2", "user-2", "user-3", "user-3"]
    lines = [
        f'{{"id":"{user}","n":{value},"v":{value if place % 2 else json.dumps(value)}}}'
        for place, (user, value) in enumerate(zip(users, values, strict=True))
    ]
    properties = {
        "$add": {"sum": "n"},
        "$set": {"last": "v"},
        "$append": {"all": "v"},
        "$postInsert": {"once": "v"},
    }
    with blocks_of(block, 60):
        send(tmp_path, sandbox, lines, job_in(tmp_path, properties))
    found = held(sandbox)
    assert {user: props["sum"] for user, props in found.items()} == {
        "user-1": 9007199254740993, "user-2": 3.5, "user-3": 9007199254740997,
    }  # fmt: skip
    assert [props["last"] for props in found.values()] == ["9007199254740993", 1, 9007199254740993]
    assert found["user-2"]["all"] == [2, "0.5", 1] == found["user-2"]["once"]


def test_a_reject_is_the_row_as_it_stood_and_can_be_sent_again(tmp_path: Path, sandbox: Sandbox) -> None:
    lines = [
        '{"id":"user-1", "v":"many", "other":{"k1": 12345678901234567890123}}',
        '{"id":"user-2","v":1,"other":null}',
        '{"id":"user-3","v":2.5,"late":[1,2]}',
    ]
    job = job_in(tmp_path, {"v": {"column": "v", "type": "integer"}, "dt": "dt"})
    send(tmp_path, sandbox, lines, job, "dt=2024-01-01/x.ndjson")
    first, second = rejects_in(tmp_path)
    assert first["values"] == {"dt": "2024-01-01", **json.loads(lines[0])}
    assert second["values"] == {"dt": "2024-01-01", **json.loads(lines[2])}
    again = [json.dumps({**reject, "values": {**reject["values"], "v": 7}}) for reject in (first, second)]
    send(tmp_path, sandbox, again, job, "again.ndjson")
    assert {user: props["v"] for user, props in held(sandbox).items()} == {
        "user-1": 7,
        "user-2": 1,
        "user-3": 7,
    }
    assert {props["dt"] for props in held(sandbox).values()} == {"2024-01-01"}


def test_rejects_that_all_lack_a_column_can_be_sent_again(tmp_path: Path, sandbox: Sandbox) -> None:
    lines = ['{"id":"u1","v":1}', '{"id":"user-2","v":1,"w":"x"}']
    job = job_in(tmp_path, {"v": "v", "w": "w"})
    send(tmp_path, sandbox, lines, job)
    (reject,) = rejects_in(tmp_path)
    send(tmp_path, sandbox, [json.dumps({**reject, "values": {"id": "user-1", "v": 1}})], job, "again.ndjson")
    assert held(sandbox)["user-1"] == {"v": 1}


def test_a_row_that_the_server_refuses_is_handed_back_as_it_stood(tmp_path: Path, sandbox: Sandbox) -> None:
    sandbox.change(poison_users=["user-2"])
    lines = [f'{{"id":"user-{n}","v":{n},"other":{{"k{n}":[]}}}}' for n in range(1, 4)]
    send(tmp_path, sandbox, lines, job_in(tmp_path, {"v": "v"}))
    (reject,) = rejects_in(tmp_path)
    assert (reject["code"], reject["values"]) == ("malformed", json.loads(lines[1]))


def test_an_object_is_no_id(tmp_path: Path, sandbox: Sandbox) -> None:
    lines = ['{"id":{"$oid":"65a0c0"},"v":1}', '{"id":["user-1"],"v":1}', '{"id":"user-2","v":1}']
    send(tmp_path, sandbox, lines, job_in(tmp_path, {"v": "v"}))
    assert [reject["code"] for reject in rejects_in(tmp_path)] == ["mangled_id"] * 2
    assert held(sandbox) == {"user-2": {"v": 1}}


def test_a_text_in_place_of_a_number_makes_nobody_new(tmp_path: Path, sandbox: Sandbox) -> None:
    """As pandas writes ids once a column has a gap."""
    job = job_in(tmp_path, {"plan": "plan"})
    users = [f"{100000 + number}" for number in range(150)]
    send(tmp_path, sandbox, ["id,plan", *(f"{user},pro" for user in users)], job, "x.csv")
    summary = send(tmp_path, sandbox, ["id,plan", *(f"{user}.0,team" for user in users)], job, "x.csv")
    assert summary.rejects_by_code == {"mangled_id": 150}
    assert {user: props["plan"] for user, props in held(sandbox).items()} == dict.fromkeys(users, "pro")


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path, sandbox: Sandbox) -> None:
    """A row that sends it is a reject; `plan` and `explain` read rows and rejects that have it."""
    half = r'"\ud800"'
    lines = [
        f'{{"id":"user-1","p":"a","other":{half}}}',
        f'{{"id":"user-2","p":{half}}}',
        r'{"id":"user-3","q":"{\"a\":\"\\ud800\"}"}',
    ]
    job = job_in(tmp_path, {"p": "p", "q": {"column": "q", "type": "json"}})
    send(tmp_path, sandbox, lines, job)
    assert [reject["code"] for reject in rejects_in(tmp_path)] == ["bad_line", "bad_json"]
    assert held(sandbox) == {"user-1": {"p": "a"}}
    assert plan(job, tmp_path / "x.ndjson").tally.rejected == 2
    for user, codes in {"user-1": [], "user-3": ["bad_json"]}.items():
        found = explain(job, user, tmp_path / "x.ndjson")
        assert [reject["code"] for reject in found.rejects] == codes


def test_bytes_that_are_no_utf8_make_no_bad_json_of_a_reject(tmp_path: Path, sandbox: Sandbox) -> None:
    path, job = tmp_path / "x.ndjson", job_in(tmp_path, {"v": {"column": "v", "type": "integer"}})
    path.write_bytes(
        b'{"id":"user-1","v":1,"other":"\xff"}\n{"id":"user-2","v":"x","other":"\xed\xa0\xbd"}\n'
    )
    assert plan(job, path).tally.rejected == 1
    run_once(tmp_path, sandbox, path, job=job)
    (reject,) = rejects_in(tmp_path)
    assert reject["values"] == {"id": "user-2", "v": "x", "other": r"\xed\xa0\xbd"}


@pytest.mark.soak
@pytest.mark.parametrize("properties", ['{"plan": "plan"}', '{"plan": "plan", "carts": "carts"}'])
def test_memory_doesn_t_grow_with_the_variety_of_keys(tmp_path: Path, properties: str) -> None:
    script = (
        "import json, resource, sys; from etl import Job; from etl.encoder import Limits\n"
        "from etl.tally import RowRange; from etl.pipeline.row_pipeline import RowPipeline\n"
        "from etl.reader import open_source\n"
        "who = {'user_id': 'id', 'user_properties': json.loads(sys.argv[2])}\n"
        "job = Job.of({'identification': who, 'changes': 'off'})\n"
        "made = RowPipeline(job, open_source([sys.argv[1]]), limits=Limits()).chunks([RowRange(0)])\n"
        "assert sum(chunk.users for chunks in made for chunk in chunks) == 4000\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for name in ("many", "few"):
        path = tmp_path / f"{name}.ndjson"
        with path.open("w") as file:
            for number in range(4000):
                keys = [f"key {place} {number if name == 'many' else ''}" for place in range(3)]
                row = {"id": f"user-{number}", "plan": "pro", "carts": dict.fromkeys(keys, 1)}
                file.write(f"{json.dumps(row)}\n")
        command = [sys.executable, "-c", script, str(path), properties]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
    assert peaks[0] < 1.2 * peaks[1]
