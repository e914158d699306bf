"""The journal: its entries, when they are durable, and how the next run resumes an attempt."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import contextlib
import sqlite3  # noqa: TID251 - the test looks at the file without the code under test
import subprocess
from collections.abc import Callable, Generator
from typing import Any

import pytest
from attrs import define, evolve

from runner.config.app import Retention
from runner.reconcile import events
from runner.reconcile.attempt import Attempt, Interrupted, remember
from runner.reconcile.errors import JournalError
from runner.reconcile.machine import FINAL, State
from runner.reconcile.model import (
    Deployment,
    Healthy,
    Outcome,
    ProbeResult,
    Release,
    Unhealthy,
)
from runner.storage.journal import SqliteJournal, open_journal
from runner.storage.paths import StateDir

WEEK = 7 * 24 * 3600.0


def release(name: str) -> Release:
    return Release(f"{name}+v{name}", name, name * 8)


A, B, C, D, E = map(release, "ABCDE")


def deployment(of: Release) -> Deployment:
    return Deployment(of, f"token-of-{of.version}")


def healthy(of: Release) -> Healthy:
    evidence = (ProbeResult("ping", Outcome.PASS, "status 200", "proxy.service", 0.1, 200, "OK"),)
    return Healthy(deployment(of), evidence, 3, 10.0)


@define
class Clock:
    time: float = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


Open = Callable[..., SqliteJournal]


@pytest.fixture
def open_it(state: StateDir, clock: Clock) -> Generator[Open]:
    """Open the journal as the next run would; the previous connection is closed first."""
    with contextlib.ExitStack() as opened:

        def open_next(retention: Retention | None = None) -> SqliteJournal:
            opened.close()
            journal = open_journal(state, retention or Retention(), clock)
            opened.callback(journal.close)
            return journal

        yield open_next


def on_disk(state: StateDir, sql: str) -> list[tuple[object, ...]]:
    """Read durable rows through a separate connection."""
    with contextlib.closing(sqlite3.connect(state.journal)) as other:
        return other.execute(sql).fetchall()


def commit(journal: SqliteJournal, of: Release) -> None:
    """Write a whole attempt that ends in COMMITTED."""
    attempt = evolve(journal.begin(), candidate=of)
    journal.intend(State.COMMITTING, events.Commit(healthy(of)))
    journal.commit(healthy(of))
    journal.observe(events.Committed(of), State.COMMITTED, attempt)


def roll_back(journal: SqliteJournal, guilty: Release, to: Release) -> None:
    """Write a whole attempt that ends in ROLLED_BACK, with evidence against its candidate."""
    attempt = evolve(
        journal.begin(), candidate=guilty, against="status 500", guilty=True, fallbacks=(to,)
    )
    journal.observe(events.Judged(healthy(to)), State.ROLLED_BACK, attempt)


# Intents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "effect",
    [events.Deploy(deployment(A)), events.RunGate(deployment(A)), events.Commit(healthy(A))],
)
def test_a_writing_effect_is_durable_before_it_is_allowed(
    state: StateDir, open_it: Open, effect: events.Effect
) -> None:
    """The intent and everything before it are on the disk when ``intend`` returns."""
    journal = open_it()
    attempt = journal.begin()
    journal.intend(State.IDLE, events.Assess())
    journal.observe(events.CandidateFound(A), State.DEPLOYING, attempt)
    assert (State.DEPLOYING, effect) == journal.intend(State.DEPLOYING, effect)
    assert [(attempt.id, "deploying", None)] == on_disk(
        state, "SELECT id, state, ended FROM attempt"
    )
    assert [("idle",), ("deploying",), ("deploying",)] == on_disk(state, "SELECT state FROM entry")


@pytest.mark.parametrize(
    "effect", [events.Assess(), events.Verify(deployment(A)), events.ChooseFallback()]
)
def test_a_look_costs_no_write(state: StateDir, open_it: Open, effect: events.Effect) -> None:
    """A reading effect becomes durable with the next durable entry."""
    journal = open_it()
    journal.begin()
    assert (State.IDLE, effect) == journal.intend(State.IDLE, effect)
    assert [] == on_disk(state, "SELECT * FROM attempt")
    journal.intend(State.DEPLOYING, events.Deploy(deployment(A)))
    assert 2 == len(on_disk(state, "SELECT * FROM entry"))


def test_an_intent_survives_the_death_of_the_process(
    state: StateDir,
    open_it: Open,
    start_python: Callable[..., subprocess.Popen[str]],
) -> None:
    """After SIGKILL right after ``intend`` the next run finds the intent, and counts the crash."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from runner.config.app import Retention\n"
        "from runner.storage.journal import open_journal\n"
        "from runner.reconcile.machine import State\n"
        "from runner.storage.paths import open_state\n"
        "from runner.reconcile.events import CandidateFound, Deploy\n"
        "from runner.reconcile.model import Deployment, Release\n"
        "state = open_state(Path(sys.argv[1]), 'traefik')\n"
        "journal = open_journal(state, Retention(), time.time)\n"
        "attempt = journal.begin()\n"
        "release = Release('A+vA', 'A', 'AAAAAAAA')\n"
        "journal.observe(CandidateFound(release), State.DEPLOYING, attempt)\n"
        "journal.intend(State.DEPLOYING, Deploy(Deployment(release, attempt.next_token)))\n"
        "print('durable', flush=True)\n"
        "sys.stdin.read()\n"
    )
    for runs in (1, 2):
        process = start_python(code, state.root)
        assert process.stdout is not None
        assert "durable\n" == process.stdout.readline()
        process.kill()
        process.wait()
        assert runs == len(on_disk(state, "SELECT * FROM entry WHERE entry LIKE '%\"Deploy\"%'"))
    attempt = open_it().begin()
    assert (A, A, 2, 2) == (attempt.candidate, attempt.target, attempt.crashes, attempt.deploys)
    assert attempt.deployment is not None
    assert f"{attempt.id}-2" == attempt.deployment.token
    assert f"{attempt.id}-3" == attempt.next_token


