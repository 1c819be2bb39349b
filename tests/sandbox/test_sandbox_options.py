from __future__ import annotations

import json
from typing import Any

import pytest

from etl.sandbox import SandboxError, SandboxOptions, make_options, parse_fault, parse_latency

CHANGES: dict[str, object] = {
    "faults": ["503:0.5", "reset-after:0.1"],
    "latency": "80ms",
    "hot_users": ["user-1"],
    "hot_tries": 2,
    "requests_per_second": 5,
    "identifications_per_second": None,
    "poison_status": 403,
    "quota_users": ["user-2"],
    "silenced_users": ["user-3"],
    "offenders": "first",
    "ingested": "new",
    "max_events": 10,
    "sink": True,
}


@pytest.mark.parametrize(("text", "seconds"), [("80ms", 0.08), ("1.5s", 1.5), ("0s", 0.0)])
def test_a_latency_is_read_in_its_unit(text: str, seconds: float) -> None:
    assert parse_latency(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["80", "ms", "-1s", "1h"])
def test_a_latency_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(SandboxError, match="not a latency"):
        parse_latency(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70000},
        {"poison_status": 500},
        {"max_bytes": 0},
        {"max_events": 0},
        {"max_batch_bytes": -1},
        {"offenders": "last"},
        {"ingested": ""},
        {"latency": -1.0},
        {"requests_per_second": 0.0},
        {"user_updates_per_hour": -3},
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_with_a_remedy(wrong: dict[str, Any]) -> None:
    with pytest.raises(SandboxError) as caught:
        make_options(wrong)
    assert caught.value.hint


def test_options_change_by_what_json_can_say() -> None:
    changed = SandboxOptions().changed(CHANGES)
    assert changed.faults == (parse_fault("503:0.5"), parse_fault("reset-after:0.1"))
    assert (changed.latency, changed.hot_users, changed.hot_tries) == (0.08, frozenset({"user-1"}), 2)


def test_options_shown_can_be_given_back() -> None:
    changed = SandboxOptions().changed(CHANGES)
    assert SandboxOptions().changed(json.loads(json.dumps(changed.as_json()))) == changed


def test_keys_are_never_shown() -> None:
    options = SandboxOptions(api_keys=frozenset({"hush"}), secret_keys=frozenset({"hush"}))
    assert "hush" not in json.dumps(options.as_json())


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 1},
        {"api_keys": []},
        {"latensy": 1},
        {"latency": "soon"},
        {"latency": True},
        {"sink": 1},
        {"hot_users": "a"},
        {"hot_tries": True},
        {"faults": "503:1"},
        {"faults": [503]},
        {"max_bytes": 1.5},
        {"offenders": 1},
        {"offenders": "last"},
        {"quota_users": "a"},
    ],
    ids=str,
)
def test_a_wrong_change_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SandboxError):
        SandboxOptions().changed(wrong)
