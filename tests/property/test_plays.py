"""Plays of several runs: the memory of an attempt shows in the next run.

Each act is one run: the latest release, its faults, and exactly how it must end. The disk and the
live deployment are handed from act to act.
"""

from collections.abc import Sequence
from typing import Final

import pytest
from attrs import evolve, field, frozen
from fake_platform import (
    DEADLINE,
    FOREIGN,
    VERIFY_DEADLINE,
    Disk,
    FakeClock,
    FakePlatform,
    MemoryJournal,
    PowerCut,
    Silent,
    make_run,
)
from promises import AGAIN, GOOD, NEW, NEWEST, OLD, OLDER
from test_outcomes import DONE, DOWN, DUNNO, FAIL, LOST, OFFLINE, PASS, REFUSED, Scripted, path_of
from typing_extensions import override

from runner.reconcile.attempt import Attempt
from runner.reconcile.errors import ReconcileError
from runner.reconcile.events import Deployed, Event, Judged, LastGoodLive
from runner.reconcile.gate import Progress
from runner.reconcile.machine import ReconcileMachine, State
from runner.reconcile.model import (
    Deployment,
    Healthy,
    LatestUnknown,
    Outcome,
    Release,
    Unhealthy,
)

CUT: Final = "cut"
RUNS_AND_CUT: Final = "cut, but it runs"
LONGEST: Final = 2 * len(State)
"""More steps than a run can take; a broken one that goes round and round ends here."""


@frozen
class Act:
    """One run, and its expected outcome."""

    latest: Release | LatestUnknown
    ends: State | None
    """None: the run dies."""
    path: str
    script: dict[str, Sequence[str]] = field(factory=dict[str, Sequence[str]])
    forced: bool = False
    depth: int = 2
    first: str = ""
    """An event before it: the host reboots, someone else deploys, the quarantine expires."""


@frozen
class Play:
    name: str
    proven: tuple[Release, ...]
    live: Release | None
    acts: tuple[Act, ...]
    serving: Release | None
    last_good: Release | None
    quarantine: frozenset[str] = frozenset[str]()
    """At the end."""
    begins_with: frozenset[str] = frozenset[str]()


BLAMED = frozenset({NEW.digest})
DIES = Act(NEW, None, "D", {"deploy": (RUNS_AND_CUT,)})
DIES_AGAIN = Act(NEW, None, "D", {"deploy": (RUNS_AND_CUT,)}, first="reboot")

