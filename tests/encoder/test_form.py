"""What the encoder escapes, every form parser reads back unchanged."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import parse_qs, urlencode

from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.formparser import parse_form_data

from etl.encoder.form import form_escape

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
HOSTILE = "%41+&api_key=x;=\x7f\"\\é€😀\u2028 </script>' OR 1=1 %%"


def body_of(value: str) -> tuple[bytes, str]:
    line = json.dumps({"v": value}, ensure_ascii=False)
    return b"api_key=k&identification=" + form_escape(line.encode()), value


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
def test_any_text_comes_back(text: str) -> None:
    body, value = body_of(text)
    assert json.loads(read_by_urllib(body)) == {"v": value}
    assert json.loads(read_by_werkzeug(body)) == {"v": value}


@given(TEXT)
def test_never_longer_than_percent_encoding(text: str) -> None:
    line = json.dumps({"v": text}, ensure_ascii=False)
    assert len(form_escape(line.encode())) <= len(urlencode({"": line})) - 1


def test_plain_json_is_left_alone() -> None:
    line = b'{"user_id":"user-1","user_properties":{"$set":{"plan":"pro"}}}\n'
    assert form_escape(line) is line


def test_a_space_is_a_plus_and_a_plus_is_none() -> None:
    assert form_escape(b'{"note":"two  words + 50% & more"}\n') == (
        b'{"note":"two++words+%2B+50%25+%26+more"}\n'
    )


@given(TEXT)
def test_no_raw_space_or_control_stands_in_a_body(text: str) -> None:
    body, _ = body_of(text)
    assert all(0x21 <= byte <= 0x7E for byte in body)
