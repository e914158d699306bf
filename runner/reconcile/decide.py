"""From where a run stands to the one effect that comes next. Total, pure, in one match."""

from typing import NoReturn

from runner.reconcile.attempt import Attempt
from runner.reconcile.errors import InvariantError
from runner.reconcile.events import (
    Assess,
    ChooseFallback,
    Commit,
    Deploy,
    Effect,
    RunGate,
    Verify,
)
from runner.reconcile.machine import State
from runner.reconcile.model import Deployment, Healthy


def next_effect(state: State, attempt: Attempt) -> Effect:  # noqa: PLR0911 - one arm a state
    """Say what to do in ``state``.

    Raises:
        InvariantError: the memory does not bear the state; S1 would be at risk.
    """
    match state:
        case State.IDLE:
            return Assess()
        case State.VERIFYING:
            return Verify(_deployment(state, attempt))
        case State.DEPLOYING | State.RESTORING | State.ROLLING_BACK:
            if attempt.target is None:
                _refuse(state, attempt, "nothing to deploy")
            return Deploy(Deployment(attempt.target, attempt.next_token))
        case State.GATING | State.CONFIRMING | State.REGATING:
            return RunGate(_deployment(state, attempt))
        case State.COMMITTING:
            return Commit(_proof(state, attempt))
        case State.CHOOSING:
            return ChooseFallback()
        case (
            State.UNCHANGED
            | State.COMMITTED
            | State.RESTORED
            | State.ROLLED_BACK
            | State.STRANDED
            | State.UNDECIDED
        ):
            return _refuse(state, attempt, "the run is over")


def _deployment(state: State, attempt: Attempt) -> Deployment:
    if attempt.deployment is None:
        _refuse(state, attempt, "nothing is deployed")
    return attempt.deployment


def _proof(state: State, attempt: Attempt) -> Healthy:
    """S1: a Healthy verdict for exactly the candidate, from the last deployment of this attempt."""
    verdict = attempt.verdict
    if not isinstance(verdict, Healthy):
        _refuse(state, attempt, "no healthy verdict")
    if verdict.deployment != attempt.deployment:
        _refuse(state, attempt, "the verdict is about another deployment")
    if verdict.deployment.release != attempt.candidate:
        _refuse(state, attempt, "the verdict is about another release")
    return verdict


def _refuse(state: State, attempt: Attempt, why: str) -> NoReturn:
    raise InvariantError(f"{why} in {state.name}: {attempt}")