def test_a_run_that_dies_before_a_durable_intent_leaves_no_attempt(
    state: StateDir, open_it: Open
) -> None:
    """A run that dies before its first writing effect leaves no attempt behind."""
    journal = open_it()
    first = journal.begin()
    journal.intend(State.IDLE, events.Assess())
    second = open_it().begin()
    assert first.id != second.id
    assert Attempt(second.id) == second
    assert [] == on_disk(state, "SELECT * FROM attempt")


# Attempts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("final", [state for state in State if state in FINAL - {State.UNDECIDED}])
def test_a_closed_attempt_is_not_taken_up_again(
    state: StateDir, open_it: Open, clock: Clock, final: State
) -> None:
    """After an outcome the next run starts a new attempt, with another id."""
    journal = open_it()
    first = journal.begin()
    clock.time += 5
    journal.observe(events.NothingDeployable("none"), final, evolve(first, candidate=A, note="why"))
    assert [(final.value, clock.time - 5, clock.time, A.label, "why")] == on_disk(
        state, "SELECT state, begun, ended, release, note FROM attempt"
    )
    second = open_it().begin()
    assert first.id != second.id
    assert Attempt(second.id) == second


def test_an_attempt_id_is_unguessable(open_it: Open) -> None:
    """The attempt id, from which tokens are made, has 128 random bits."""
    ids = set[str]()
    for _ in range(3):
        journal = open_it()
        attempt = journal.begin()
        ids.add(attempt.id)
        journal.observe(events.NothingDeployable("none"), State.STRANDED, attempt)
    assert {32} == {len(found) for found in ids}
    assert 3 == len(ids)


