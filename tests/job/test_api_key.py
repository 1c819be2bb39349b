from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from etl.errors import EtlError, UsageError
from etl.job.api_key import read_api_key
from etl.job.spec import Job
from tests.examples import each_row


def with_key(tmp_path: Path, **where: str) -> Job:
    return Job.of({"identification": {"user_id": "id"}, **where}, folder=tmp_path)


def test_the_key_comes_from_its_variable(tmp_path: Path) -> None:
    assert read_api_key(with_key(tmp_path), {"AMPLITUDE_API_KEY": " abc\n"}) == "abc"
    assert read_api_key(with_key(tmp_path, api_key_env="K"), {"K": "k", "AMPLITUDE_API_KEY": "abc"}) == "k"


def test_the_key_comes_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_bytes(b"\xef\xbb\xbfabc\r\n")
    assert read_api_key(with_key(tmp_path, api_key_file="key.txt"), {"AMPLITUDE_API_KEY": "x"}) == "abc"
    absolute = str(tmp_path / "key.txt")
    assert read_api_key(with_key(Path("elsewhere"), api_key_file=absolute), {}) == "abc"


@pytest.mark.parametrize(("environ", "words"), [({}, "K is not set"), ({"K": " "}, "K is empty")])
def test_no_key_is_told_with_a_remedy(tmp_path: Path, environ: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read_api_key(with_key(tmp_path, api_key_env="K"), environ)
    assert "export K=" in str(caught.value.hint)


@pytest.mark.parametrize("key", ["c0ff ee", "c0ff\nee", "c0ff\x00ee", "c0ffée"])
def test_what_cant_be_a_key_is_refused_and_never_shown(tmp_path: Path, key: str) -> None:
    (tmp_path / "key").write_text(key)
    for job, environ in [
        (with_key(tmp_path), {"AMPLITUDE_API_KEY": key}),
        (with_key(tmp_path, api_key_file="key"), {}),
    ]:
        with pytest.raises(UsageError) as caught:
            read_api_key(job, environ)
        assert "c0ff" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"c0ff\xff"])
def test_a_key_file_without_a_key_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(EtlError, match="key file key") as caught:
        read_api_key(with_key(tmp_path, api_key_file="key"), {})
    assert caught.value.hint
    assert caught.value.__cause__ is None or b"c0ff" not in repr(caught.value.__cause__).encode()


def test_a_folder_is_no_key_file(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(UsageError, match="can't be read"):
        read_api_key(with_key(tmp_path, api_key_file="key"), {})


SECRET = "5f2c9a7e81d4b03366aa90de12f47c58"


@each_row(
    ("content", "hint"),
    [
        (f"AMPLITUDE_API_KEY={SECRET}", "after the ="),
        (f"export AMPLITUDE_API_KEY={SECRET}\n", "after the ="),
        (f"# ours\nAMPLITUDE_API_KEY = '{SECRET}'\n", "after the ="),
        (f"api_key={SECRET}", "after the ="),
        (f"KEY={SECRET}\nOTHER=1\n", "after the ="),
        (f"api_key: {SECRET}", "after the :"),
        (f'"{SECRET}"', "quotes"),
        (f"'{SECRET}'\r\n", "quotes"),
        (f"{SECRET}\n{SECRET}", "one line"),
        (f"{SECRET}\n\nsecond", "one line"),
        (f'{{"api_key": "{SECRET}"}}', "JSON"),
        (f'["{SECRET}"]', "JSON"),
        (f"key {SECRET}", "nothing else"),
        ("\ufeff" + f"KEY={SECRET}", "after the ="),
    ],
)
@each_row("place", ["file", "variable"])
def test_what_holds_more_than_the_key_is_told_without_it(
    tmp_path: Path, content: str, hint: str, place: str
) -> None:
    (tmp_path / "key.txt").write_text(content, encoding="utf-8", newline="")
    job = with_key(tmp_path, **({"api_key_file": "key.txt"} if place == "file" else {}))
    if place == "variable" and (content.startswith("\ufeff") or hint == "nothing else"):
        return
    with pytest.raises(UsageError) as caught:
        read_api_key(job, {"AMPLITUDE_API_KEY": content})
    assert hint in str(caught.value.hint)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_key_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_bytes(SECRET.encode("utf-16"))
    with pytest.raises(UsageError, match="isn't UTF-8 text") as caught:
        read_api_key(with_key(tmp_path, api_key_file="key.txt"), {})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("key", [SECRET, "dGhpcyBpcyBhIGtleQ==", "with&ampersand=1", '"quotes"and\\back'])
def test_a_key_alone_is_taken(tmp_path: Path, key: str) -> None:
    (tmp_path / "key.txt").write_bytes(b"\xef\xbb\xbf" + key.encode() + b"\r\n")
    assert read_api_key(with_key(tmp_path, api_key_file="key.txt"), {}) == key