PLAYS = (
    Play(
        *("three dead runs are enough, and a quarantine ends", (GOOD,), GOOD),
        (
            DIES,
            DIES_AGAIN,
            DIES_AGAIN,
            Act(NEW, State.ROLLED_BACK, "H B E", first="reboot"),
            Act(NEW, State.UNCHANGED, "V"),
            Act(NEW, State.COMMITTED, "D G C", first="the quarantine expires"),
        ),
        *(NEW, NEW),
    ),
    Play(
        *("two dead runs are bad luck", (GOOD,), GOOD),
        (DIES, DIES_AGAIN, Act(NEW, State.COMMITTED, "D G C", first="reboot")),
        *(NEW, NEW),
    ),
    Play(
        *("dead runs of one candidate don't count against another", (GOOD,), GOOD),
        (
            DIES,
            DIES_AGAIN,
            DIES_AGAIN,
            Act(NEWEST, None, "D", {"deploy": (RUNS_AND_CUT,)}, first="reboot"),
            Act(NEWEST, State.COMMITTED, "G C"),
        ),
        *(NEWEST, NEWEST),
    ),
    Play(
        *("dead runs of a restoration don't count against a candidate", (GOOD,), GOOD),
        (
            DIES,
            Act(OFFLINE, None, "R", {"deploy": (RUNS_AND_CUT,)}, first="reboot"),
            Act(OFFLINE, None, "R", {"deploy": (RUNS_AND_CUT,)}, first="reboot"),
            Act(NEW, State.COMMITTED, "D G C", first="reboot"),
        ),
        *(NEW, NEW),
    ),
    Play(
        *("dead runs of a rollback don't count against a candidate", (GOOD,), GOOD),
        (
            Act(NEW, None, "D G H B", {"answer": (DUNNO,), "deploy": (DONE, RUNS_AND_CUT)}),
            Act(NEW, None, "H B", {"deploy": (RUNS_AND_CUT,)}, first="reboot"),
            Act(NEW, None, "H B", {"deploy": (RUNS_AND_CUT,)}, first="reboot"),
            Act(NEW, State.ROLLED_BACK, "H B E", first="reboot"),
            Act(NEW, State.COMMITTED, "D G C"),
        ),
        *(NEW, NEW),
    ),
    Play(
        *("what failed before Docker went is rolled back and blamed after it", (GOOD,), GOOD),
        (
            Act(NEW, State.UNDECIDED, "D G H", {"answer": (FAIL,), "engine": ("up", "down")}),
            Act(NEW, State.ROLLED_BACK, "H B E"),
        ),
        *(GOOD, GOOD, BLAMED),
    ),
    Play(
        *("what could not be asked before Docker went is on trial again", (GOOD,), GOOD),
        (
            Act(NEW, State.UNDECIDED, "D G H", {"answer": (DUNNO,), "engine": ("up", "down")}),
            Act(NEW, State.COMMITTED, "G C"),
        ),
        *(NEW, NEW),
    ),
    Play(
        *("a rollback that Docker's loss interrupts is finished, and blames", (GOOD,), GOOD),
        (
            Act(NEW, State.UNDECIDED, "D G H B", {"answer": (FAIL,), "deploy": (DONE, DOWN)}),
            Act(NEW, State.ROLLED_BACK, "H B E"),
        ),
        *(GOOD, GOOD, BLAMED),
    ),
    Play(
        *("a rollback without evidence is finished, and blames no release", (GOOD,), GOOD),
        (
            Act(NEW, State.UNDECIDED, "D G H B", {"answer": (DUNNO,), "deploy": (DONE, DOWN)}),
            Act(NEW, State.ROLLED_BACK, "H B E"),
            Act(NEW, State.COMMITTED, "D G C"),
        ),
        *(NEW, NEW),
    ),
    Play(
        *("an interrupted rollback looks anew at what is live", (GOOD, OLD), GOOD),
        (
            Act(NEW, None, "D H E", {"deploy": (REFUSED,), "answer": (CUT,)}),
            Act(NEW, State.ROLLED_BACK, "H E"),
        ),
        *(GOOD, GOOD, BLAMED),
    ),
    Play(
        *("an interrupted rollback begins with last-good again", (GOOD, OLD), GOOD),
        (
            Act(
                *(NEW, None, "D G H B E H B"),
                {"answer": (FAIL, FAIL), "deploy": (DONE, DONE, "cut, nothing left")},
            ),
            Act(NEW, State.ROLLED_BACK, "H B E"),
        ),
        *(GOOD, GOOD, BLAMED),
    ),
    Play(
        *("a forced run that died is not gone on with unforced", (GOOD,), GOOD),
        (
            Act(NEW, None, "D G", {"answer": (CUT,)}, forced=True),
            Act(NEW, State.RESTORED, "R F"),
        ),
        *(GOOD, GOOD),
        quarantine=BLAMED,
        begins_with=BLAMED,
    ),
    Play(
        *("a forced run begins its trial anew", (GOOD,), GOOD),
        (
            Act(NEW, None, "D G", {"answer": (CUT,)}, forced=True),
            Act(NEW, State.COMMITTED, "D G C", forced=True),
        ),
        *(NEW, NEW),
        begins_with=BLAMED,
    ),
    Play(
        *("a forced run that turns to last-good blames no earlier candidate", (GOOD, OLD), None),
        (
            Act(NEW, None, "D H B", {"deploy": (REFUSED, RUNS_AND_CUT)}),
            Act(
                *(GOOD, State.ROLLED_BACK, "V R H B E"),
                {"answer": (FAIL,), "deploy": (REFUSED,)},
                forced=True,
            ),
        ),
        *(OLD, GOOD),
    ),
    Play(
        *("someone else's deployment of the candidate is not the one on trial", (GOOD,), GOOD),
        (
            Act(NEW, None, "D G", {"answer": (CUT,)}),
            Act(NEW, State.COMMITTED, "D G C", first="someone else deploys it"),
        ),
        *(NEW, NEW),
    ),
    Play(
        *("the same label with other content is not in quarantine", (GOOD,), GOOD),
        (
            Act(NEW, State.ROLLED_BACK, "D G H B E", {"answer": (FAIL, PASS)}),
            Act(AGAIN, State.COMMITTED, "D G C"),
        ),
        *(AGAIN, AGAIN, BLAMED),
    ),
    Play(
        *("a depth of 1 tries last-good alone", (GOOD, OLD), GOOD),
        (
            Act(NEW, State.STRANDED, "D G H B E H", {"answer": (FAIL, FAIL)}, depth=1),
            Act(NEW, State.COMMITTED, "D G C", depth=1),
        ),
        *(NEW, NEW),
    ),
    Play(
        *("a depth of 3 tries three", (GOOD, OLD, OLDER), GOOD),
        (
            Act(
                *(NEW, State.ROLLED_BACK, "D G H B E H B E H B E"),
                {"answer": (FAIL, FAIL, FAIL, PASS)},
                depth=3,
            ),
            Act(GOOD, State.RESTORED, "R F", depth=3),
        ),
        *(GOOD, GOOD),
    ),
    Play(
        *("what never took its place leaves last-good alone, twice", (GOOD,), GOOD),
        (
            Act(NEW, State.ROLLED_BACK, "D H B E", {"deploy": (LOST,)}),
            Act(NEW, State.UNCHANGED, "V"),
        ),
        *(GOOD, GOOD, BLAMED),
    ),
)


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.name)
def test_play(play: Play) -> None:
    """Each act takes exactly its path and ends as expected; exactly this state remains."""
    disk = Disk(proven=play.proven, quarantine=play.begins_with)
    live = Deployment(play.live, "earlier") if play.live else None
    found: list[tuple[State | None, str, bool]] = []
    for act in play.acts:
        disk, live = prepare(act, disk, live)
        choose = Scripted(**act.script)
        journal = MemoryJournal(choose, disk)
        platform = FakePlatform(choose, FakeClock(), (act.latest,), live_now=live)
        run = make_run(journal, platform, depth=act.depth, forced=act.forced)
        machine, path = ReconcileMachine(), list[State]()
        end: State | None = None
        try:
            attempt = journal.begin()
            while not machine.state.is_final and len(path) <= LONGEST:
                attempt = run.step(machine, attempt)
                path.append(machine.state)
            end = machine.state
        except PowerCut:
            pass
        found.append((end, path_of(path), choose.is_spent))
        disk, live = journal.disk, platform.live_now
    assert found == [(act.ends, act.path, True) for act in play.acts]
    assert (live.release if live else None) == play.serving
    assert disk.proven[0] == play.last_good
    assert disk.quarantine == play.quarantine


