"""When journal writes become durable: another connection reads the file at each statement.

A run can die between any two statements, so what a call makes durable must appear on the disk at
once: a final state with its last entry, its quarantine and the end of its attempt.
"""

import contextlib
import sqlite3  # noqa: TID251 - the test looks at the file without the code under test
from collections.abc import Callable, Generator
from typing import Final, TypeVar

import pytest
from attrs import evolve

from runner.config.app import Retention
from runner.reconcile import events
from runner.reconcile.attempt import Attempt
from runner.reconcile.machine import State
from runner.reconcile.model import Deployment, Healthy, Release
from runner.storage import sqlite
from runner.storage.journal import SqliteJournal, open_journal
from runner.storage.paths import StateDir

T = TypeVar("T")
NOW: Final = 1_000_000.0
RETENTION: Final = Retention(proven=2, history=2)
A, B = (Release(f"{name}+v{name}", name, name * 8) for name in "AB")
A_LIVE, B_LIVE = (Deployment(release, f"token of {release.label}") for release in (A, B))


class Watched:
    """A journal, and another connection that sees durable rows only."""

    def __init__(self, state: StateDir) -> None:
        self.journal: SqliteJournal = open_journal(state, RETENTION, lambda: NOW)
        self._other = sqlite3.connect(state.journal)
        self._seen: list[str] = []
        self.journal._db._connection.set_trace_callback(lambda _: self._look())

    def close(self) -> None:
        self.journal.close()
        self._other.close()

    def _look(self) -> None:
        now = "\n".join(self._other.iterdump())
        if now not in self._seen[-1:]:
            self._seen.append(now)

    def states_in(self, call: Callable[[], T]) -> tuple[list[str], T]:
        """List the durable states from before a call until after it."""
        self._seen.clear()
        self._look()
        returned = call()
        self._look()
        return list(self._seen), returned

    def writes_nothing(self, call: Callable[[], T]) -> T:
        seen, returned = self.states_in(call)
        assert len(seen) == 1, "it became durable too early"
        return returned

    def writes_at_once(self, call: Callable[[], T]) -> T:
        seen, returned = self.states_in(call)
        assert len(seen) == 2, f"{len(seen) - 1} states of the disk came after the first"
        return returned


@pytest.fixture
def watch(state: StateDir) -> Generator[Callable[[], Watched]]:
    """Open the journal as the next run would, after the previous one ended or died."""
    with contextlib.ExitStack() as opened:

        def open_next() -> Watched:
            opened.close()
            watched = Watched(state)
            opened.callback(watched.close)
            return watched

        yield open_next


def deploy_and_pass(watched: Watched, attempt: Attempt, live: Deployment, state: State) -> None:
    """Write the entries of a deployment that passes its gate."""
    journal = watched.journal
    watched.writes_at_once(lambda: journal.intend(State.DEPLOYING, events.Deploy(live)))
    watched.writes_at_once(lambda: journal.intend(State.GATING, events.RunGate(live)))
    watched.writes_nothing(
        lambda: journal.observe(events.Judged(Healthy(live, (), 3, 10.0)), state, attempt)
    )


def run_to_commit(watched: Watched, live: Deployment) -> None:
    """Write a run that commits a release."""
    journal, verdict = watched.journal, Healthy(live, (), 3, 10.0)
    attempt = evolve(watched.writes_nothing(journal.begin), candidate=live.release)
    watched.writes_nothing(lambda: journal.intend(State.IDLE, events.Assess()))
    watched.writes_nothing(
        lambda: journal.observe(events.CandidateFound(live.release), State.DEPLOYING, attempt)
    )
    deploy_and_pass(watched, attempt, live, State.COMMITTING)
    watched.writes_at_once(lambda: journal.intend(State.COMMITTING, events.Commit(verdict)))
    watched.writes_nothing(lambda: journal.commit(verdict))
    watched.writes_at_once(
        lambda: journal.observe(events.Committed(live.release), State.COMMITTED, attempt)
    )