def test_an_open_attempt_is_taken_up_with_all_it_remembers(open_it: Open) -> None:
    """The replayed memory is that of the run before, plus the interruption."""
    journal = open_it()
    first = journal.begin()
    journal.observe(events.CandidateFound(A), State.DEPLOYING, first)
    journal.intend(State.DEPLOYING, events.Deploy(deployment(A)))
    journal.observe(events.Judged(Unhealthy(deployment(A), "500", (), 3)), State.CHOOSING, first)
    journal.intend(State.ROLLING_BACK, events.Deploy(deployment(B)))
    second = open_it().begin()
    assert (
        Attempt(
            first.id,
            candidate=A,
            target=A,
            deployment=deployment(B),
            deploys=2,
            verdict=None,
            against="500",
            guilty=True,
            crashes=0,
            note="500",
        )
        == second
    )


def test_a_run_that_dies_on_a_candidate_is_counted(open_it: Open) -> None:
    """Crashes are counted until the candidate is given up; an undecided end is no crash."""
    journal = open_it()
    first = journal.begin()
    journal.observe(events.CandidateFound(A), State.DEPLOYING, first)
    journal.intend(State.DEPLOYING, events.Deploy(deployment(A)))
    journal = open_it()
    second = journal.begin()
    assert second.crashes == 1
    journal.observe(events.Unreachable("no Docker"), State.UNDECIDED, second)
    assert open_it().begin().crashes == 1


def test_every_crash_is_counted_and_recorded(state: StateDir, open_it: Open) -> None:
    """Each run that died leaves one ``Interrupted`` in the journal once the next one acts."""
    for crashes in (0, 1, 2, 3):
        journal = open_it()
        attempt = journal.begin()
        assert crashes == attempt.crashes
        journal.observe(events.CandidateFound(A), State.DEPLOYING, attempt)
        journal.intend(State.DEPLOYING, events.Deploy(deployment(A)))
    expected = ['{"crashed":true,"is":"Interrupted"}'] * 3
    found = [str(text) for (text,) in on_disk(state, "SELECT entry FROM entry ORDER BY rowid")]
    assert expected == [text for text in found if "Interrupted" in text]


def test_undecided_leaves_the_attempt_open_and_is_no_crash(state: StateDir, open_it: Open) -> None:
    """An undecided attempt is resumed, and does not count as a crash."""
    journal = open_it()
    first = journal.begin()
    journal.observe(events.CandidateFound(A), State.DEPLOYING, first)
    journal.observe(
        events.Unreachable("no engine"), State.UNDECIDED, evolve(first, note="no engine")
    )
    assert [("undecided", None, "no engine")] == on_disk(
        state, "SELECT state, ended, note FROM attempt"
    )
    second = open_it().begin()
    assert (first.id, A, 0) == (second.id, second.candidate, second.crashes)


def test_a_crash_after_an_undecided_run_is_a_crash(open_it: Open) -> None:
    """After the attempt was resumed, the end of an earlier run is not counted again."""
    journal = open_it()
    first = journal.begin()
    journal.observe(events.CandidateFound(A), State.DEPLOYING, first)
    journal.observe(events.NothingDecided("no answer"), State.UNDECIDED, first)
    journal = open_it()
    journal.begin()
    journal.intend(State.DEPLOYING, events.Deploy(deployment(A)))
    assert 1 == open_it().begin().crashes


def test_two_open_attempts_are_impossible(state: StateDir, open_it: Open) -> None:
    """The database itself refuses a second open attempt."""
    journal = open_it()
    journal.begin()
    journal.intend(State.DEPLOYING, events.Deploy(deployment(A)))
    with contextlib.closing(sqlite3.connect(state.journal)) as other:
        sql = "INSERT INTO attempt (id, begun, state) VALUES ('x', 0, 'idle')"
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            other.execute(sql)


