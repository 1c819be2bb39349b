"""The script that people write: pandas, json and aiohttp. Runs in a virtual environment of its own.

python script.py URL FILE
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aiohttp
import pandas as pd

API_KEY = "bench-key-0123456789"
BATCH_SIZE = 1000
CONCURRENCY = 8
FIELDS = ["platform", "os_name", "app_version", "language"]


def identification(row: dict[str, object]) -> dict[str, object]:
    user_id = row.pop("id")
    fields = {name: row.pop(name) for name in FIELDS if name in row}
    return {"user_id": user_id, **fields, "user_properties": {"$set": row}}


async def post(
    session: aiohttp.ClientSession, limit: asyncio.Semaphore, url: str, batch: pd.DataFrame
) -> int:
    async with limit:
        users = [identification(row) for row in batch.to_dict("records")]  # type: ignore[arg-type]
        form = {"api_key": API_KEY, "identification": json.dumps(users)}
        async with session.post(f"{url}/identify", data=form) as response:
            response.raise_for_status()
            await response.read()
            return len(users)


async def send(url: str, path: str) -> int:
    users = pd.read_parquet(path)
    limit = asyncio.Semaphore(CONCURRENCY)
    async with aiohttp.ClientSession() as session:
        batches = [users.iloc[start : start + BATCH_SIZE] for start in range(0, len(users), BATCH_SIZE)]
        return sum(await asyncio.gather(*[post(session, limit, url, batch) for batch in batches]))


if __name__ == "__main__":
    begin = time.perf_counter()
    sent = asyncio.run(send(*sys.argv[1:]))
    print(json.dumps({"rows": sent, "seconds": time.perf_counter() - begin}))
