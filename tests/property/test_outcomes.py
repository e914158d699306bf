"""Exact outcomes of whole runs, and the main promise: a broken release is never committed.

Safety alone would be kept by a machine that never commits. These are the other half.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import pytest
from attrs import evolve, field, frozen
from fake_platform import (
    ANSWERS,
    DEPLOYS,
    Disk,
    FakeClock,
    FakePlatform,
    MemoryJournal,
    PowerCut,
    make_run,
)
from hypothesis import given
from hypothesis import strategies as st
from promises import GOOD, NEW, OLD

from runner.reconcile.attempt import Attempt
from runner.reconcile.decisions import CRASH_LIMIT
from runner.reconcile.machine import TABLE, ReconcileMachine, Row, State
from runner.reconcile.model import Deployment, LatestUnknown, Release

T = TypeVar("T")
OFFLINE = LatestUnknown("offline")


class Scripted:
    """A chooser that plays scripted outcomes in order; afterwards everything succeeds."""

    def __init__(self, **script: Sequence[str]) -> None:
        self._script = {what: list(answers) for what, answers in script.items()}

    def __call__(self, what: str, options: Sequence[T]) -> T:
        waiting = self._script.get(what.replace(" ", "_"))
        if waiting:
            wanted = waiting.pop(0)
            return next(option for option in options if option == wanted)
        return options[0]

    @property
    def is_spent(self) -> bool:
        return not any(self._script.values())


@frozen
class Story:
    """One run from a known start: its faults, and exactly how it must end."""

    name: str
    proven: tuple[Release, ...]
    live: Release | None
    latest: Release | LatestUnknown
    ends: State
    path: str
    """The states on the way, abbreviated."""
    serving: Release | None
    last_good: Release | None
    script: dict[str, tuple[str, ...]] = field(factory=dict[str, tuple[str, ...]])
    blamed: tuple[Release, ...] = ()
    quarantine: frozenset[str] = frozenset()
    forced: bool = False
    interrupted: Attempt | None = None
    """The attempt that a dead run left in the journal."""


EARLIER = "earlier"
ON_TRIAL = Attempt("a", candidate=NEW, target=NEW, deployment=Deployment(NEW, EARLIER), deploys=1)
FAIL, PASS, DUNNO = "fail", "pass", "inconclusive"
DONE, REFUSED, LOST = "done", "refused, untouched", "failed, nothing left"
DOWN = "unreachable, untouched"
BOTH = (GOOD, OLD)

STORIES = (
    Story("first deploy", (), None, NEW, State.COMMITTED, "D G C", NEW, NEW),
    Story("upgrade", BOTH, GOOD, NEW, State.COMMITTED, "D G C", NEW, NEW),
    Story("downgrade to an older proven one", BOTH, GOOD, OLD, State.COMMITTED, "D G C", OLD, OLD),
    Story("nothing to do", BOTH, GOOD, GOOD, State.UNCHANGED, "V", GOOD, GOOD),
    Story("offline", BOTH, GOOD, OFFLINE, State.UNCHANGED, "V", GOOD, GOOD),
    Story("cold boot", BOTH, None, GOOD, State.RESTORED, "R F", GOOD, GOOD),
    Story("cold boot offline", BOTH, None, OFFLINE, State.RESTORED, "R F", GOOD, GOOD),
    Story("something else is live", BOTH, OLD, GOOD, State.RESTORED, "R F", GOOD, GOOD),
    Story(
        *("live but broken", BOTH, GOOD, GOOD, State.RESTORED, "V R F", GOOD, GOOD),
        script={"answer": (FAIL, PASS)},
    ),
    Story(
        *("live but not askable", BOTH, GOOD, GOOD, State.UNDECIDED, "V", GOOD, GOOD),
        script={"answer": (DUNNO,)},
    ),
    Story(
        *("broken upgrade", BOTH, GOOD, NEW, State.ROLLED_BACK, "D G H B E", GOOD, GOOD),
        script={"answer": (FAIL, PASS)},
        blamed=(NEW,),
    ),
    Story(
        *("upgrade refused", BOTH, GOOD, NEW, State.ROLLED_BACK, "D H E", GOOD, GOOD),
        script={"deploy": (REFUSED,)},
        blamed=(NEW,),
    ),
    Story(
        *("upgrade refused, last-good ill", BOTH, GOOD, NEW, State.ROLLED_BACK, "D H E H B E"),
        *(GOOD, GOOD),
        script={"deploy": (REFUSED,), "answer": (FAIL, PASS)},
        blamed=(NEW,),
    ),
    Story(
        *("upgrade unprepared", BOTH, GOOD, NEW, State.ROLLED_BACK, "D H E", GOOD, GOOD),
        script={"deploy": ("unprepared, untouched",)},
    ),
    Story(
        *("first deploy unprepared", (), None, NEW, State.UNDECIDED, "D H", None, None),
        script={"deploy": ("unprepared, untouched",)},
    ),
    Story(
        *("upgrade lost", BOTH, GOOD, NEW, State.ROLLED_BACK, "D H B E", GOOD, GOOD),
        script={"deploy": (LOST,)},
        blamed=(NEW,),
    ),
    Story(
        *("engine gone before the rollback", BOTH, GOOD, NEW, State.UNDECIDED, "D G H", NEW, GOOD),
        script={"answer": (FAIL,), "engine": ("up", "down")},
    ),
    Story(
        *("rollback taken up after it was deployed", BOTH, GOOD, NEW, State.ROLLED_BACK, "H E"),
        *(GOOD, GOOD),
        blamed=(NEW,),
        interrupted=evolve(ON_TRIAL, against="it failed", guilty=True),
    ),
    Story(
        *("upgrade not askable", BOTH, GOOD, NEW, State.ROLLED_BACK, "D G H B E", GOOD, GOOD),
        script={"answer": (DUNNO, PASS)},
    ),
    Story(
        *("both fail", BOTH, GOOD, NEW, State.ROLLED_BACK, "D G H B E H B E", OLD, GOOD),
        script={"answer": (FAIL, FAIL, PASS)},
    ),
    Story(
        *("last-good can't be deployed", BOTH, GOOD, NEW, State.ROLLED_BACK, "D G H B H B E"),
        *(OLD, GOOD),
        script={"answer": (FAIL,), "deploy": (DONE, LOST)},
    ),
    Story(
        *("all fail", BOTH, GOOD, NEW, State.STRANDED, "D G H B E H B E H", OLD, GOOD),
        script={"answer": (FAIL, FAIL, FAIL)},
    ),
    Story(
        *("broken first deploy", (), None, NEW, State.STRANDED, "D G H", NEW, None),
        script={"answer": (FAIL,)},
    ),
    Story(
        *("first deploy not askable", (), None, NEW, State.UNDECIDED, "D G H", NEW, None),
        script={"answer": (DUNNO,)},
    ),
    Story(
        *("rollback not askable", BOTH, GOOD, NEW, State.UNDECIDED, "D G H B E", GOOD, GOOD),
        script={"answer": (FAIL, DUNNO)},
    ),
    Story(
        *("broken restore", BOTH, None, GOOD, State.ROLLED_BACK, "R F H B E", OLD, GOOD),
        script={"answer": (FAIL, PASS)},
    ),
    Story(
        *("restore refused", BOTH, None, GOOD, State.ROLLED_BACK, "R H B E", OLD, GOOD),
        script={"deploy": (REFUSED,)},
    ),
    Story(
        *("restore not askable", BOTH, None, GOOD, State.UNDECIDED, "R F", GOOD, GOOD),
        script={"answer": (DUNNO,)},
    ),
    Story(
        *("restore out of reach", BOTH, None, GOOD, State.UNDECIDED, "R", None, GOOD),
        script={"deploy": (DOWN,)},
    ),
    Story(
        *("upgrade out of reach", BOTH, GOOD, NEW, State.UNDECIDED, "D", GOOD, GOOD),
        script={"deploy": (DOWN,)},
    ),
    Story(
        *("rollback out of reach", BOTH, GOOD, NEW, State.UNDECIDED, "D G H B", NEW, GOOD),
        script={"answer": (FAIL,), "deploy": (DONE, DOWN)},
    ),
    Story(
        *("engine down", BOTH, GOOD, NEW, State.UNDECIDED, "", GOOD, GOOD),
        script={"engine": ("down",)},
    ),
    Story("nothing at all", (), None, OFFLINE, State.STRANDED, "", None, None),
    Story(
        *("quarantined", BOTH, GOOD, NEW, State.UNCHANGED, "V", GOOD, GOOD),
        quarantine=frozenset({NEW.digest}),
    ),
    Story(
        *("quarantined and nothing else", (), None, NEW, State.STRANDED, "", None, None),
        quarantine=frozenset({NEW.digest}),
    ),
    Story(
        *("quarantined but forced", BOTH, GOOD, NEW, State.COMMITTED, "D G C", NEW, NEW),
        quarantine=frozenset({NEW.digest}),
        forced=True,
    ),
    Story(
        *("trial taken up", BOTH, NEW, NEW, State.COMMITTED, "G C", NEW, NEW),
        interrupted=ON_TRIAL,
    ),
    Story(
        *("trial taken up in vain", BOTH, NEW, NEW, State.ROLLED_BACK, "G H B E", GOOD, GOOD),
        script={"answer": (FAIL, PASS)},
        blamed=(NEW,),
        interrupted=ON_TRIAL,
    ),
    Story(
        *("trial begun again", BOTH, None, NEW, State.COMMITTED, "D G C", NEW, NEW),
        interrupted=ON_TRIAL,
    ),
    Story(
        *("trial overtaken", BOTH, NEW, GOOD, State.RESTORED, "R F", GOOD, GOOD),
        interrupted=ON_TRIAL,
    ),
    Story(
        *("rollback taken up", BOTH, NEW, NEW, State.ROLLED_BACK, "H B E", GOOD, GOOD),
        blamed=(NEW,),
        interrupted=evolve(ON_TRIAL, against="it failed", guilty=True),
    ),
    Story(
        *("rollback resumed, no blame", BOTH, NEW, NEW, State.ROLLED_BACK, "H B E"),
        *(GOOD, GOOD),
        interrupted=evolve(ON_TRIAL, against="not askable"),
    ),
    Story(
        *("rollback overruled", BOTH, NEW, NEW, State.COMMITTED, "D G C", NEW, NEW),
        interrupted=evolve(ON_TRIAL, against="it failed", guilty=True),
        forced=True,
    ),
    Story(
        *("killed too often", BOTH, NEW, NEW, State.ROLLED_BACK, "H B E", GOOD, GOOD),
        blamed=(NEW,),
        interrupted=evolve(ON_TRIAL, crashes=CRASH_LIMIT - 1),
    ),
)
_SHORT = {
    State.IDLE: "I",
    State.DEPLOYING: "D",
    State.GATING: "G",
    State.COMMITTING: "C",
    State.VERIFYING: "V",
    State.RESTORING: "R",
    State.CONFIRMING: "F",
    State.CHOOSING: "H",
    State.ROLLING_BACK: "B",
    State.REGATING: "E",
}


def path_of(states: Iterable[State]) -> str:
    """Abbreviate the states of a run, without its final one."""
    return " ".join(_SHORT[state] for state in states if not state.is_final)


def deviation_of(story: Story, table: tuple[Row, ...] = TABLE) -> str:
    """Run the story; return how it deviates from the expected outcome, or ""."""
    choose = Scripted(**story.script)
    disk = Disk(
        proven=story.proven,
        quarantine=story.quarantine,
        open_state=State.GATING if story.interrupted else State.IDLE,
        memory=story.interrupted,
    )
    journal = MemoryJournal(choose, disk)
    platform = FakePlatform(choose, FakeClock(), (story.latest,))
    platform.live_now = Deployment(story.live, EARLIER) if story.live else None
    run = make_run(journal, platform, forced=story.forced)
    machine, attempt = ReconcileMachine(table), journal.begin()
    path: list[State] = []
    for _ in range(len(State) * 2):
        if machine.state.is_final:
            break
        attempt = run.step(machine, attempt)
        path.append(machine.state)
    serving = platform.live_now.release if platform.live_now else None
    found = (
        machine.state,
        path_of(path),
        serving,
        journal.disk.proven[0] if journal.disk.proven else None,
        journal.disk.quarantine - (story.quarantine if not story.forced else frozenset()),
        choose.is_spent,
    )
    wanted = (
        story.ends,
        story.path,
        story.serving,
        story.last_good,
        frozenset(release.digest for release in story.blamed),
        True,
    )
    return "" if found == wanted else f"{story.name}: {found} instead of {wanted}"


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_story(story: Story) -> None:
    """Each story takes exactly its path and ends exactly as expected."""
    assert deviation_of(story) == ""


# The mission, as one property -------------------------------------------------------------------


class Drawn:
    """A chooser that lets Hypothesis decide; ``broken`` can't ever pass a gate."""

    def __init__(self, data: st.DataObject, broken: Release) -> None:
        self._data = data
        self._broken = broken
        self.platform: FakePlatform | None = None

    def __call__(self, what: str, options: Sequence[T]) -> T:
        live = self.platform.live_now if self.platform else None
        if what == "answer" and live is not None and live.release == self._broken:
            options = [option for option in options if option != PASS]
        return self._data.draw(st.sampled_from(list(options)), label=what)