def run_to_rollback(watched: Watched, guilty: Release, back: Deployment) -> None:
    """Write a run that rolls a release back and puts it into quarantine."""
    journal = watched.journal
    begun = watched.writes_nothing(journal.begin)
    attempt = evolve(begun, candidate=guilty, against="500", guilty=True, fallbacks=(back.release,))
    watched.writes_nothing(lambda: journal.intend(State.CHOOSING, events.ChooseFallback()))
    watched.writes_at_once(lambda: journal.intend(State.ROLLING_BACK, events.Deploy(back)))
    judged = events.Judged(Healthy(back, (), 3, 10.0))
    watched.writes_at_once(lambda: journal.observe(judged, State.ROLLED_BACK, attempt))


def run_to_nothing(watched: Watched, final: State) -> None:
    """Write a run that only reads, and ends."""
    journal = watched.journal
    attempt = watched.writes_nothing(journal.begin)
    watched.writes_nothing(lambda: journal.intend(State.IDLE, events.Assess()))
    watched.writes_nothing(
        lambda: journal.observe(events.LastGoodLive(A_LIVE, ""), State.VERIFYING, attempt)
    )
    watched.writes_nothing(lambda: journal.intend(State.VERIFYING, events.Verify(A_LIVE)))
    watched.writes_at_once(lambda: journal.observe(events.Unreachable("no engine"), final, attempt))


def test_each_call_of_the_journal_is_durable_at_once_or_not_at_all(
    watch: Callable[[], Watched],
) -> None:
    """Several runs: commits, a quarantine that a later commit ends, and deleted history."""
    run_to_commit(watch(), A_LIVE)
    run_to_rollback(watch(), B, A_LIVE)
    run_to_nothing(watch(), State.UNCHANGED)
    run_to_commit(watch(), B_LIVE)
    run_to_rollback(watch(), B, A_LIVE)
    run_to_commit(watch(), A_LIVE)


@pytest.mark.parametrize("interruption", [State.UNDECIDED, None])
def test_a_resumed_attempt_is_durable_with_its_first_effect(
    watch: Callable[[], Watched], interruption: State | None
) -> None:
    """After an undecided end or a kill, ``Interrupted`` becomes durable with the next effect."""
    if interruption:
        run_to_nothing(watch(), interruption)
    else:
        dying = watch()
        dying.journal.begin()
        dying.journal.intend(State.DEPLOYING, events.Deploy(A_LIVE))
    run_to_commit(watch(), A_LIVE)


def test_a_quarantine_is_forgotten_at_once(watch: Callable[[], Watched]) -> None:
    """The quarantine of all releases, or of one, is removed in one transaction."""
    run_to_rollback(watch(), B, A_LIVE)
    run_to_rollback(watch(), A, B_LIVE)
    watched = watch()
    assert watched.writes_at_once(lambda: watched.journal.forget_quarantine(A.label)) == 1
    assert watched.writes_at_once(watched.journal.forget_quarantine) == 1
    assert watched.writes_nothing(watched.journal.forget_quarantine) == 0


def test_reading_changes_nothing(watch: Callable[[], Watched]) -> None:
    """Reading does not end an open transaction."""
    watched = watch()
    watched.writes_nothing(watched.journal.begin)
    for read in (watched.journal.proven, watched.journal.quarantined, watched.journal.needed):
        watched.writes_nothing(read)
    assert watched.journal._db._connection.in_transaction


def test_a_journal_waits_for_the_disk_at_each_commit(state: StateDir) -> None:
    """``PRAGMA synchronous`` is 3 (EXTRA), which syncs the directory as well."""
    open_journal(state, RETENTION, lambda: NOW).close()
    for read_only in (False, True):
        opened = sqlite.connect(state.journal, read_only=read_only)
        assert opened.execute("PRAGMA synchronous") == [(3,)]
        opened.close()
