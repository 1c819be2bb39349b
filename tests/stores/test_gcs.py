"""Sources in Google Cloud Storage, from a small server that speaks the part of its API that reading needs."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from etl.errors import SourceError
from etl.reader import open_source
from tests.reader.reading import batches, rows_of
from tests.stores.small_gcs import gcs_store
from tests.stores.test_s3 import csv, parquet

pytestmark = pytest.mark.stores


def test_rows_and_names_and_messages(tmp_path: Path) -> None:
    objects = {
        "in/a.csv": csv(2_000),
        "in/b/c.csv.gz": gzip.compress(csv(2_000)),
        "in/b/d.parquet": parquet(2_000, 500),
    }
    for name, data in objects.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    with gcs_store(tmp_path) as server:
        more = f"?endpoint_override={server}&scheme=http&retry_limit_seconds=3"
        source = open_source([f"gs://anonymous@exports/in{more}"])
        assert [file.name for file in source.files] == [f"gs://exports/{name}" for name in objects]
        first, second, third = (rows_of(batches(source, file)) for file in range(3))
        assert len(first) == 2_000
        assert second == first
        assert third[2_000] == {"id": "user-00001999", "name": "name 15830081"}
        assert source.changed() is None
        with pytest.raises(SourceError, match=r"the bucket exports has no key none\.csv at 127"):
            open_source([f"gs://anonymous@exports/none.csv{more}"])
        with pytest.raises(SourceError, match="there is no bucket other at 127"):
            open_source([f"gs://anonymous@other/none.csv{more}"])
        (tmp_path / "in/a.csv").write_bytes(csv(2_001))
        assert "was replaced after it was opened" in (source.changed() or "")