def prepare(act: Act, disk: Disk, live: Deployment | None) -> tuple[Disk, Deployment | None]:
    match act.first:
        case "reboot":
            return disk, None
        case "someone else deploys it":
            assert isinstance(act.latest, Release)
            return disk, Deployment(act.latest, FOREIGN)
        case "the quarantine expires":
            return evolve(disk, quarantine=frozenset()), live
        case first:
            assert not first
            return disk, live


# What a run does beside its path -----------------------------------------------------------------


class Notes(Silent):
    """A watcher that records its calls."""

    def __init__(self) -> None:
        self.seen: list[tuple[State, Attempt, Event]] = []
        self.rounds: list[Progress] = []
        self.warned: list[str] = []

    @override
    def entered(self, state: State, attempt: Attempt, event: Event) -> None:
        self.seen.append((state, attempt, event))

    @override
    def gate(self, progress: Progress) -> None:
        self.rounds.append(progress)

    @override
    def warn(self, error: ReconcileError) -> None:
        self.warned.append(error.message)


@pytest.mark.parametrize("chore", ["done", "failed", "unreachable"])
def test_a_committed_release_is_sealed_and_needed_releases_are_kept(chore: str) -> None:
    """At the end of a run last-good is sealed, and everything but the kept releases is dropped.
    That neither could be done is a warning, and no other outcome.
    """
    choose, notes = Scripted(seal=[chore], prune=[chore]), Notes()
    journal = MemoryJournal(choose, Disk(proven=(GOOD, OLD, OLDER)), kept=2)
    platform = FakePlatform(choose, FakeClock(), (NEW,), live_now=Deployment(GOOD, "earlier"))
    final, _ = make_run(journal, platform, watcher=notes).to_the_end()
    assert final is State.COMMITTED
    assert platform.sealed == [NEW]
    assert platform.kept == [frozenset({NEW.digest, GOOD.digest})]
    assert len(notes.warned) == (0 if chore == "done" else 2)


