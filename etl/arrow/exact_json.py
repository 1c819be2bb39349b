"""JSON to Python and back without losing digits, and without taking for JSON what isn't."""

from __future__ import annotations

import json
import math
import secrets
from typing import Any, Final, NoReturn

import orjson

# So many digits as only numbers beyond 64 bits have; orjson makes floats of these.
_MOST_SURE: Final = 19
_DIGITS: Final = bytes(ord("0") if sign in b"0123456789" else ord(" ") for sign in range(256))
# Python refuses to read whole numbers of thousands of digits; these are beyond every float.
_MOST_DIGITS: Final = 400
_FAR: Final = f"infinite{secrets.token_hex(8)}"


def load(text: str | bytes) -> Any:
    """The value of a JSON text; whole numbers have all their digits, and those beyond a float are infinite.

    Raises ValueError for what is no JSON, RecursionError for what is nested too deep to be read.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if not has_digits(data, _MOST_SURE):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass  # which knows neither 1e400 nor half a surrogate pair
    return _DECODER.decode(text if isinstance(text, str) else text.decode("utf-8", "surrogateescape"))


def has_digits(data: bytes, count: int) -> bool:
    """Whether so many digits stand one behind the other."""
    return b"0" * count in data.translate(_DIGITS)


def dump(value: Any) -> str:
    """The JSON text of a value that `load` gave; an infinite number is written as one beyond every float.

    Raises RecursionError for what is nested too deep to be written.
    """
    if _has_infinity(value):
        text = json.dumps(_with_words(value), ensure_ascii=False, separators=(",", ":"))
        return text.replace(f'"{_FAR}"', "1e999").replace(f'"-{_FAR}"', "-1e999")
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:  # beyond 64 bits, half a surrogate pair, or nested too deep
        if "ecursion" in str(error):
            raise RecursionError from error
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _has_infinity(value: Any) -> bool:
    if isinstance(value, float):
        return math.isinf(value)
    if isinstance(value, dict):
        return any(map(_has_infinity, value.values()))
    return isinstance(value, list) and any(map(_has_infinity, value))


def _with_words(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return _FAR if value > 0 else f"-{_FAR}"
    if isinstance(value, dict):
        return {key: _with_words(member) for key, member in value.items()}
    return [_with_words(element) for element in value] if isinstance(value, list) else value


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_int=_whole, parse_constant=_refuse)