def disturbed(
    choose: Drawn, proven: tuple[Release, ...], runs: int
) -> Iterator[tuple[Disk, Deployment | None]]:
    """Do runs in which anything may happen; yield the disk and the live deployment after each."""
    disk, live = Disk(proven=proven), None
    for _ in range(runs):
        journal = MemoryJournal(choose, disk)
        platform = FakePlatform(choose, FakeClock(), (NEW, GOOD, OFFLINE), live_now=live)
        choose.platform = platform
        with contextlib.suppress(PowerCut):
            make_run(journal, platform).to_the_end()
        disk, live = journal.disk, platform.live_now
        yield disk, live


@given(st.data(), st.sampled_from([(), (OLD,), BOTH]), st.integers(1, 4))
def test_a_failing_traefik_can_never_be_committed(
    data: st.DataObject, proven: tuple[Release, ...], runs: int
) -> None:
    """A release that never passes its gate is never last-good, and a proven release stays proven,
    with any faults, power cuts and restarts.
    """
    for disk, _ in disturbed(Drawn(data, broken=NEW), proven, runs):
        assert NEW not in disk.proven
        assert set(proven) <= set(disk.proven)


# L1 and L2 --------------------------------------------------------------------------------------


@given(st.data(), st.sampled_from([(), (OLD,), BOTH]))
def test_every_run_ends(data: st.DataObject, proven: tuple[Release, ...]) -> None:
    """Without a power cut every run reaches a final state, in a bounded number of effects (L1)."""
    choose = Drawn(data, broken=NEW)

    def powered(what: str, options: Sequence[T]) -> T:
        return choose(what, [o for o in options if not str(o).startswith("cut")])

    platform = FakePlatform(powered, FakeClock(), (NEW, GOOD, OFFLINE))
    began = platform.clock.time
    journal = MemoryJournal(powered, Disk(proven=proven))
    run, machine, attempt = make_run(journal, platform), ReconcileMachine(), journal.begin()
    for _ in range(6 + 3 * 2):  # as in test_exhaustive.py, with a depth of 2
        if not machine.state.is_final:
            attempt = run.step(machine, attempt)
    assert machine.state.is_final
    assert len(platform.deployed) <= 3
    assert platform.clock.time - began <= 10.0 * 4  # one look and three gates of ten seconds


