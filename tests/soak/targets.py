"""What is fuzzed: everything that reads what somebody else wrote."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import aiohttp

from etl import Job
from etl.amplitude.responses import Verdict
from etl.encoder import Limits
from etl.job.spec import parse_job
from etl.pipeline.row_pipeline import RowPipeline
from etl.reader import open_source
from etl.sender.transports import BatchTransport, HttpTransport, IdentifyTransport
from etl.tally import RowRange
from tests.sender.raw_server import Raw, answering, status
from tests.soak.fuzzing import SAMPLES, Case, mutate

KEY = "0123456789abcdef-secret"
_JOBS = [SAMPLES / "users-csv.yml", SAMPLES / "users-parquet.yml"]
_ANSWERS = [
    status("200 OK", b"success", "Content-Type: text/html"),
    status("400 Bad Request", b"Invalid API key: " + KEY.encode()),
    status("429 Too Many Requests", b'{"code": 429}', "Retry-After: 30"),
    status("503 Service Unavailable", b"<html>away</html>"),
    status("200 OK", b'{"code":200,"events_ingested":1}', "Content-Type: application/json"),
    status(
        "400 Bad Request", b'{"error":"bad","events_with_invalid_fields":{"time":[0]},"silenced_events":[1]}'
    ),
    status("429 Slow", b'{"error":"slow","throttled_users":{"user-1":9},"throttled_events":[0]}'),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nsuccess\r\n0\r\n\r\n",
]
_QUICK = aiohttp.ClientTimeout(total=0.5, sock_connect=0.2, sock_read=0.1)


def job_file(chance: random.Random, folder: Path) -> None:
    text = mutate(chance, chance.choice(_JOBS).read_bytes()).decode("utf-8", "replace")
    parse_job(text, name="job.yml", folder=folder, environ={})


def csv_bytes(chance: random.Random, folder: Path) -> None:
    _account_for(chance, folder, "users-csv.yml", "users.csv")


def parquet_bytes(chance: random.Random, folder: Path) -> None:
    _account_for(chance, folder, "users-parquet.yml", "users.parquet")


def ndjson_bytes(chance: random.Random, folder: Path) -> None:
    lines = [
        b'{"source":"users.csv","row":%d,"code":"short_id","reason":"x","values":{"id":"user-%d","plan":"pro"}}'
        % (n, n)
        for n in range(1, 40)
    ]
    path = folder / "rejects.ndjson"
    path.write_bytes(mutate(chance, b"\n".join(lines)))
    job = Job.of(
        {"name": "fuzz", "identification": {"user_id": "id", "user_properties": {"plan": "plan"}}},
        folder=folder,
    )
    _produce(job, path)


def server_answers(chance: random.Random, folder: Path) -> None:
    async def ask() -> None:
        raw = Raw(mutate(chance, chance.choice(_ANSWERS)))
        async with answering(raw), _transport_to(raw.url, chance) as transport:
            verdict = await transport.post(await transport.pack((b'[{"user_id":"user-1"}]',)))
        assert isinstance(verdict, Verdict)
        assert KEY not in repr(verdict)

    asyncio.run(ask())


def _transport_to(url: str, chance: random.Random) -> HttpTransport:
    if chance.random() < 0.5:
        return IdentifyTransport(url, KEY, connections=1, timeout=_QUICK)
    return BatchTransport(url, KEY, connections=1, timeout=_QUICK)


def _account_for(chance: random.Random, folder: Path, job: str, source: str) -> None:
    path = folder / source
    path.write_bytes(mutate(chance, (SAMPLES / source).read_bytes()))
    _produce(Job.load(SAMPLES / job), path)


def _produce(job: Job, path: Path) -> None:
    """Read, map and encode all of a file; every row has its place in one chunk."""
    production = RowPipeline(job, open_source([path], csv=job.csv), limits=Limits(identifications=50))
    first = 1
    for chunks in production.chunks([RowRange(0)]):
        for chunk in chunks:
            places = [*chunk.numbers.tolist(), *(reject.row for reject in chunk.rejects)]
            assert chunk.first == first
            assert len(set(places)) == len(places)
            assert chunk.unchanged >= 0
            first = chunk.stop


TARGETS: dict[str, Case] = {
    "job file": job_file,
    "CSV bytes": csv_bytes,
    "Parquet bytes": parquet_bytes,
    "NDJSON bytes": ndjson_bytes,
    "server answers": server_answers,
}
