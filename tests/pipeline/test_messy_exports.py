"""Exports as people have them arrive by what the job file says alone: every form, through a sandbox."""

from __future__ import annotations

import datetime as dt
import json
import random
from pathlib import Path
from typing import Any

import pytest

from etl import Job
from etl.errors import JobError
from etl.run_events import Summary
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.pipeline.making import run_once, sent_bodies
from tests.pipeline.nights import KilledError, arrived, killed

Properties = dict[str, Any]


def sent(
    folder: Path, sandbox: Sandbox, text: str | bytes, properties: Properties, *, uid: Any = "id", **job: Any
) -> tuple[Summary, dict[str, Properties]]:
    """What a job on a file of this text leaves at the sandbox."""
    source = folder / job.pop("name", "export.csv")
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    identification = {"user_id": uid, "user_properties": properties}
    made = Job.of(
        {"name": "job", "source": source.name, "identification": identification, **job}, folder=folder
    )
    return run_once(folder, sandbox, source, job=made), arrived(sandbox)


def test_words_for_nothing(tmp_path: Path, sandbox: Sandbox) -> None:
    text = "id,plan,fee,until,on\nacc-001,NULL,NaN,NaT,None\nacc-002,max,1.5,2024-02-01,1\n"
    properties = {
        "plan": "plan",
        "fee": {"column": "fee", "type": "number"},
        "until": {"column": "until", "type": "date"},
        "on": {"column": "on", "type": "boolean"},
    }
    nulls = ["NULL", "NaN", "NaT", "None"]
    summary, held = sent(tmp_path, sandbox, text, properties, nulls=nulls)
    assert held == {"acc-002": {"plan": "max", "fee": 1.5, "until": "2024-02-01", "on": True}}
    assert (summary.tally.rejected, summary.tally.unchanged) == (0, 1)


@pytest.mark.parametrize(
    ("text", "csv"),
    [
        ("Accounts\n\nid,plan\nacc-001,max\n", {"skip_rows": 2}),
        ("acc-001,max\n", {"header": ["id", "plan"]}),
        ("sep=|\r\nid|plan\r\nacc-001|max\r\n", {}),
        ("id\x01plan\nacc-001\x01max\n", {"delimiter": "\x01"}),
        ("id~plan\nacc-001~max\n", {"delimiter": "~"}),
        ("id§plan\nacc-001§max\n", {"delimiter": "§"}),
        ("id§plan\nacc-001§max\n".encode("cp1252"), {"delimiter": "§", "encoding": "cp1252"}),
        ("id,plan,x,,x\nacc-001,max,1,2,3\n", {}),
    ],
)
def test_files_that_begin_otherwise(
    tmp_path: Path, sandbox: Sandbox, text: str | bytes, csv: dict[str, Any]
) -> None:
    _, held = sent(tmp_path, sandbox, text, {"plan": "plan"}, csv=csv)
    assert held == {"acc-001": {"plan": "max"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Accounts\nid,plan\nacc-001,max\n", "csv: {skip_rows: N}"),
        ("acc-001,ann@example.com\nacc-002,bob@example.com\n", "csv: {header: [NAME, ...]}"),
        ("id,plan,plan\nacc-001,max,min\n", "rename all but one"),
    ],
)
def test_what_the_job_lacks_is_told(tmp_path: Path, sandbox: Sandbox, text: str, words: str) -> None:
    with pytest.raises(JobError) as caught:
        sent(tmp_path, sandbox, text, {"plan": "plan"})
    assert words in (caught.value.hint or "")
    assert sandbox.stats.requests == 0


def test_a_repeated_name_is_told_with_both_places_and_the_line(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "users.csv").write_text("id,plan,x,plan\nacc-001,max,1,min\n")
    file = tmp_path / "job.yml"
    file.write_text("source: users.csv\nidentification:\n  user_id: id\n  user_properties:\n    tier: plan\n")
    with pytest.raises(JobError) as caught:
        run_once(tmp_path, sandbox, tmp_path / "users.csv", job=Job.load(file))
    (fault,) = caught.value.faults
    assert (fault.line, "`plan` in columns 2 and 4" in fault.message) == (5, True)


