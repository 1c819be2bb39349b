"""The official SDK: one `identify` a row, in batches of 1,000. Runs in a virtual environment of its own.

python sdk.py URL FILE
"""

from __future__ import annotations

import json
import sys
import time

import pyarrow.parquet as pq
from amplitude import Amplitude, Config, EventOptions, Identify
from amplitude.constants import EventLogLevel

FIELDS = ("platform", "os_name", "app_version", "language")


def send(url: str, path: str) -> int:
    config = Config(flush_queue_size=1000, server_url=f"{url}/2/httpapi", event_log_level=EventLogLevel.NONE)
    client = Amplitude("bench-key-0123456789", config)
    rows = 0
    for batch in pq.ParquetFile(path).iter_batches():
        for row in batch.to_pylist():
            options = EventOptions(
                user_id=row.pop("id"), **{name: row.pop(name) for name in FIELDS if name in row}
            )
            identify = Identify()
            for name, value in row.items():
                identify.set(name, value)
            client.identify(identify, options)
            rows += 1
    client.shutdown()
    return rows


if __name__ == "__main__":
    start = time.perf_counter()
    sent = send(*sys.argv[1:])
    print(json.dumps({"rows": sent, "seconds": time.perf_counter() - start}))
