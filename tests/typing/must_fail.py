"""Mistakes that the types must catch. Not meant to be executed; see tests/test_witnesses.py."""

from runner.reconcile.attempt import Attempt
from runner.reconcile.events import Commit, Deploy, Event, Judged
from runner.reconcile.loop import Run
from runner.reconcile.machine import ReconcileMachine, Row, State, Trigger, trigger_of
from runner.reconcile.model import Deployment, Release, Unhealthy
from runner.reconcile.ordering import SafeUnit, Target
from runner.reconcile.probes import Prober, Tcp


def an_effect_without_its_record(run: Run, deployment: Deployment, attempt: Attempt) -> None:
    run.perform((State.DEPLOYING, Deploy(deployment)), attempt)  # E: arg-type


def a_commit_without_a_healthy_verdict(verdict: Unhealthy) -> Commit:
    return Commit(verdict)  # E: arg-type


def a_question_without_its_proof(probe: Tcp) -> Prober:
    return Prober((probe,))  # E: arg-type


def a_target_without_its_proof(target: Target) -> SafeUnit:
    return target  # E: return-value


def a_release_instead_of_a_deployment(release: Release) -> Deploy:
    return Deploy(release)  # E: arg-type


def columns_swapped() -> Row:
    return Row(State.IDLE, Trigger.PASSED, State.GATING)  # E: arg-type


def a_state_that_does_not_exist() -> None:
    raise AssertionError(State.GATED)  # E: attr-defined


def a_state_assigned(machine: ReconcileMachine) -> None:
    machine.state = State.COMMITTED  # E: misc


def a_word_for_a_state(machine: ReconcileMachine) -> bool:
    return machine.state == "committed"  # E: comparison-overlap


def an_effect_as_an_event(deployment: Deployment) -> Trigger:
    return trigger_of(Deploy(deployment))  # E: arg-type


def a_match_that_forgets(event: Event) -> str:  # E: return
    match event:  # E: exhaustive-match
        case Judged():
            return "judged"
