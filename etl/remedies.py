"""What to do about a rejected row or a skipped value, by its code."""

from __future__ import annotations

from typing import Final

REMEDIES: Final = {
    "ragged": "quote fields that contain the delimiter",
    "stray_quote": "set `csv: escape`, or double the quotes in the export",
    "unclosed_quote": "close the quote, or set another `csv: quote`",
    "repeated_header": "none needed: the header stands in the file more than once",
    "bad_encoding": "set the right `csv: encoding`",
    "bad_line": "fix the line",
    "missing_id": "add the id, or ignore the row: there is no user to update",
    "short_id": "give all ids a `prefix`",
    "long_id": "check that the job uses the right column",
    "mangled_id": "export ids as text, or set `ids: {mangled: keep}`",
    "refused_id": "fill in the real id, or ignore the row",
    "bad_value": "add the text to `values`, or set `invalid: skip`",
    "bad_list": "export a JSON array, or use a `separator`",
    "bad_path": "remove the `path`, or set `invalid: skip`",
    "bad_number": "set `decimal`, `thousands` and `strip`, or `invalid: skip`",
    "bad_integer": "use type `number` or `string`, or `invalid: skip`",
    "bad_boolean": "list the words in `values`, or set `invalid: skip`",
    "bad_date": "add the format to `date_format`, or set `invalid: skip`",
    "bad_datetime": "add the format to `date_format`, or set `invalid: skip`",
    "bad_json": "fix the value, or set `invalid: skip`",
    "bad_text": "use `transform: [hex]` or `[uuid]`, or leave the column out",
    "bad_bytes": "remove the step, or use `hex` instead of `uuid`",
    "not_finite": "fix the value, or set `invalid: skip`",
    "too_long": "set `too_long: truncate`",
    "nested_list": "flatten the list in the export",
    "too_deep": "flatten the value in the export",
    "too_many_groups": "send fewer groups",
    "too_big": "map fewer or shorter columns",
    "superseded": "ignore the row, or run with --full",
    "malformed": "follow the server's message",
    "daily_quota": "send it again another day",
    "uncounted": "none needed: the next run sends these users again",
    "transient": "send it again later",
    "dropped": "none needed: the job's own transform leaves the row out",
}