def test_times(tmp_path: Path, sandbox: Sandbox) -> None:
    text = "id,a,b,c\nacc-001,2024-05-02 08:15:00 UTC,02.05.2024,1714637700000\n"
    text += "acc-002,2024-05-02 08:15:00.250 GMT,2024-05-03,1714637700999\n"
    properties = {
        "a": {"column": "a", "type": "datetime"},
        "b": {"column": "b", "type": "date", "transform": {"date_format": ["%d.%m.%Y", "%Y-%m-%d"]}},
        "c": {"column": "c", "type": "datetime", "unit": "ms"},
        "d": {"column": "a", "type": "date", "timezone": "Asia/Tokyo"},
    }
    _, held = sent(tmp_path, sandbox, text, properties)
    moment = {"a": "2024-05-02T08:15:00", "c": "2024-05-02T08:15:00", "d": "2024-05-02"}
    assert held == {"acc-001": moment | {"b": "2024-05-02"}, "acc-002": moment | {"b": "2024-05-03"}}


def test_lists_and_booleans(tmp_path: Path, sandbox: Sandbox) -> None:
    text = (
        'id,pg,js,flag,yes\nacc-001,"{red,""dark blue""}","[""a"",2]",on,oui\nacc-002,"{red","[]",0.0,non\n'
    )
    properties = {
        "pg": {"column": "pg", "type": "list", "invalid": "skip"},
        "js": {"column": "js", "type": "list"},
        "flag": {"column": "flag", "type": "boolean"},
        "yes": {"column": "yes", "values": {"oui": True, "non": False}},
    }
    summary, held = sent(tmp_path, sandbox, text, properties)
    assert held == {
        "acc-001": {"pg": ["red", "dark blue"], "js": ["a", 2], "flag": True, "yes": True},
        "acc-002": {"js": [], "flag": False, "yes": False},
    }
    assert summary.skipped_values == {"pg": {"bad_list": 1}}


def test_documents(tmp_path: Path, sandbox: Sandbox) -> None:
    documents = [
        {
            "_id": {"$oid": f"{n:024x}"},
            "at": {"$date": f"2024-01-{n:02}T10:00:00.000Z"},
            "n": {"$numberLong": str(n)},
        }
        for n in range(1, 4)
    ]
    text = "".join(json.dumps(one) + "\n" for one in documents)
    properties = {
        "at": {"column": "at", "path": "$date", "type": "datetime"},
        "n": {"column": "n", "path": ["$numberLong"], "type": "integer"},
    }
    uid = {"column": "_id", "path": "$oid"}
    _, held = sent(tmp_path, sandbox, text, properties, uid=uid, name="export.ndjson")
    assert held == {f"{n:024x}": {"at": f"2024-01-{n:02}T10:00:00", "n": n} for n in range(1, 4)}


def messy(count: int) -> tuple[str, dict[str, Properties]]:
    """A shop's export, and what is in it by hand."""
    chance = random.Random(5)
    lines, expected = ["Nr;Umsatz;Seit;Abo;Stufe;Marken;Extra"], dict[str, Properties]()
    for n in range(count):
        cents, day = chance.randrange(10_000_000), dt.date(2015, 1, 1) + dt.timedelta(chance.randrange(3000))
        whole = f"{cents // 100:,}".replace(",", ".")
        number = chance.choice(
            [f"{whole},{cents % 100:02} €", f"€ {whole},{cents % 100:02}", f"{cents // 100},{cents % 100:02}"]
        )
        written = chance.choice(["%d.%m.%Y", "%Y-%m-%d"])
        abo, stufe = chance.choice(["Ja", "ja", "nein", ""]), chance.choice(["Pro", " pro", "k.A.", "free"])
        row: Properties = {
            "umsatz": cents / 100,
            "seit": day.isoformat(),
            "marken": ["a", f"b{n % 3}"],
            "extra": n,
        }
        row |= {} if abo == "" else {"abo": abo != "nein"}
        row |= {} if stufe == "k.A." else {"stufe": stufe.strip().lower()}
        seit = day.strftime(written)
        if n % 11 == 0:
            number, seit = "viel", "unbekannt"
            del row["umsatz"], row["seit"]
        lines.append(f'KD-{n:05};{number};{seit};{abo};{stufe};{{a,b{n % 3}}};"{{""x"":{{""y"":{n}}}}}"')
        expected[f"KD-{n:05}"] = row
    return "\n".join(lines) + "\n", expected


