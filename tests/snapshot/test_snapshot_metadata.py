"""A snapshot read without Arrow says what it says when Arrow reads it."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import StaleCheckpointError
from etl.pipeline.status import look_at_snapshot
from etl.snapshot import FieldGroup, Layout, Snapshot, SnapshotWriter, sorted_file
from etl.snapshot_metadata import read_metadata
from tests.examples import examples
from tests.snapshot.builders import header, opened


def written(path: Path, entries: int, names: list[str], mode: str) -> Path:
    layout = Layout("user" if mode == "user" else "property", tuple(FieldGroup(n, ((n,),)) for n in names))
    width = 1 if mode == "user" else len(names)
    with SnapshotWriter(path, layout, header(7)) as new:
        keys = np.linspace(1, 2**63, entries, dtype=np.uint64).reshape(-1, 1)
        new.add(keys, np.ones((entries, width), layout.dtype))
        new.finish()
    return path


@settings(max_examples=examples(60, 8))
@given(
    st.sampled_from([0, 1, 2, 9, 1000]),
    st.lists(st.text(max_size=9), min_size=1, max_size=4, unique=True),
    st.sampled_from(["user", "property"]),
    st.sampled_from([1 << 24, 400]),
)
def test_it_is_what_arrow_reads(entries: int, names: list[str], mode: str, partition: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_file, "PARTITION_BYTES", partition)
        path = written(Path(folder, "snapshot.arrow"), entries, names, mode)
        metadata, count = read_metadata(path)
        with opened(path) as snapshot:
            assert (metadata, count) == (snapshot.metadata, len(snapshot)) == (metadata, entries)
        assert look_at_snapshot(path) == (metadata, count)


@settings(max_examples=examples(200, 24))
@given(st.data())
def test_whatever_is_overwritten_it_is_read_or_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder, "snapshot.arrow"), 3, ["plan"], "property")
        content = bytearray(path.read_bytes())
        content[-data.draw(st.integers(1, 1200))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.sampled_from([None, -1, 20, 0]))])
        with suppress(StaleCheckpointError):
            found = look_at_snapshot(path)
            assert found is not None


def test_a_damaged_one_is_refused_in_the_same_words(tmp_path: Path) -> None:
    path = written(tmp_path / "snapshot.arrow", 3, ["plan"], "property")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StaleCheckpointError) as mine:
        look_at_snapshot(path)
    with pytest.raises(StaleCheckpointError) as theirs:
        Snapshot.open(path)
    assert (mine.value.message, mine.value.hint) == (theirs.value.message, theirs.value.hint)
    assert look_at_snapshot(tmp_path / "none.arrow") is None
