"""The real loop on the real SQLite journal, against a fake platform, in any order of events.

Every run is done twice with the same choices: on SQLite, and on the few lines of ``MemoryJournal``
that the exhaustive search uses. They must agree on everything, also when the power goes.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from attrs import evolve
from fake_platform import (
    FOREIGN,
    Disk,
    FakeClock,
    FakePlatform,
    MemoryJournal,
    PowerCut,
    make_run,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from promises import GOOD, NEW, OLD, OLDER
from typing_extensions import override

from runner.config.app import Retention
from runner.reconcile.machine import State
from runner.reconcile.model import Deployment, LatestUnknown, Release
from runner.storage import sqlite
from runner.storage.history import open_history
from runner.storage.journal import SqliteJournal, open_journal
from runner.storage.paths import open_state
from runner.storage.sqlite import Database

T = TypeVar("T")
BROKEN = NEW
RETENTION = Retention(proven=2)
"""Fewer than there are releases, so that the limit binds."""
WEEK = RETENTION.quarantine
OTHERS = (GOOD, BROKEN)
"""The deployments that someone else does in the middle of a run."""


class Recorder:
    """Draws choices and records them."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self.platform: FakePlatform | None = None
        self.chosen: list[object] = []

    def __call__(self, what: str, options: Sequence[T]) -> T:
        live = self.platform.live_now if self.platform else None
        if what == "answer" and live is not None and live.release == BROKEN:
            options = [option for option in options if option != "pass"]
        if what.startswith(("power", "someone")):  # rare, or hardly a run would get anywhere
            options = [options[0]] * 9 + list(options[1:])
        choice = self._data.draw(st.sampled_from(list(options)), label=what)
        self.chosen.append(choice)
        return choice


class Replay:
    """Repeats recorded choices; the second run must draw them in the same order."""

    def __init__(self, chosen: list[object]) -> None:
        self._left = list(chosen)

    def __call__(self, what: str, options: Sequence[T]) -> T:
        del what
        wanted = self._left.pop(0)
        return next(option for option in options if option == wanted)


class CuttingDatabase(Database):
    """A real database on a host whose power may go right before or right after each COMMIT."""

    choose: Recorder

    @override
    def commit(self) -> None:
        if self.choose("power before the write", ("on", "cut")) == "cut":
            raise PowerCut
        super().commit()
        if self.choose("power after the write", ("on", "cut")) == "cut":
            raise PowerCut


class Host(RuleBasedStateMachine):
    """One host, over weeks."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.state = open_state(self.directory / "state", "traefik")
        self.clock = FakeClock()
        open_journal(self.state, RETENTION, self.clock.now).close()
        self.live: Deployment | None = None
        self.live_in_model: Deployment | None = None
        """The same, but for the token: each journal makes its own."""
        self.model = Disk()
        self.ever_proven: set[Release] = set()

    @override
    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    @rule(
        data=st.data(),
        latest=st.sampled_from([NEW, GOOD, OLD, OLDER, LatestUnknown("offline")]),
        forced=st.booleans(),
    )
    def run(self, data: st.DataObject, latest: Release | LatestUnknown, *, forced: bool) -> None:
        choose = Recorder(data)
        db = sqlite.connect(self.state.journal)
        db.__class__ = CuttingDatabase
        db.choose = choose  # type: ignore[attr-defined]
        journal = SqliteJournal(db, RETENTION, self.clock.now)
        platform = FakePlatform(choose, self.clock, (latest,), live_now=self.live, others=OTHERS)
        choose.platform = platform
        try:
            final: State | None = make_run_on(journal, platform, forced=forced)
        finally:
            journal.close()
        replay = Replay(choose.chosen)
        twin = MemoryJournal(replay, self.model, kept=RETENTION.proven)
        again = FakePlatform(
            *(replay, FakeClock(self.clock.time), (latest,)),
            live_now=self.live_in_model,
            others=OTHERS,
        )
        assert make_run_on(twin, again, forced=forced) == final
        assert [again.kept, again.sealed] == [platform.kept, platform.sealed]
        self.model, self.live_in_model = twin.disk, again.live_now
        self.live = platform.live_now

    @rule()
    def reboot(self) -> None:
        self.live = self.live_in_model = None

    @rule()
    def someone_else_deploys(self) -> None:
        self.live = self.live_in_model = Deployment(BROKEN, FOREIGN)

    @rule()
    def weeks_pass(self) -> None:
        self.clock.sleep(WEEK + 1)
        self.model = evolve(self.model, quarantine=frozenset())

    @invariant()
    def journals_agree(self) -> None:
        kept = self.model.proven[: RETENTION.proven]
        proven = tuple(r for r in kept if r.digest not in self.model.quarantine)
        with (
            contextlib.closing(open_journal(self.state, RETENTION, self.clock.now)) as journal,
            open_history(self.state) as past,
        ):
            assert journal.proven() == proven
            assert journal.quarantined() == self.model.quarantine
            assert past is not None
            remembered = past.open_attempt()
        assert (remembered is None) == (self.model.memory is None)
        if remembered is not None and self.model.memory is not None:
            assert remembered.candidate == self.model.memory.candidate
            assert bool(remembered.against) == bool(self.model.memory.against)
            assert remembered.guilty == self.model.memory.guilty
            assert remembered.crashes == self.model.memory.crashes

    @invariant()
    def the_broken_release_is_never_proven(self) -> None:
        assert BROKEN not in self.model.proven

    @invariant()
    def nothing_proven_is_forgotten(self) -> None:
        self.ever_proven |= set(self.model.proven)
        assert self.ever_proven == set(self.model.proven)


def make_run_on(
    journal: SqliteJournal | MemoryJournal, platform: FakePlatform, *, forced: bool
) -> State | None:
    """Run to the end; None if the power went."""
    try:
        return make_run(journal, platform, forced=forced).to_the_end()[0]
    except PowerCut:
        return None


TestHost = Host.TestCase
# A run of a host is worth many examples of a function.
TestHost.settings = settings(max_examples=settings().max_examples // 2)
