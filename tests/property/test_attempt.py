"""The fold, entry by entry: exactly the fields and the words that an attempt keeps."""

import pytest
from attrs import evolve
from promises import GOOD, NEW, NEWEST, OLD

from runner.reconcile import events
from runner.reconcile.attempt import Attempt, Entry, Interrupted, blamed, remember
from runner.reconcile.model import Deployment, Healthy, Inconclusive, Release, Unhealthy


def of(release: Release, token: str = "a-1") -> Deployment:  # noqa: S107
    return Deployment(release, token)


HEALTHY = Healthy(of(NEW), (), 3, 10.0)
EMPTY = Attempt("a")
TRIAL = Attempt("a", candidate=NEW, target=NEW, deployment=of(NEW), deploys=1)
REFUTED = evolve(TRIAL, against="404", guilty=True, note="404")
UNCLEAR = evolve(TRIAL, against="no socket", note="no socket")
FALLEN = evolve(REFUTED, target=GOOD, fallbacks=(GOOD,))
RESTORING = Attempt("a", target=GOOD, note="offline")

UNHEALTHY = Unhealthy(of(NEW), "502", (), 1)
DUNNO = Inconclusive(of(NEW), "timeout", (), 1)


FOLDS: tuple[tuple[Attempt, Entry, Attempt], ...] = (
    # What a run is for
    (EMPTY, events.CandidateFound(NEW), evolve(EMPTY, candidate=NEW, target=NEW)),
    (
        evolve(REFUTED, crashes=2),
        events.CandidateFound(NEW),
        evolve(TRIAL, crashes=2, note="404"),
    ),
    (
        evolve(REFUTED, crashes=2),
        events.CandidateFound(NEWEST),
        evolve(TRIAL, candidate=NEWEST, target=NEWEST, note="404"),
    ),
    (
        evolve(TRIAL, deployment=None, crashes=1),
        events.CandidateLive(of(NEW, "a-2")),
        evolve(TRIAL, deployment=of(NEW, "a-2"), crashes=1),
    ),
    (
        REFUTED,
        events.LastGoodLive(of(GOOD, "b-1"), "offline"),
        evolve(TRIAL, target=GOOD, deployment=of(GOOD, "b-1"), note="offline"),
    ),
    (REFUTED, events.LastGoodAbsent(GOOD, "gone"), evolve(TRIAL, target=GOOD, note="gone")),
    (
        evolve(TRIAL, crashes=3, note="old"),
        events.RollbackDue(NEW, "3 runs died"),
        evolve(TRIAL, crashes=3, against="3 runs died", guilty=True, note="3 runs died"),
    ),
    (
        evolve(UNCLEAR, target=GOOD),
        events.RollbackDue(NEW, "no socket at all"),
        evolve(TRIAL, against="no socket at all", note="no socket at all"),
    ),
    (EMPTY, events.NothingDeployable("offline"), evolve(EMPTY, note="offline")),
    (REFUTED, events.NothingDeployable("offline"), REFUTED),
    # A deployment
    (
        evolve(TRIAL, verdict=HEALTHY),
        events.Deploy(of(GOOD, "a-2")),
        evolve(TRIAL, deployment=of(GOOD, "a-2"), deploys=2),
    ),
    (
        TRIAL,
        events.DeployFailed(of(NEW), "full", guilty=False),
        evolve(TRIAL, against="full", note="full"),
    ),
    (
        TRIAL,
        events.DeployFailed(of(NEW), "bad", guilty=True),
        evolve(TRIAL, against="bad", guilty=True, note="bad"),
    ),
    (FALLEN, events.DeployFailed(of(GOOD), "bad", guilty=True), FALLEN),
    (
        evolve(FALLEN, note=""),
        events.DeployFailed(of(GOOD), "bad", guilty=True),
        evolve(FALLEN, note="2-good: bad"),
    ),
    # The first fault of last-good stands before what its restoration was for
    (
        RESTORING,
        events.DeployFailed(of(GOOD), "bad", guilty=True),
        evolve(RESTORING, note="2-good: bad (offline)"),
    ),
    (
        evolve(RESTORING, note=""),
        events.DeployFailed(of(GOOD), "bad", guilty=True),
        evolve(RESTORING, note="2-good: bad"),
    ),
    (
        evolve(RESTORING, fallbacks=(OLD,), note="2-good: bad"),
        events.DeployFailed(of(OLD), "worse", guilty=True),
        evolve(RESTORING, fallbacks=(OLD,), note="2-good: bad"),
    ),
    # A verdict
    (TRIAL, events.Judged(HEALTHY), evolve(TRIAL, verdict=HEALTHY)),
    (
        TRIAL,
        events.Judged(UNHEALTHY),
        evolve(TRIAL, verdict=UNHEALTHY, against="502", guilty=True, note="502"),
    ),
    (TRIAL, events.Judged(DUNNO), evolve(TRIAL, verdict=DUNNO, against="timeout", note="timeout")),
    (REFUTED, events.Judged(DUNNO), evolve(REFUTED, verdict=DUNNO)),
    (TRIAL, events.CommitFailed(NEW, "full"), evolve(TRIAL, against="full", note="full")),
    # A rollback
    (REFUTED, events.FallbackChosen(GOOD), FALLEN),
    (FALLEN, events.FallbackChosen(OLD), evolve(FALLEN, target=OLD, fallbacks=(GOOD, OLD))),
    (
        evolve(REFUTED, verdict=UNHEALTHY),
        events.FallbackLive(of(GOOD, "b-1")),
        evolve(REFUTED, deployment=of(GOOD, "b-1"), has_looked=True),
    ),
    (REFUTED, events.NoFallback("none is left"), REFUTED),
    (EMPTY, events.NoFallback("none is left"), evolve(EMPTY, note="none is left")),
    (UNCLEAR, events.NothingDecided("no probe could run"), evolve(TRIAL, note="no socket")),
    (
        evolve(UNCLEAR, note=""),
        events.NothingDecided("no socket"),
        evolve(TRIAL, note="no socket"),
    ),
    # Docker is lost
    (UNCLEAR, events.Unreachable("no Docker"), evolve(TRIAL, note="no socket")),
    (TRIAL, events.Unreachable("no Docker"), evolve(TRIAL, note="no Docker")),
    (REFUTED, events.Unreachable("no Docker"), REFUTED),
    (evolve(REFUTED, note=""), events.Unreachable("no Docker"), evolve(REFUTED, note="no Docker")),
    (
        evolve(UNCLEAR, fallbacks=(GOOD,)),
        events.Unreachable("no Docker"),
        evolve(UNCLEAR, fallbacks=(GOOD,)),
    ),
    # A run dies
    (
        evolve(TRIAL, verdict=HEALTHY, fallbacks=(GOOD,), has_looked=True),
        Interrupted(crashed=True),
        evolve(TRIAL, crashes=1),
    ),
    (TRIAL, Interrupted(crashed=False), TRIAL),
    (REFUTED, Interrupted(crashed=True), REFUTED),
    (evolve(TRIAL, target=GOOD), Interrupted(crashed=True), evolve(TRIAL, target=GOOD)),
    (RESTORING, Interrupted(crashed=True), RESTORING),
    (evolve(EMPTY, target=None), Interrupted(crashed=True), EMPTY),
    # What changes nothing
    *(
        (evolve(FALLEN, verdict=HEALTHY), entry, evolve(FALLEN, verdict=HEALTHY))
        for entry in (
            events.Assess(),
            events.Verify(of(GOOD)),
            events.RunGate(of(GOOD)),
            events.Commit(HEALTHY),
            events.ChooseFallback(),
            events.Deployed(of(GOOD)),
            events.Committed(NEW),
        )
    ),
)


@pytest.mark.parametrize(("before", "entry", "after"), FOLDS)
def test_fold(before: Attempt, entry: Entry, after: Attempt) -> None:
    """Each field is as it must be after the entry, the words for the operator among them."""
    assert remember(before, entry) == after


@pytest.mark.parametrize(
    ("attempt", "release"),
    [
        (REFUTED, NEW),
        (FALLEN, NEW),
        (evolve(FALLEN, fallbacks=(GOOD, OLD)), None),
        (UNCLEAR, None),
        (TRIAL, None),
        (EMPTY, None),
    ],
)
def test_blamed(attempt: Attempt, release: Release | None) -> None:
    """The candidate, on evidence, and only where last-good was the one that held."""
    assert blamed(attempt) == release
