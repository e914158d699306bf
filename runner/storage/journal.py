"""Writes the journal of a run: each effect before it happens, each event after, proven releases."""

import secrets
from collections.abc import Callable, Iterable

from attrs import frozen

from runner.config.app import Retention
from runner.reconcile.attempt import Attempt, Entry, Interrupted, blamed, remember
from runner.reconcile.errors import JournalError
from runner.reconcile.events import Effect, Event, Judged
from runner.reconcile.interfaces import Journaled
from runner.reconcile.machine import State
from runner.reconcile.model import Healthy, Release
from runner.storage import sqlite
from runner.storage.codec import (
    LOOKS,
    Record,
    from_text,
    replay,
    state_from_text,
    state_to_text,
    to_text,
)
from runner.storage.paths import StateDir
from runner.storage.sqlite import Database, Value


class SqliteJournal:
    """Writes one app's journal. The caller holds the app's lock."""

    def __init__(self, db: Database, retention: Retention, now: Callable[[], float]) -> None:
        self._db = db
        self._retention = retention
        self._now = now
        self._attempt = 0

    # What a run writes ---------------------------------------------------------------------------

    def begin(self) -> Attempt:
        """Resume the attempt that an earlier run left open, or start a new one."""
        self._db.begin()
        left_open = read_open(self._db)
        if left_open is None:
            attempt_id = secrets.token_hex(16)
            ((number,),) = self._db.execute(
                "INSERT INTO attempt (id, begun, state) VALUES (?, ?, ?) RETURNING number",
                (attempt_id, self._now(), state_to_text(State.IDLE)),
            )
            self._attempt = self._db.typed(int, number)
            return Attempt(attempt_id)
        self._attempt = left_open.number
        interrupted = Interrupted(crashed=left_open.state is not State.UNDECIDED)
        self._write(State.IDLE, interrupted)
        self._set_state(State.IDLE)
        return remember(left_open.memory, interrupted)

    def intend(self, state: State, effect: Effect) -> Journaled:
        """Record an effect before it happens; durable on return, unless the effect only reads."""
        self._write(state, effect)
        if not isinstance(effect, LOOKS):
            self._db.commit()
        return Journaled((state, effect))

    def observe(self, event: Event, state: State, attempt: Attempt) -> None:
        """Record an event and the state after it; a final state ends the attempt.

        UNDECIDED alone leaves the attempt open: the next run resumes it.
        """
        self._write(state, event)
        self._set_state(state)
        self._describe(attempt)
        if not state.is_final:
            return
        if state is State.ROLLED_BACK:
            self._quarantine(attempt)
        if state is not State.UNDECIDED:
            self._db.execute(
                "UPDATE attempt SET ended = ? WHERE number = ?", (self._now(), self._attempt)
            )
        self._forget_old()
        self._db.commit()

    def commit(self, verdict: Healthy) -> None:
        """Make the release last-good, end its quarantine; durable with the next durable entry."""
        release = verdict.deployment.release
        self._db.begin()
        self._know(release)
        self._db.execute("DELETE FROM quarantine WHERE digest = ?", (release.digest,))
        self._db.execute("DELETE FROM proven WHERE digest = ?", (release.digest,))
        self._db.execute(
            "INSERT INTO proven (digest, committed_at, evidence) VALUES (?, ?, ?)",
            (release.digest, self._now(), to_text(Judged(verdict))),
        )

    def forget_quarantine(self, label: str | None = None) -> int:
        """End the quarantine of the releases with this label, or of all; return how many."""
        self._db.begin()
        gone = self._db.execute(
            "DELETE FROM quarantine WHERE ? IS NULL OR digest IN"
            " (SELECT digest FROM release WHERE label = ?) RETURNING digest",
            (label, label),
        )
        self._db.commit()
        return len(gone)

    # What a run reads ----------------------------------------------------------------------------

    def proven(self) -> tuple[Release, ...]:
        """List the proven releases within the retention, newest first, less those in quarantine."""
        return read_proven(self._db, self._retention.proven, self._now())

    def quarantined(self) -> frozenset[str]:
        """List the digests that are in quarantine now."""
        return self._digests("SELECT digest FROM quarantine WHERE until > ?", self._now())

    def needed(self) -> frozenset[str]:
        """List the digests of proven releases that a rollback may still deploy."""
        return self._digests(
            "SELECT digest FROM proven ORDER BY rank DESC LIMIT ?", self._retention.proven
        )

    def close(self) -> None:
        self._db.close()

    # ---------------------------------------------------------------------------------------------

    def _digests(self, sql: str, value: float) -> frozenset[str]:
        rows = self._db.execute(sql, (value,))
        return frozenset(self._db.typed(str, digest) for (digest,) in rows)

    def _write(self, state: State, entry: Entry) -> None:
        self._db.begin()
        self._db.execute(
            "INSERT INTO entry (attempt, at, state, entry) VALUES (?, ?, ?, ?)",
            (self._attempt, self._now(), state_to_text(state), to_text(entry)),
        )

    def _set_state(self, state: State) -> None:
        self._db.execute(
            "UPDATE attempt SET state = ? WHERE number = ?", (state_to_text(state), self._attempt)
        )

    def _describe(self, attempt: Attempt) -> None:
        release = attempt.candidate or attempt.target
        self._db.execute(
            "UPDATE attempt SET release = ?, note = ? WHERE number = ?",
            (release.label if release else "", attempt.note, self._attempt),
        )

    def _quarantine(self, attempt: Attempt) -> None:
        release = blamed(attempt)
        if release is None:
            return
        self._know(release)
        now = self._now()
        self._db.execute(
            "INSERT OR REPLACE INTO quarantine (digest, reason, since, until) VALUES (?, ?, ?, ?)",
            (release.digest, attempt.against, now, now + self._retention.quarantine),
        )

    def _know(self, release: Release) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO release (digest, label, version) VALUES (?, ?, ?)",
            (release.digest, release.label, release.version),
        )

    def _forget_old(self) -> None:
        """Delete all but the newest attempts; proven releases and quarantine have own tables."""
        self._db.execute(
            "DELETE FROM attempt WHERE ended IS NOT NULL AND number <= ?",
            (self._attempt - self._retention.history,),
        )


