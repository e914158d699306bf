"""The table: an illegal step raises and nothing changes, for every state and every trigger."""

import logging
from itertools import product

import pytest
from attrs import evolve
from fake_platform import release

from runner.reconcile import events
from runner.reconcile.attempt import Attempt
from runner.reconcile.decisions import next_effect
from runner.reconcile.errors import IllegalStepError, InvariantError
from runner.reconcile.machine import FINAL, TABLE, ReconcileMachine, State, Trigger, trigger_of
from runner.reconcile.model import Deployment, Healthy, Inconclusive, Unhealthy

NEW = release("new")
OTHER = release("other")
DEPLOYMENT = Deployment(NEW, "token")
HEALTHY = Healthy(DEPLOYMENT, (), 3, 10.0)

EVENTS: tuple[events.Event, ...] = (
    events.CandidateFound(NEW),
    events.CandidateLive(DEPLOYMENT),
    events.LastGoodLive(DEPLOYMENT, ""),
    events.LastGoodAbsent(NEW, ""),
    events.RollbackDue(NEW, "why"),
    events.NothingDeployable("why"),
    events.Unreachable("why"),
    events.Deployed(DEPLOYMENT),
    events.DeployFailed(DEPLOYMENT, "why", guilty=True),
    events.Judged(HEALTHY),
    events.Judged(Unhealthy(DEPLOYMENT, "why", (), 1)),
    events.Judged(Inconclusive(DEPLOYMENT, "why", (), 1)),
    events.Committed(NEW),
    events.FallbackChosen(NEW),
    events.FallbackLive(DEPLOYMENT),
    events.NoFallback("why"),
    events.NothingDecided("why"),
)
ROWS = {(row.source, row.on): row.dest for row in TABLE}


def machine_in(state: State) -> ReconcileMachine:
    machine = ReconcileMachine()
    machine._model.state = state
    return machine


@pytest.mark.parametrize(("state", "event"), list(product(State, EVENTS)))
def test_every_step_is_a_row_or_nothing(state: State, event: events.Event) -> None:
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
    """``transitions`` takes the first of two rows without a warning: there are no two."""
    assert len(ROWS) == len(TABLE)


def test_final_states_are_final() -> None:
    """No row leaves a final state, and every other state has a way out."""
    assert {row.source for row in TABLE} == set(State) - FINAL


@pytest.mark.parametrize("dest", State)
def test_no_shortcut_exists(dest: State) -> None:
    """No state has a trigger of its own: ``to_COMMITTED`` would skip every gate."""
    machine = ReconcileMachine()
    with pytest.raises(AttributeError):
        machine._model.trigger(f"to_{dest.name}")
    assert machine.state is State.IDLE


def test_a_machine_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A warning of ``transitions`` would stand on the standard error of every run."""
    machine = ReconcileMachine()
    machine.step(events.CandidateFound(NEW))
    with pytest.raises(IllegalStepError):
        machine.step(events.CandidateFound(NEW))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("state", State)
def test_the_value_of_a_state_is_its_name(state: State) -> None:
    """Scripts read the outcome of a run in JSON, and people all states in the history."""
    assert state.value == state.name.lower().replace("_", " ")


def test_state_is_read_only() -> None:
    """Only ``step`` changes the state."""
    machine = ReconcileMachine()
    with pytest.raises(AttributeError):
        machine.state = State.COMMITTED  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue] - the point


@pytest.mark.parametrize("final", [state for state in State if state.is_final])
def test_nothing_follows_a_final_state(final: State) -> None:
    """Requesting an effect after the end is a defect, and the error names it."""
    with pytest.raises(InvariantError, match=rf"^the run is over in {final.name}: Attempt\("):
        next_effect(final, Attempt("a"))


@pytest.mark.parametrize(
    ("state", "lacks"),
    [
        (State.DEPLOYING, "nothing to deploy"),
        (State.RESTORING, "nothing to deploy"),
        (State.ROLLING_BACK, "nothing to deploy"),
        (State.VERIFYING, "nothing is deployed"),
        (State.GATING, "nothing is deployed"),
        (State.CONFIRMING, "nothing is deployed"),
        (State.REGATING, "nothing is deployed"),
        (State.COMMITTING, "no healthy verdict"),
    ],
)
def test_an_effect_without_its_object_is_refused(state: State, lacks: str) -> None:
    """The error names the missing part, then the state, then the attempt."""
    with pytest.raises(InvariantError, match=rf"^{lacks} in {state.name}: Attempt\("):
        next_effect(state, Attempt("a"))


TRIAL = Attempt("a", candidate=NEW, target=NEW, deployment=DEPLOYMENT, deploys=1, verdict=HEALTHY)


def test_a_commit_carries_its_verdict() -> None:
    """With a healthy verdict for the last deployment of the candidate, it may be committed."""
    assert next_effect(State.COMMITTING, TRIAL) == events.Commit(HEALTHY)


@pytest.mark.parametrize(
    ("attempt", "why"),
    [
        (evolve(TRIAL, verdict=None), "no healthy verdict"),
        (evolve(TRIAL, verdict=Unhealthy(DEPLOYMENT, "why", (), 1)), "no healthy verdict"),
        (evolve(TRIAL, verdict=Inconclusive(DEPLOYMENT, "why", (), 1)), "no healthy verdict"),
        (evolve(TRIAL, deployment=Deployment(NEW, "a newer token")), "about another deployment"),
        (evolve(TRIAL, deployment=None), "about another deployment"),
        (evolve(TRIAL, candidate=OTHER), "about another release"),
    ],
)
def test_a_commit_without_its_proof_is_refused(attempt: Attempt, why: str) -> None:
    """No verdict, a bad one, or one about another deployment can't become a commit."""
    with pytest.raises(InvariantError, match=rf"{why} in COMMITTING: Attempt\("):
        next_effect(State.COMMITTING, attempt)