MESSY: Properties = {
    "umsatz": {
        "column": "Umsatz",
        "type": "number",
        "decimal": ",",
        "thousands": ".",
        "strip": "€ ",
        "invalid": "skip",
    },
    "seit": {
        "column": "Seit",
        "type": "date",
        "transform": {"date_format": ["%d.%m.%Y", "%Y-%m-%d"]},
        "invalid": "skip",
    },
    "abo": {"column": "Abo", "values": {"Ja": True, "ja": True, "nein": False}},
    "stufe": {"column": "Stufe", "transform": ["trim", "lower"]},
    "marken": {"column": "Marken", "type": "list"},
    "extra": {"column": "Extra", "path": "x.y"},
}


def test_a_messy_export_arrives_whole_and_the_second_night_sends_nothing(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    text, expected = messy(1_000)
    options: dict[str, Any] = {
        "uid": "Nr",
        "nulls": ["k.A."],
        "csv": {"encoding": "cp1252", "delimiter": ";"},
    }
    summary, held = sent(tmp_path, sandbox, text.encode("cp1252"), MESSY, **options)
    assert held == expected
    assert summary.skipped_values == {"Seit": {"bad_date": 91}, "Umsatz": {"bad_number": 91}}
    again, _ = sent(tmp_path, sandbox, text.encode("cp1252"), MESSY, **options)
    assert (again.tally.accepted, again.tally.unchanged) == (0, 1_000)


def test_a_resumed_run_sends_the_same_bodies(tmp_path: Path) -> None:
    text, expected = messy(1_000)
    path = tmp_path / "export.csv"
    path.write_text(text)
    found = []
    for dies in (False, True):
        folder = tmp_path / str(dies)
        folder.mkdir()
        identification = {"user_id": "Nr", "user_properties": MESSY}
        job = Job.of(
            {"name": "job", "nulls": ["k.A."], "source": str(path), "identification": identification},
            folder=folder,
        )
        with running_sandbox(SandboxOptions(record=True)) as sandbox:
            if dies:
                with killed("committed", 3) as listener, pytest.raises(KilledError):
                    run_once(folder, sandbox, path, job=job, listener=listener, concurrency=2)
            summary = run_once(folder, sandbox, path, job=job, concurrency=2)
            assert (summary.resumed_rows > 0) == dies
            found.append(set(sent_bodies(sandbox)))
            assert arrived(sandbox) == expected
    assert found[0] == found[1]


def test_options_that_write_the_same_value_otherwise_send_nothing(tmp_path: Path, sandbox: Sandbox) -> None:
    """The snapshot knows what was sent, not how it was written."""
    plain = {"fee": {"column": "fee", "type": "number"}, "on": {"column": "on", "type": "boolean"}}
    sent(tmp_path, sandbox, "id;fee;on\nacc-001;1234.5;true\nacc-002;7;false\n", plain)
    other = {
        "fee": {"column": "fee", "type": "number", "decimal": ",", "thousands": "."},
        "on": {"column": "on", "values": {"Ja": True, "Nein": False}},
    }
    summary, held = sent(tmp_path, sandbox, "id;fee;on\nacc-001;1.234,5;Ja\nacc-002;8;Nein\n", other)
    assert held == {"acc-002": {"fee": 8}}
    assert summary.tally.unchanged == 1
