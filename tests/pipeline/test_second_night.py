"""Whatever was left out: after each night the profiles are as if every night had been sent in full."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from etl.errors import StaleCheckpointError
from etl.pipeline.settings import RowMinimum
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from etl.subject import Keys
from tests.examples import examples, rarely
from tests.pipeline.nights import POINTS, KilledError, Row, job_in, killed, quiet, send, write
from tests.snapshot.builders import few_keys

WHOLE = {
    "user_id": "id",
    "platform": "platform",
    "os_name": "os",
    "language": "lang",
    "groups": {"company": "company"},
    "user_properties": {
        "$set": {"plan": "plan", "score": {"column": "score", "type": "integer"}},
        "$setOnce": {"first": "plan"},
        "$postInsert": {"seen": "plan"},
    },
}
PROPERTIES: dict[str, Any] = {
    "all": WHOLE["user_properties"],
    "without score": {"$set": {"plan": "plan"}, "$setOnce": {"first": "plan"}},
    "one more": {
        "$set": {"plan": "plan", "extra": "company", "score": {"column": "score", "type": "integer"}}
    },
    "moved": {"$setOnce": {"plan": "plan"}, "$postInsert": {"seen": "plan"}},
    "transformed": {
        "$set": {
            "plan": {"column": "plan", "transform": ["upper"]},
            "score": {"column": "score", "type": "integer", "null": "unset"},
        }
    },
    "cleared": {"$clearAll": True, "$set": {"plan": "plan", "score": {"column": "score", "type": "integer"}}},
    "unset": {"$unset": ["plan", "score"], "$set": {"extra": "company"}},
}
# Without shrinking: it would take minutes, as each step is several runs.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
# Without a disk there is nothing to wait for, and so there are more nights to try.
MEMORY = next((str(path) for path in [Path("/dev/shm")] if path.is_dir()), None)
# `lang` is what some of the jobs ignore; it isn't compared where one did.
CHANGES: dict[str, Any] = {
    "property": "property",
    "user": "user",
    "off": "off",
    "ignoring": {"by": "property", "ignore": ["lang"]},
    "user, ignoring": {"by": "user", "ignore": ["lang"]},
}
WORDS = st.sampled_from(["", "a", "b"])
ROWS = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["user-1", "user-2", "user-3", "user-4", "x"]),
        **dict.fromkeys(("platform", "os", "lang", "company", "plan"), WORDS),
        "score": st.sampled_from(["", "1", "2", "many"]),
    }
)


@dataclass(frozen=True)
class Night:
    """One export and the run that sends it; `dies` where, and the how many-th time."""

    rows: list[Row]
    properties: str = "all"
    changes: str = "property"
    kind: str = "ndjson"
    files: int = 1
    full: bool = False
    poisoned: bool = False
    dies: tuple[str, int] | None = None
    dropped: bool = False


# Any export will do here, as often as it comes.
UNGUARDED: dict[str, Any] = {"min_rows": RowMinimum(count=0), "again": True}
# Most nights are alike, as they are in life; what is unusual has its place in some.
NIGHTS = st.builds(
    Night,
    rows=st.lists(ROWS, max_size=9),
    properties=st.just("all") | st.sampled_from(sorted(PROPERTIES)),
    changes=st.just("property") | st.sampled_from(sorted(CHANGES)),
    kind=st.sampled_from(["ndjson", "csv"]),
    files=st.sampled_from([1, 2]),
    full=st.sampled_from([False, False, False, True]),
    poisoned=st.booleans(),
    dies=st.none() | st.tuples(st.sampled_from(POINTS), st.integers(1, 3)),
    dropped=st.booleans(),
)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Sandbox, Sandbox]]:
    """One that gets what changed, and one that gets everything."""
    with running_sandbox(SandboxOptions()) as changed, running_sandbox(SandboxOptions()) as full:
        yield changed, full


class Both:
    """A job that sends what changed to one sandbox, and its like that sends everything to another."""

    def __init__(self, folder: Path, changed: Sandbox, full: Sandbox) -> None:
        self._folder = folder
        self._changed = changed
        self._full = full
        self._restart = False
        for sandbox in (changed, full):
            sandbox.reset()

    def run(self, night: Night, identification: dict[str, Any] | None = None, **others: Any) -> bool:
        """Whether the night came to its end; else a part of it was sent, and it was given up."""
        chosen = identification or WHOLE | {"user_properties": PROPERTIES[night.properties]}
        others |= {"partial_families": "reset"}
        job = job_in(self._folder / "changed", chosen, changes=CHANGES[night.changes], **others)
        paths = self._export(night, job.folder)
        for sandbox in (self._changed, self._full):
            sandbox.change(poison_users=["user-2"] if night.poisoned else [])
        how: dict[str, Any] = {"batch_size": 2, "concurrency": 2}
        mine = how | {"full": night.full, "max_changes": 100.0, **UNGUARDED}
        if self._dies(night, lambda **more: send(job, self._changed, paths, **mine, **more)):
            if night.dropped:
                self._give_up()
                return False
            self._again(lambda **more: send(job, self._changed, paths, **mine, **more))
        other = job_in(self._folder / "full", chosen, changes="off", **others)
        send(other, self._full, paths, **how, **UNGUARDED)
        return True

    def _dies(self, night: Night, run: Callable[..., object]) -> bool:
        """Whether a run ended before its time."""
        restart, self._restart = self._restart, False
        if night.dies is None:
            run(restart=restart)
            return False
        with killed(*night.dies) as listener:
            try:
                run(restart=restart, listener=listener)
            except KilledError:
                quiet(self._changed)
                return True
        return False

    def _again(self, run: Callable[..., object]) -> None:
        try:
            run()
        except StaleCheckpointError:  # it died before it had dropped the run that was given up
            run(restart=True)

    def _export(self, night: Night, folder: Path) -> list[Path]:
        size = -(-len(night.rows) // night.files) or 1
        pieces = [night.rows[n * size : (n + 1) * size] for n in range(night.files)]
        header = [dict.fromkeys(["id", "platform", "os", "lang", "company", "plan", "score", "device"], "")]
        return [
            write(folder / f"{number}.{night.kind}", piece or header) for number, piece in enumerate(pieces)
        ]

    def _give_up(self) -> None:
        """The next night begins another run; from now on the other has what arrived by then."""
        self._restart = True
        theirs, ours = self._full.profiles, self._changed.profiles
        for name in ("users", "devices", "owners"):
            getattr(theirs, name).clear()
            getattr(theirs, name).update(copy.deepcopy(dict(getattr(ours, name))))

    def differences(self, *, ignoring: bool = False) -> list[object]:
        """Profiles that aren't alike."""
        ours, theirs = (_shown(sandbox, ignoring) for sandbox in (self._changed, self._full))
        return [
            (name, ours.get(name), theirs.get(name))
            for name in ours | theirs
            if ours.get(name) != theirs.get(name)
        ]


