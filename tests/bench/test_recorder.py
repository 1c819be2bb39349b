"""What a sink got is read by other parsers than those of the program, and every difference is seen."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from threading import Thread
from urllib.parse import urlencode

import pytest

from bench.recorder import Record, differences, server, users

USER = {"id": "user-1", "platform": "Web", "plan": "a & b + 1 %", "logins": 3}
IDENTIFICATION = {
    "user_id": "user-1",
    "platform": "Web",
    "user_properties": {"$set": {"plan": "a & b + 1 %", "logins": 3}},
}


def form(identification: object) -> bytes:
    return urlencode({"api_key": "k", "identification": json.dumps(identification)}).encode()


def test_a_form_and_an_event_are_the_same_user() -> None:
    event = {"events": [{"event_type": "$identify", "insert_id": "x", "time": 1, **IDENTIFICATION}]}
    assert list(users("/identify", form([IDENTIFICATION]))) == [USER]
    assert list(users("/identify", form(IDENTIFICATION))) == [USER]
    assert list(users("/2/httpapi", json.dumps(event).encode())) == [USER]


def test_plain_properties_are_set_properties() -> None:
    plain = IDENTIFICATION | {"user_properties": {"plan": "a & b + 1 %", "logins": 3}}
    assert list(users("/identify", form([plain]))) == [USER]


def test_whatever_is_sent_besides_is_seen() -> None:
    more = IDENTIFICATION | {"user_properties": {"$set": {"plan": "pro"}, "$unset": {"seats": "-"}}}
    assert list(users("/identify", form(more))) == [
        {"id": "user-1", "platform": "Web", "plan": "pro", "$unset": {"seats": "-"}}
    ]
    assert list(users("/identify", form(IDENTIFICATION | {"country": "Chile"}))) == [
        USER | {"country": "Chile"}
    ]


def test_other_events_identify_nobody() -> None:
    event = {"events": [{"event_type": "click", **IDENTIFICATION}]}
    with pytest.raises(ValueError, match="identifies nobody"):
        list(users("/2/httpapi", json.dumps(event).encode()))


def test_every_difference_is_seen() -> None:
    other = {"id": "user-2", "plan": "pro"}
    assert differences([USER, other], {"user-1": USER, "user-2": other}) == []
    assert len(differences([USER, other], {"user-1": USER})) == 1
    assert len(differences([USER], {"user-1": USER | {"logins": 4}})) == 1
    assert len(differences([USER], {"user-1": USER | {"more": 4}})) == 1
    assert len(differences([USER], {"user-1": USER, "user-2": other})) == 1


def test_the_server_writes_down_all_that_came(tmp_path: Path) -> None:
    record = Record()
    with server(record) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{running.server_port}/identify"
        for _ in range(2):
            with urllib.request.urlopen(address, form([IDENTIFICATION])) as answer:
                assert answer.read() == b"success"
        running.shutdown()
        thread.join()
    record.write(tmp_path / "record.ndjson")
    count, *kept = map(json.loads, (tmp_path / "record.ndjson").read_text().splitlines())
    assert count == {"count": 2}
    assert kept == [USER]


def test_a_record_has_each_user_once_by_id_as_they_came_last(tmp_path: Path) -> None:
    record = Record()
    for user, plan in (("user-3", "a"), ("user-1", "b"), ("user-3", "c")):
        record.add("/identify", form({"user_id": user, "user_properties": {"plan": plan}}))
    record.write(tmp_path / "record.ndjson")
    lines = [json.loads(line) for line in (tmp_path / "record.ndjson").read_text().splitlines()]
    assert lines == [{"count": 3}, {"id": "user-1", "plan": "b"}, {"id": "user-3", "plan": "c"}]