def test_a_run_changes_nothing_of_earlier_attempts(
    state: StateDir, open_it: Open, clock: Clock
) -> None:
    """A later attempt, resumed or ended, leaves the rows of earlier ones unchanged."""
    commit(open_it(), A)
    roll_back(open_it(), B, A)
    sql = "SELECT * FROM attempt, entry ON attempt = number WHERE number <= 2 ORDER BY entry.rowid"
    before = on_disk(state, sql)
    assert 2 < len(before)
    clock.time += 1000.0
    journal = open_it()
    attempt = evolve(journal.begin(), candidate=C, note="another")
    journal.observe(events.CandidateFound(C), State.DEPLOYING, attempt)
    journal.intend(State.DEPLOYING, events.Deploy(deployment(C)))
    assert before == on_disk(state, sql)
    taken_up = (journal := open_it()).begin()
    assert (attempt.id, C, 1, 1) == (
        *(taken_up.id, taken_up.candidate),
        *(taken_up.deploys, taken_up.crashes),
    )
    journal.observe(events.NothingDeployable("none"), State.STRANDED, taken_up)
    assert before == on_disk(state, sql)


@pytest.mark.parametrize(
    ("candidate", "target", "label"),
    [(A, B, A.label), (A, None, A.label), (None, B, B.label), (None, None, "")],
)
def test_an_attempt_is_listed_by_its_candidate_or_else_by_what_it_deployed(
    state: StateDir,
    open_it: Open,
    candidate: Release | None,
    target: Release | None,
    label: str,
) -> None:
    """A run that only restored last-good, or only read, has no candidate."""
    journal = open_it()
    attempt = evolve(journal.begin(), candidate=candidate, target=target)
    journal.observe(events.NothingDeployable("none"), State.STRANDED, attempt)
    assert [(label,)] == on_disk(state, "SELECT release FROM attempt")


# What is proven ----------------------------------------------------------------------------------


def test_a_committed_release_is_last_good(state: StateDir, open_it: Open, clock: Clock) -> None:
    """A committed release is first among the proven, with evidence and time of the commit."""
    commit(open_it(), A)
    commit(journal := open_it(), B)
    assert (B, A) == journal.proven()
    _, (at, evidence) = on_disk(state, "SELECT committed_at, evidence FROM proven ORDER BY rank")
    assert clock.time == at
    assert '"is":"Healthy"' in str(evidence)
    assert B.label in str(evidence)


def test_a_release_that_is_committed_again_moves_to_the_front(open_it: Open) -> None:
    """The release that was committed last is last-good, and no release is listed twice."""
    for each in (A, B, C, A):
        commit(open_it(), each)
    assert (A, C, B) == open_it().proven()


def test_a_commit_is_durable_with_the_record_of_it_and_not_before(
    state: StateDir, open_it: Open
) -> None:
    """Between ``commit`` and ``observe`` the old last-good is still on the disk."""
    commit(open_it(), A)
    commit(open_it(), B)
    journal = open_it()
    attempt = journal.begin()
    journal.intend(State.COMMITTING, events.Commit(healthy(A)))
    journal.commit(healthy(A))
    assert [(A.digest,), (B.digest,)] == on_disk(state, "SELECT digest FROM proven ORDER BY rank")
    journal.observe(events.Committed(A), State.COMMITTED, attempt)
    assert [(B.digest,), (A.digest,)] == on_disk(state, "SELECT digest FROM proven ORDER BY rank")