def test_a_watcher_sees_each_step_and_each_round() -> None:
    """After each event: the new state, what the attempt remembers of the event, and the event."""
    choose, notes = Scripted(answer=[FAIL, PASS]), Notes()
    journal = MemoryJournal(choose, Disk(proven=(GOOD,)))
    platform = FakePlatform(choose, FakeClock(), (GOOD,), live_now=Deployment(GOOD, "earlier"))
    final, last = make_run(journal, platform, watcher=notes).to_the_end()
    assert path_of(state for state, _, _ in notes.seen) == "V R F"
    assert [type(event) for _, _, event in notes.seen] == [LastGoodLive, Judged, Deployed, Judged]
    judged = [attempt.verdict and type(attempt.verdict) for _, attempt, _ in notes.seen]
    assert judged == [None, Unhealthy, None, Healthy]
    assert notes.seen[-1][:2] == (final, last)
    assert [progress.last[0].outcome for progress in notes.rounds] == [Outcome.FAIL, Outcome.PASS]


def test_the_next_run_retries_a_failed_seal() -> None:
    """Also a run that has nothing else to do."""
    disk, live = Disk(proven=(GOOD,)), Deployment(GOOD, "earlier")
    for chore in ("failed", "done"):
        choose = Scripted(seal=[chore])
        platform = FakePlatform(choose, FakeClock(), (GOOD,), live_now=live)
        journal = MemoryJournal(choose, disk)
        assert make_run(journal, platform).to_the_end()[0] is State.UNCHANGED
        assert platform.sealed == [GOOD]
        disk = journal.disk


def test_nothing_is_sealed_without_a_proven_release() -> None:
    """A failed first deployment leaves nothing to store."""
    choose = Scripted(answer=[FAIL])
    platform = FakePlatform(choose, FakeClock(), (NEW,))
    final, _ = make_run(MemoryJournal(choose, Disk()), platform).to_the_end()
    assert final is State.STRANDED
    assert platform.sealed == []


@pytest.mark.parametrize(
    ("latest", "proven", "seconds"), [(GOOD, (GOOD,), VERIFY_DEADLINE), (NEW, (), DEADLINE)]
)
def test_verifying_last_good_has_a_deadline_of_its_own(
    latest: Release, proven: tuple[Release, ...], seconds: float
) -> None:
    """A verification ends at `verify_deadline`, a trial at `deadline`."""
    choose, clock = Scripted(answer=[DUNNO]), FakeClock()
    began = clock.time
    platform = FakePlatform(choose, clock, (latest,), live_now=Deployment(GOOD, "earlier"))
    final, _ = make_run(MemoryJournal(choose, Disk(proven=proven)), platform).to_the_end()
    assert final is State.UNDECIDED
    assert clock.time - began == seconds
