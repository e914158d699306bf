"""Reads the journal for the CLI: attempts, their entries, proven releases, the quarantine."""

import contextlib
from collections.abc import Generator

from attrs import frozen

from runner.reconcile.attempt import Attempt, Entry
from runner.reconcile.machine import State
from runner.reconcile.model import Quarantine, Release
from runner.storage import sqlite
from runner.storage.codec import state_from_text
from runner.storage.journal import read_open, read_proven, read_records, read_release
from runner.storage.paths import StateDir
from runner.storage.sqlite import Database


@frozen
class PastAttempt:
    """One line of the history. Times are Unix seconds."""

    number: int
    id: str
    begun: float
    ended: float | None
    state: State
    release: str
    note: str


@frozen
class History:
    """Reads one app's journal, even while a run writes it."""

    db: Database

    def attempts(self, limit: int) -> list[PastAttempt]:
        """List the newest attempts, newest first."""
        return self._attempts("ORDER BY number DESC LIMIT ?", limit)

    def attempt(self, number: int) -> list[PastAttempt]:
        """Find one attempt by its number: a list of one, or of none."""
        return self._attempts("WHERE number = ?", number)

    def _attempts(self, which: str, value: int) -> list[PastAttempt]:
        columns = "number, id, begun, ended, state, release, note"
        rows = self.db.execute(f"SELECT {columns} FROM attempt {which}", (value,))  # noqa: S608 - ours
        typed = self.db.typed
        return [
            PastAttempt(
                typed(int, number),
                typed(str, found_id),
                typed(float, begun),
                None if ended is None else typed(float, ended),
                state_from_text(typed(str, state)),
                typed(str, release),
                typed(str, note),
            )
            for number, found_id, begun, ended, state, release, note in rows
        ]

    def story(self, number: int) -> list[tuple[float, Entry]]:
        """Read the entries of one attempt with their times."""
        return [(record.at, record.entry) for record in read_records(self.db, number)]

    def open_attempt(self) -> Attempt | None:
        """Return the memory of the unfinished attempt, if there is one."""
        left_open = read_open(self.db)
        return left_open.memory if left_open else None

    def proven(self, limit: int, now: float) -> tuple[Release, ...]:
        return read_proven(self.db, limit, now)

    def quarantine(self, now: float) -> list[Quarantine]:
        """List the releases that are in quarantine at ``now``, most recent first."""
        rows = self.db.execute(
            "SELECT label, version, digest, reason, since, until FROM quarantine"
            " JOIN release USING (digest) WHERE until > ? ORDER BY since DESC",
            (now,),
        )
        return [
            Quarantine(
                read_release(self.db, release),
                self.db.typed(str, reason),
                self.db.typed(float, since),
                self.db.typed(float, until),
            )
            for *release, reason, since, until in rows
        ]


@contextlib.contextmanager
def open_history(state: StateDir) -> Generator[History | None]:
    """Open the journal for reading and close it with the context; None if the app never ran.

    Raises:
        JournalError: the journal exists but can't be read.
    """
    if not state.journal.exists():
        yield None
        return
    with contextlib.closing(sqlite.connect(state.journal, read_only=True)) as db:
        yield History(db)