def _shown(sandbox: Sandbox, ignoring: bool) -> dict[str, Any]:
    shown = copy.deepcopy(sandbox.profiles.as_json())
    everyone: dict[str, Any] = {}
    for profiles in shown.values():
        assert isinstance(profiles, dict)
        everyone |= profiles
    if ignoring:
        for profile in everyone.values():
            profile.pop("language", None)
    return everyone


@settings(max_examples=examples(25, 3), phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(nights=st.lists(NIGHTS, min_size=2, max_size=5))
def test_after_every_night_all_is_as_if_everything_had_been_sent(
    pair: tuple[Sandbox, Sandbox], nights: list[Night]
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        both, ignoring = Both(Path(folder), *pair), False
        for night in nights:
            ignoring |= "ignoring" in night.changes
            if both.run(night):
                assert both.differences(ignoring=ignoring) == []


COUNTING = {
    "user_id": "id",
    "user_properties": {
        "$set": {"plan": "plan"},
        "$add": {"points": {"column": "score", "type": "integer"}},
        "$append": {"plans": {"column": "plan", "type": "list"}},
    },
}


@settings(max_examples=examples(15, 2), phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(nights=st.lists(NIGHTS, min_size=2, max_size=4))
def test_every_row_of_every_night_counts_and_counts_once(
    pair: tuple[Sandbox, Sandbox], nights: list[Night]
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        both = Both(Path(folder), *pair)
        for night in nights:
            night = replace(night, changes="property", dropped=False)
            both.run(night, COUNTING, destination={"transport": "batch"})
            assert both.differences() == []


@contextmanager
def keyed_by(keys: Callable[[pa.RecordBatch], Keys]) -> Iterator[None]:
    """Other keys, wherever there are keys."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("encoder.encoder", "snapshot.diff"):
            patch.setattr(f"etl.{module}.user_keys", keys)
        yield


@pytest.mark.parametrize("count", [1, *rarely(2)])
@settings(max_examples=examples(8, 2), phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(nights=st.lists(NIGHTS, min_size=2, max_size=4))
def test_users_with_one_key_are_never_taken_for_each_other(
    pair: tuple[Sandbox, Sandbox], count: int, nights: list[Night]
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, keyed_by(few_keys(count)):
        both, ignoring = Both(Path(folder), *pair), False
        for night in nights:
            ignoring |= "ignoring" in night.changes
            if both.run(replace(night, poisoned=False)):
                assert both.differences(ignoring=ignoring) == []


LINKED = WHOLE | {"device_id": "device"}

IDS = st.builds(
    lambda user, device: {"id": user, "device": device},
    st.sampled_from(["user-1", "user-2", "user-3"]),
    st.sampled_from(["", "device-1", "device-2"]),
) | st.sampled_from([{"id": "", "device": "device-8"}, {"id": "", "device": "device-9"}])


@settings(max_examples=examples(10, 2), phases=PHASES, suppress_health_check=[HealthCheck.too_slow])
@given(nights=st.lists(NIGHTS, min_size=2, max_size=4), data=st.data())
def test_so_it_is_where_users_have_devices(
    pair: tuple[Sandbox, Sandbox], nights: list[Night], data: st.DataObject
) -> None:
    """Rows of a user with a device or without one, and of devices that have no user."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        both = Both(Path(folder), *pair)
        for night in nights:
            rows = [row | data.draw(IDS) for row in night.rows]
            changes = night.changes.removesuffix("ignoring").rstrip(", ") or "property"
            if both.run(replace(night, rows=rows, changes=changes), LINKED):
                assert both.differences() == []