@given(st.data(), st.integers(0, 3))
def test_a_healthy_proven_release_ends_up_live(data: st.DataObject, runs: int) -> None:
    """L2: after any mishaps, every undisturbed run ends with a proven release live, and the third
    one at the latest finds nothing to do.

    The first may have to finish a rollback without blame; the second then tries the release once
    more, and blames it.
    """
    disk, live = Disk(proven=BOTH), None
    for disk, live in disturbed(Drawn(data, broken=NEW), BOTH, runs):  # noqa: B007 - the last
        pass

    def calm(what: str, options: Sequence[T]) -> T:
        is_broken = platform.live_now is not None and platform.live_now.release == NEW
        return options[0] if what != "answer" or not is_broken else options[1]

    for undisturbed in range(3):
        journal = MemoryJournal(calm, disk)
        platform = FakePlatform(calm, FakeClock(), (NEW,), live_now=live)
        final, _ = make_run(journal, platform).to_the_end()
        disk, live = journal.disk, platform.live_now
        assert live is not None
        assert live.release in disk.proven
        assert final in {State.ROLLED_BACK, State.UNCHANGED, State.RESTORED}
        if undisturbed == 2:
            assert final is State.UNCHANGED


def test_a_release_that_kills_its_runs_is_given_up() -> None:
    """After as many dead runs as the limit allows, the candidate is rolled back and blamed."""
    disk = Disk(proven=BOTH)
    live: Deployment | None = Deployment(GOOD, "earlier")
    final: State | None = None
    for _ in range(CRASH_LIMIT + 1):
        choose = Scripted(deploy=["cut, but it runs"] if NEW.digest not in disk.quarantine else [])
        journal = MemoryJournal(choose, disk)
        platform = FakePlatform(choose, FakeClock(), (NEW,), live_now=live)
        attempt = journal.begin()
        if attempt.crashes >= CRASH_LIMIT:
            choose = Scripted()
            journal.choose = platform.choose = choose
        try:
            final, _ = make_run(journal, platform).to_the_end()
        except PowerCut:
            # The machine came back without it: only the journal is left to resume from.
            live = None
        else:
            live = platform.live_now or live
        disk = journal.disk
    assert final is State.ROLLED_BACK
    assert disk.quarantine == {NEW.digest}
    assert live is not None
    assert live.release == GOOD