def test_a_commit_that_fails_half_way_loses_nothing(state: StateDir, open_it: Open) -> None:
    """A release that is proven already stays so if committing it again can't be written."""
    commit(open_it(), A)
    roll_back(open_it(), A, B)
    journal = open_it()
    journal.begin()
    journal.intend(State.COMMITTING, events.Commit(healthy(A)))
    with contextlib.closing(sqlite3.connect(state.journal)) as other:
        other.execute(
            "CREATE TRIGGER no_more BEFORE INSERT ON proven BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    with pytest.raises(JournalError):
        journal.commit(healthy(A))
    open_it()
    assert [(A.digest,)] == on_disk(state, "SELECT digest FROM proven")
    assert [(A.digest,)] == on_disk(state, "SELECT digest FROM quarantine")


def test_only_so_many_proven_releases_are_kept(open_it: Open) -> None:
    """The newest ``retention.proven`` releases are fallbacks, and are needed in the store."""
    retention = Retention(proven=3)
    for each in (A, B, C, D, E):
        commit(open_it(retention), each)
    journal = open_it(retention)
    assert (E, D, C) == journal.proven()
    assert {E.digest, D.digest, C.digest} == journal.needed()


def test_nothing_is_proven_at_first(open_it: Open) -> None:
    """A new journal has no fallback."""
    journal = open_it()
    assert ((), frozenset(), frozenset()) == (
        journal.proven(),
        journal.quarantined(),
        journal.needed(),
    )


# Quarantine --------------------------------------------------------------------------------------


def test_a_guilty_candidate_is_in_quarantine_until_it_expires(open_it: Open, clock: Clock) -> None:
    """The release is in quarantine until, but not at, the second of its end."""
    commit(open_it(), A)
    roll_back(journal := open_it(), B, A)
    assert {B.digest} == journal.quarantined()
    clock.time += WEEK - 1
    assert {B.digest} == journal.quarantined()
    clock.time += 1
    assert frozenset() == journal.quarantined()


@pytest.mark.parametrize("fallbacks", [(A,), ()], ids=["deployed again", "never replaced"])
def test_a_candidate_is_blamed_where_last_good_passed(
    open_it: Open, fallbacks: tuple[Release, ...]
) -> None:
    """The quarantine is the same whether last-good was deployed again or still live."""
    journal = open_it()
    attempt = evolve(journal.begin(), candidate=B, against="500", guilty=True, fallbacks=fallbacks)
    journal.observe(events.Judged(healthy(A)), State.ROLLED_BACK, attempt)
    assert {B.digest} == journal.quarantined()


def test_the_length_of_a_quarantine_is_configured(
    state: StateDir, open_it: Open, clock: Clock
) -> None:
    """The quarantine lasts ``retention.quarantine`` seconds and has the reason for operators."""
    roll_back(open_it(Retention(quarantine=60)), B, A)
    assert [(B.digest, "status 500", clock.time, clock.time + 60)] == on_disk(
        state, "SELECT digest, reason, since, until FROM quarantine"
    )


def test_a_second_quarantine_starts_anew(open_it: Open, clock: Clock) -> None:
    """After another failure of a forced trial the quarantine begins anew."""
    roll_back(open_it(), B, A)
    clock.time += WEEK / 2
    roll_back(journal := open_it(), B, A)
    clock.time += WEEK - 1
    assert {B.digest} == journal.quarantined()


def test_a_proven_release_in_quarantine_is_left_out_but_kept(open_it: Open, clock: Clock) -> None:
    """In quarantine a proven release is no fallback; no older one takes its place; it returns."""
    for each in (A, B, C):
        commit(open_it(), each)
    roll_back(journal := open_it(Retention(proven=2)), C, B)
    assert (B,) == journal.proven()
    assert {C.digest, B.digest} == journal.needed()
    clock.time += WEEK
    assert (C, B) == journal.proven()


@pytest.mark.parametrize(
    ("changes", "final"),
    [
        ({"guilty": False}, State.ROLLED_BACK),
        ({"fallbacks": (A, D)}, State.ROLLED_BACK),
        ({}, State.STRANDED),
        ({}, State.UNDECIDED),
    ],
    ids=["not guilty", "last-good failed too", "stranded", "undecided"],
)
def test_no_release_is_put_into_quarantine_without_proof(
    open_it: Open, changes: dict[str, Any], final: State
) -> None:
    """A candidate is blamed only if last-good passed the same gate in the same run."""
    journal = open_it()
    attempt = evolve(journal.begin(), candidate=B, against="500", guilty=True, fallbacks=(A,))
    journal.observe(events.Judged(healthy(A)), final, evolve(attempt, **changes))
    assert frozenset() == journal.quarantined()


def test_a_commit_ends_no_other_quarantine(open_it: Open) -> None:
    """A commit ends only the quarantine of its own release."""
    for each in (B, C):
        roll_back(open_it(), each, A)
    commit(journal := open_it(), B)
    assert {C.digest} == journal.quarantined()


def test_a_release_is_known_by_the_label_that_it_had_first(open_it: Open) -> None:
    """The same files under another label are the same release."""
    commit(open_it(), A)
    commit(open_it(), evolve(A, label="renamed"))
    roll_back(journal := open_it(), evolve(A, label="again"), B)
    assert () == journal.proven()
    assert 1 == journal.forget_quarantine(A.label)
    assert (A,) == journal.proven()


def test_a_commit_ends_the_quarantine(open_it: Open) -> None:
    """A committed release is proven, and not in quarantine any more."""
    roll_back(open_it(), B, A)
    commit(journal := open_it(), B)
    assert frozenset() == journal.quarantined()
    assert (B,) == journal.proven()


def test_a_quarantine_is_forgotten_by_label_or_altogether(open_it: Open) -> None:
    """An operator can end the quarantine of one release or of all; the count is returned."""
    for each in (B, C, D):
        roll_back(open_it(), each, A)
    assert 0 == open_it().forget_quarantine("unknown")
    assert 1 == open_it().forget_quarantine(C.label)
    assert {B.digest, D.digest} == open_it().quarantined()
    assert 2 == open_it().forget_quarantine()
    assert frozenset() == (journal := open_it()).quarantined()
    assert 0 == journal.forget_quarantine()


# Housekeeping ------------------------------------------------------------------------------------


def test_the_history_is_bounded_and_takes_nothing_else_with_it(
    state: StateDir, open_it: Open
) -> None:
    """Old attempts and entries are deleted; proven releases and quarantine stay."""
    retention = Retention(proven=10, history=3)
    for each in (A, B):
        commit(open_it(retention), each)
    roll_back(open_it(retention), C, B)
    for each in (D, E, D, E):
        commit(open_it(retention), each)
    assert [(5,), (6,), (7,)] == on_disk(state, "SELECT number FROM attempt ORDER BY 1")
    assert [(5,), (6,), (7,)] == on_disk(state, "SELECT DISTINCT attempt FROM entry ORDER BY 1")
    journal = open_it(retention)
    assert (E, D, B, A) == journal.proven()
    assert {C.digest} == journal.quarantined()


def test_the_open_attempt_is_never_history(state: StateDir, open_it: Open) -> None:
    """An open attempt is never deleted, even with the smallest retention."""
    retention = Retention(history=1)
    commit(open_it(retention), A)
    journal = open_it(retention)
    attempt = journal.begin()
    journal.observe(events.Unreachable("no engine"), State.UNDECIDED, attempt)
    assert [(2,)] == on_disk(state, "SELECT number FROM attempt")
    assert attempt.id == open_it(retention).begin().id


def test_any_text_that_a_reason_can_carry_is_written(open_it: Open) -> None:
    """A reason with surrogates (file names that are no UTF-8) or NUL can be written."""
    reason = "caf\udce9 \0 \ud83d is no plain file"
    journal = open_it()
    attempt = evolve(journal.begin(), note=reason)
    journal.observe(events.CandidateFound(A), State.DEPLOYING, attempt)
    journal.observe(events.Unreachable(reason), State.UNDECIDED, attempt)
    assert reason == open_it().begin().note


def test_an_interruption_is_an_entry_like_any_other() -> None:
    """The replayed memory forgets fallbacks of the run that died: they are tried again."""
    on_trial = Attempt("a", candidate=A, target=A, crashes=1)
    attempt = evolve(on_trial, fallbacks=(B,), has_looked=True)
    assert evolve(on_trial, crashes=2) == remember(attempt, Interrupted(crashed=True))
    assert on_trial == remember(attempt, Interrupted(crashed=False))
