"""What the encoder escapes, every form parser reads back unchanged."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from itertools import accumulate
from urllib.parse import parse_qs, unquote_plus, urlencode

import numpy as np
import pyarrow as pa
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.formparser import parse_form_data

from etl.arrow.json_text import json_lines, mark_json_text, splice_json
from etl.encoder.encoding import FormEncoding, escape_lines
from tests.examples import examples

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
HOSTILE = "%41+&api_key=x;=\x7f\"\\é€😀\u2028 </script>' OR 1=1 %%"


def body_of(value: str) -> tuple[bytes, str]:
    line = json.dumps({"v": value}, ensure_ascii=False)
    return b"api_key=k&identification=" + escape_lines(line.encode()), value


def read_by_urllib(body: bytes) -> str:
    return parse_qs(body.decode("ascii"), strict_parsing=True)["identification"][0]


def read_by_werkzeug(body: bytes) -> str:
    import io

    environ = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    return str(parse_form_data(environ)[1]["identification"])


def read_by_aiohttp(body: bytes) -> str:
    async def read() -> str:
        loop = asyncio.get_running_loop()
        payload = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
        payload.feed_data(body)
        payload.feed_eof()
        request: web.Request = make_mocked_request(
            "POST", "/", headers={"Content-Type": "application/x-www-form-urlencoded"}, payload=payload
        )
        return str((await request.post())["identification"])

    return asyncio.run(read())


def test_three_independent_parsers_read_hostile_text_back() -> None:
    body, value = body_of(HOSTILE)
    for read in (read_by_urllib, read_by_werkzeug, read_by_aiohttp):
        assert json.loads(read(body)) == {"v": value}


@given(TEXT)
@settings(max_examples=examples(100), deadline=None)
def test_any_text_comes_back(text: str) -> None:
    body, value = body_of(text)
    assert json.loads(read_by_urllib(body)) == {"v": value}
    assert json.loads(read_by_werkzeug(body)) == {"v": value}


@given(TEXT)
@settings(max_examples=examples(100), deadline=None)
def test_never_longer_than_percent_encoding(text: str) -> None:
    line = json.dumps({"v": text}, ensure_ascii=False)
    assert len(escape_lines(line.encode())) <= len(urlencode({"": line})) - 1


def test_plain_json_is_left_alone() -> None:
    line = b'{"user_id":"user-1","user_properties":{"$set":{"plan":"pro"}}}\n'
    assert escape_lines(line) is line


def test_a_space_is_a_plus_and_a_plus_is_none() -> None:
    assert escape_lines(b'{"note":"two  words + 50% & more"}\n') == (
        b'{"note":"two++words+%2B+50%25+%26+more"}\n'
    )


@given(TEXT)
@settings(max_examples=examples(100), deadline=None)
def test_no_raw_space_or_control_stands_in_a_body(text: str) -> None:
    body, _ = body_of(text)
    assert all(0x21 <= byte <= 0x7E for byte in body)


LETTERS = st.sampled_from(
    [
        "a",
        "x41",
        "u00e9",
        "U0001",
        "\\",
        "\\\\",
        '"',
        "\n",
        "ß",
        "é",
        "\x80",
        "ÿ",
        "東",
        "\uffff",
        "😀",
        "\U0010ffff",
        "%",
        "\x01",
        "\x7f",
        "&",
        "+",
        "; ",
        "\r\t",
    ]
)
WRITTEN = st.lists(
    st.text(st.characters(exclude_categories=["Cs"])) | st.lists(LETTERS).map("".join), max_size=8
)


def lines_of(texts: list[str]) -> list[bytes]:
    return [json.dumps({"v": text}, ensure_ascii=False).encode() + b"\n" for text in texts]


@given(WRITTEN)
@settings(max_examples=examples(100), deadline=None)
def test_lines_are_in_ascii_and_each_depends_on_itself_alone(texts: list[str]) -> None:
    """Whatever stands beside a line, on a resume other lines do: its bytes stay the same."""
    lines = lines_of(texts)
    together = escape_lines(b"".join(lines))
    assert together == b"".join(map(escape_lines, lines))
    assert together.isascii()
    read = [json.loads(unquote_plus(line.decode())) for line in together.split(b"\n")[:-1]]
    assert read == [{"v": text} for text in texts]


@given(st.lists(LETTERS.filter(lambda letter: not set(letter) & set("%&+;\x7f"))).map("".join))
@settings(max_examples=examples(100), deadline=None)
def test_escapes_are_those_of_the_standard_library(text: str) -> None:
    (line,) = lines_of([text])
    assert escape_lines(line).decode().replace("+", " ") == json.dumps({"v": text}) + "\n"


def test_distinct_texts_take_no_memory_that_stays() -> None:
    def escape(night: int) -> None:
        names = [chr(0x4E00 + number % 20_000) * 300 + f"{night}-{number}" for number in range(3_000)]
        escape_lines(b"".join(lines_of(names)))

    escape(0)
    tracemalloc.start()
    escape(1)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 100_000 < peak


VALUES = st.none() | st.lists(LETTERS, max_size=6).map("".join)
ROWS = st.fixed_dictionaries(
    {
        "a": VALUES,
        "é": VALUES,
        "n": st.none() | st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1),
        "f": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "0": st.none(),
        "s": st.none() | st.fixed_dictionaries({"x": VALUES, "l": st.none() | st.lists(VALUES, max_size=3)}),
    }
)
FULL = {"a": "\x7f é", "é": "%", "n": 1, "f": 2.5, "0": None, "s": {"x": "+ü", "l": ["é"]}}
ROW_TYPE = pa.struct(
    {
        "a": pa.string(),
        "é": pa.string(),
        "n": pa.int64(),
        "f": pa.float64(),
        "0": pa.null(),
        "s": pa.struct({"x": pa.string(), "l": pa.list_(pa.string())}),
    }
)


def escaped(line: str) -> str:
    """What a form needs of JSON, one character after the other."""
    form = {" ": "+"} | {letter: f"%{ord(letter):02X}" for letter in "%&+;\x7f"}
    return "".join(form.get(one) or (one if one.isascii() else json.dumps(one)[1:-1]) for one in line)


@given(st.lists(ROWS, max_size=8), st.integers(0, 3), st.booleans(), st.booleans())
@settings(max_examples=examples(200), deadline=None)
def test_columns_are_joined_as_the_json_writer_writes_them(
    rows: list[dict[str, object]], start: int, repeated: bool, complete: bool
) -> None:
    """Byte for byte, also where members are missing, columns are cut, and texts are repeated."""
    if complete:
        rows = [{name: row[name] or FULL[name] for name in row} for row in rows]
    batch = pa.RecordBatch.from_struct_array(pa.array([*rows, FULL] * (300 if repeated else 1), ROW_TYPE))
    batch = batch.slice(start)
    written = FormEncoding().write(batch, 0, np.arange(batch.num_rows))
    lines = escaped(json_lines(batch).decode()).splitlines()
    assert bytes(written.buffer).decode() == "".join(f"{line}," for line in lines)
    assert written.ends.tolist() == [0, *accumulate(len(line) + 1 for line in lines)]
    sizes = FormEncoding(sizes_only=True).write(batch, 0, np.arange(batch.num_rows))
    assert sizes.ends.tolist() == written.ends.tolist()
    assert len(sizes.buffer) == len(written.buffer)


def test_sizes_are_those_of_what_stands_for_other_json_and_of_long_numbers() -> None:
    whole = [sign * (10**power + more) for power in range(19) for sign in (1, -1) for more in (-1, 0, 1)]
    texts = [mark_json_text('["é", 1]') if number % 2 else "é" for number in whole]
    rows = pa.record_batch({"n": pa.array(whole, pa.int64()), "t": texts})
    sizes, lines = (
        FormEncoding(splice_json, only).write(rows, 0, np.arange(len(whole))).ends for only in (True, False)
    )
    assert sizes.tolist() == lines.tolist()