def test_an_interrupted_trial_is_resumed_without_a_second_deployment() -> None:
    """A run that dies in its gate leaves the candidate running: the next one only gates it."""
    choose = Scripted(answer=["cut"])
    journal = MemoryJournal(choose, Disk(proven=BOTH))
    platform = FakePlatform(choose, FakeClock(), (NEW,), live_now=Deployment(GOOD, "earlier"))
    with pytest.raises(PowerCut):
        make_run(journal, platform).to_the_end()
    again = FakePlatform(choose, FakeClock(), (NEW,), live_now=platform.live_now)
    final, _ = make_run(MemoryJournal(choose, journal.disk), again).to_the_end()
    assert final is State.COMMITTED
    assert again.deployed == []


def test_an_interrupted_rollback_is_finished_first() -> None:
    """A run that dies in its rollback: the next one rolls back, and does not try again."""
    choose = Scripted(answer=["fail", "cut"])
    journal = MemoryJournal(choose, Disk(proven=BOTH))
    platform = FakePlatform(choose, FakeClock(), (NEW,), live_now=Deployment(GOOD, "earlier"))
    with pytest.raises(PowerCut):
        make_run(journal, platform).to_the_end()
    again = FakePlatform(choose, FakeClock(), (NEW,), live_now=platform.live_now)
    journal = MemoryJournal(choose, journal.disk)
    final, attempt = make_run(journal, again).to_the_end()
    assert final is State.ROLLED_BACK
    assert again.deployed == [], "last-good was live already: it is gated, not touched"
    assert journal.disk.quarantine == {NEW.digest}
    assert isinstance(attempt, Attempt)


def test_every_scripted_outcome_is_in_the_lists_of_the_searches() -> None:
    """The lists that the searches draw from contain the outcomes of the stories."""
    used = {a for story in STORIES for a in story.script.get("answer", ())}
    assert used < set(ANSWERS)
    assert {d for story in STORIES for d in story.script.get("deploy", ())} < set(DEPLOYS)
