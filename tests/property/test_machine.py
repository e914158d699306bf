"""The table: an illegal step raises and nothing changes, for every state and every trigger."""

from itertools import product

import pytest
from attrs import evolve
from fake_platform import release

from runner.reconcile.attempt import Attempt
from runner.reconcile.decisions import next_effect
from runner.reconcile.errors import IllegalStepError, InvariantError
from runner.reconcile.events import (
    CandidateFound,
    CandidateLive,
    Commit,
    Committed,
    Deployed,
    DeployFailed,
    Event,
    FallbackChosen,
    FallbackLive,
    Judged,
    LastGoodAbsent,
    LastGoodLive,
    NoFallback,
    NothingDecided,
    NothingDeployable,
    RollbackDue,
    Unreachable,
)
from runner.reconcile.machine import FINAL, TABLE, ReconcileMachine, State, Trigger, trigger_of
from runner.reconcile.model import Deployment, Healthy, Inconclusive, Unhealthy

NEW = release("new")
OTHER = release("other")
DEPLOYMENT = Deployment(NEW, "token")
HEALTHY = Healthy(DEPLOYMENT, (), 3, 10.0)

EVENTS: tuple[Event, ...] = (
    CandidateFound(NEW),
    CandidateLive(DEPLOYMENT),
    LastGoodLive(DEPLOYMENT, ""),
    LastGoodAbsent(NEW, ""),
    RollbackDue(NEW, "why"),
    NothingDeployable("why"),
    Unreachable("why"),
    Deployed(DEPLOYMENT),
    DeployFailed(DEPLOYMENT, "why", guilty=True),
    Judged(HEALTHY),
    Judged(Unhealthy(DEPLOYMENT, "why", (), 1)),
    Judged(Inconclusive(DEPLOYMENT, "why", (), 1)),
    Committed(NEW),
    FallbackChosen(NEW),
    FallbackLive(DEPLOYMENT),
    NoFallback("why"),
    NothingDecided("why"),
)
ROWS = {(row.source, row.on): row.dest for row in TABLE}


def machine_in(state: State) -> ReconcileMachine:
    machine = ReconcileMachine()
    machine._model.state = state
    return machine


@pytest.mark.parametrize(("state", "event"), list(product(State, EVENTS)))
def test_every_step_is_a_row_or_nothing(state: State, event: Event) -> None:
    """A step goes where its row says; without a row it raises and the state stays."""
    machine = machine_in(state)
    dest = ROWS.get((state, trigger_of(event)))
    if dest is None:
        with pytest.raises(IllegalStepError, match=state.name):
            machine.step(event)
        assert machine.state is state
    else:
        assert machine.step(event) is dest


def test_the_events_cover_every_trigger() -> None:
    """The list above leaves no trigger out."""
    assert {trigger_of(event) for event in EVENTS} == set(Trigger)


def test_no_row_hides_another() -> None:
    """``transitions`` takes the first of two rows in silence: there are no two."""
    assert len(ROWS) == len(TABLE)


def test_final_states_are_final() -> None:
    """No row leaves a final state, and every other state has a way out."""
    assert {row.source for row in TABLE} == set(State) - FINAL


def test_no_shortcut_exists() -> None:
    """``auto_transitions`` would give the model a ``to_COMMITTED()`` that skips every gate."""
    assert not [name for name in dir(ReconcileMachine()._model) if name.startswith("to_")]


def test_state_is_read_only() -> None:
    """Nobody moves the machine but ``step``."""
    machine = ReconcileMachine()
    with pytest.raises(AttributeError):
        machine.state = State.COMMITTED  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue] - the point


@pytest.mark.parametrize("final", [state for state in State if state.is_final])
def test_nothing_follows_a_final_state(final: State) -> None:
    """Asking for an effect after the end is a defect, and says so."""
    with pytest.raises(InvariantError, match="over"):
        next_effect(final, Attempt("a"))


TRIAL = Attempt("a", candidate=NEW, target=NEW, deployment=DEPLOYMENT, deploys=1, verdict=HEALTHY)


def test_a_commit_carries_its_verdict() -> None:
    """With a healthy verdict for the last deployment of the candidate, it may be committed."""
    assert next_effect(State.COMMITTING, TRIAL) == Commit(HEALTHY)


@pytest.mark.parametrize(
    "attempt",
    [
        evolve(TRIAL, verdict=None),
        evolve(TRIAL, verdict=Unhealthy(DEPLOYMENT, "why", (), 1)),
        evolve(TRIAL, verdict=Inconclusive(DEPLOYMENT, "why", (), 1)),
        evolve(TRIAL, deployment=Deployment(NEW, "a newer token")),
        evolve(TRIAL, candidate=OTHER),
        evolve(TRIAL, deployment=None),
    ],
)
def test_a_commit_without_its_proof_is_refused(attempt: Attempt) -> None:
    """S1: no verdict, a bad one, or one about something else can't become a commit."""
    with pytest.raises(InvariantError):
        next_effect(State.COMMITTING, attempt)