def open_journal(state: StateDir, retention: Retention, now: Callable[[], float]) -> SqliteJournal:
    """Open the app's journal for writing; create it if the app is new.

    Raises:
        JournalError: the journal can't be read, or is missing although releases of the app exist.
    """
    if not state.journal.exists():
        if state.releases.exists() or state.instances.exists():
            raise JournalError(
                f"the journal {state.journal} is missing, but releases of {state.app} exist",
                hint="restore it from a backup; or, if the app may start from nothing, move"
                f" {state.home} away",
            )
        sqlite.create(state.journal)
    return SqliteJournal(sqlite.connect(state.journal), retention, now)


@frozen
class OpenAttempt:
    """An attempt that no run has finished yet."""

    number: int
    state: State
    memory: Attempt


def read_open(db: Database) -> OpenAttempt | None:
    """Read the open attempt with its memory; None if there is none."""
    match db.execute("SELECT number, id, state FROM attempt WHERE ended IS NULL"):
        case []:
            return None
        case [(found, found_id, word)]:
            number = db.typed(int, found)
            memory = replay(db.typed(str, found_id), (r.entry for r in read_records(db, number)))
            return OpenAttempt(number, state_from_text(db.typed(str, word)), memory)
        case _:
            raise db.damaged("more than one attempt is open")


def read_records(db: Database, number: int) -> list[Record]:
    """Read the journal rows of an attempt, in order."""
    rows = db.execute(
        "SELECT at, state, entry FROM entry WHERE attempt = ? ORDER BY rowid", (number,)
    )
    return [
        Record(
            db.typed(float, at),
            state_from_text(db.typed(str, word)),
            from_text(db.typed(str, text)),
        )
        for at, word, text in rows
    ]


def read_proven(db: Database, limit: int, now: float) -> tuple[Release, ...]:
    """Read the newest ``limit`` proven releases, newest first, less those in quarantine."""
    rows = db.execute(
        "SELECT label, version, digest FROM"
        " (SELECT rank, digest FROM proven ORDER BY rank DESC LIMIT ?) JOIN release USING (digest)"
        " WHERE digest NOT IN (SELECT digest FROM quarantine WHERE until > ?) ORDER BY rank DESC",
        (limit, now),
    )
    return tuple(read_release(db, row) for row in rows)


def read_release(db: Database, row: Iterable[Value]) -> Release:
    """Build a release from the columns label, version and digest."""
    return Release(*(db.typed(str, value) for value in row))
