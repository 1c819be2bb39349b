"""What arrives of NDJSON: each row by itself, whatever stands in other rows, columns and blocks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl import Job
from etl.encoder import Limits
from etl.model import Chunk, Stretch
from etl.pipeline.production import Production
from etl.reader import open_source, source
from etl.reader.formats import Input
from etl.reader.ndjson_file import NdjsonFile
from etl.sandbox import Sandbox
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
kinds = st.sampled_from([st.just("null"), st.sampled_from(NUMBERS[:9]), st.sampled_from(NUMBERS), texts.map(json.dumps),
                         scalars, lists.map(written_list), nested, deeper])  # fmt: skip
columns = kinds.flatmap(lambda kind: st.lists(st.none() | kind, min_size=1, max_size=8))
unmapped = st.sampled_from([None, "1", '"x"', '{"a":{"b":1}}', "[[[1]]]", "1e999", '"\\ud800"', '{"k":"\udcff"}'])
rows = st.tuples(columns, columns, unmapped).map(
    lambda drawn: [
        {"p": p, "q": drawn[1][place % len(drawn[1])], "other": drawn[2] if place % 2 else None}
        for place, p in enumerate(drawn[0])
    ]
)


def line(number: int, row: dict[str, str | None]) -> str:
    given = {name: text for name, text in row.items() if text is not None}
    return written_object({"id": f'"user-{number}"', **given})


class UnfitError(Exception):
    """The value can't be sent."""


def meant(value: Any, depth: int = 0) -> Any:
    """What is to arrive of a value as Python's own reader has it; None for nothing."""
    if isinstance(value, float) and math.isinf(value):
        raise UnfitError("not_finite")
    if isinstance(value, str) and len(value) > 1024:
        raise UnfitError("too_long")
    if isinstance(value, dict):
        members = {key: meant(member, depth + 1) for key, member in value.items()}
        return {key: member for key, member in members.items() if member is not None} or None
    if isinstance(value, list):
        if any(isinstance(element, list) for element in value):
            raise UnfitError("nested_list")
        found = [meant(element, depth + 1) for element in value]
        if sum(len(element) for element in found if isinstance(element, str)) > 1024:
            raise UnfitError("too_long")
        return [element for element in found if element is not None]
    return value


def whole(digits: str) -> int | float:
    return int(digits) if len(digits) < 400 else float(digits)


def expected(text: str) -> dict[str, Any] | str:
    """The properties that a line sets, or the code of its reject."""
    row = json.loads(text, parse_int=whole)
    try:
        found = {name: meant(row.get(name)) for name in ("p", "q")}
    except UnfitError as unfit:
        return str(unfit)
    return {name: value for name, value in found.items() if value is not None}


@contextmanager
def blocks_of(block: int, look: int) -> Iterator[None]:
    class Small(NdjsonFile):
        def __init__(self, given: Input) -> None:
            super().__init__(given, block, look)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "NdjsonFile", Small)
        yield


def chunks_of(path: Path, job: dict[str, Any] = JOB) -> list[Chunk]:
    made = Job.of(job, folder=path.parent)
    production = Production.of(made, open_source([path]), Limits(identifications=3))
    return [chunk for chunks in production.chunks([Stretch(0)]) for chunk in chunks]


def bodies(chunks: list[Chunk]) -> list[bytes]:
    return [b"".join(map(bytes, chunk.body)) for chunk in chunks]


def outcomes(chunks: list[Chunk], count: int) -> list[dict[str, Any] | str]:
    """By row, the properties that its identification sets, or the code of its reject."""
    from urllib.parse import unquote_to_bytes

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
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[key], wanted[key]) for key in found)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)


some = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@some
@given(found=rows, block=st.integers(1, 200), look=st.sampled_from([1, 60, 1 << 20]))
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
    assert [c.rejects for c in cut] == [c.rejects for c in whole]
    if look > 60:  # with other looks, a whole number may be written with a point or without
        assert bodies(cut) == bodies(whole)
    for chunk in whole:
        for reject in chunk.rejects:
            assert reject.values.encode("utf-8", "surrogateescape") or True
