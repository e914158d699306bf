"""The loop: decide, write it down, do it, write down what happened. Knows Protocols only."""

from collections.abc import Iterator
from typing import assert_never

from attrs import frozen

from runner.reconcile import events
from runner.reconcile.attempt import Attempt, remember
from runner.reconcile.decisions import Facts, assess, choose_fallback, next_effect
from runner.reconcile.errors import (
    DeployError,
    EngineUnreachableError,
    NotPreparedError,
    ReconcileError,
)
from runner.reconcile.gate import GatePolicy, judge
from runner.reconcile.interfaces import Clock, Journal, Journaled, Platform, Watcher
from runner.reconcile.machine import ReconcileMachine, State


@frozen
class Policy:
    """What the operator decides about a run."""

    gate: GatePolicy
    fallback_depth: int
    """How many proven releases a rollback may try, newest first."""
    forced: bool
    """Try the latest release even if it is in quarantine."""


@frozen
class Run:
    """One run of one app."""

    journal: Journal
    platform: Platform
    policy: Policy
    clock: Clock
    watcher: Watcher

    def to_the_end(self) -> tuple[State, Attempt]:
        """Reconcile; return the final state and what the attempt came to remember.

        Raises:
            JournalError: the journal can't be written. Nothing is done that it does not hold.
        """
        machine = ReconcileMachine()
        attempt = self.journal.begin()
        while not machine.state.is_final:
            attempt = self.step(machine, attempt)
        for error in tidy(self.journal, self.platform):
            self.watcher.warn(error)
        return machine.state, attempt

    def step(self, machine: ReconcileMachine, attempt: Attempt) -> Attempt:
        """Decide, journal, perform, journal: one effect and its event."""
        effect = next_effect(machine.state, attempt)
        attempt = remember(attempt, effect)
        intent = self.journal.intend(machine.state, effect)
        event = self.perform(intent, attempt)
        attempt = remember(attempt, event)
        self.journal.observe(event, machine.step(event), attempt)
        self.watcher.entered(machine.state, attempt, event)
        return attempt

    def perform(self, intent: Journaled, attempt: Attempt) -> events.Event:
        """Do what is written down, and say what happened."""
        _, effect = intent
        match effect:
            case events.Assess():
                return self._assess(attempt)
            case events.Verify(deployment):
                policy = self.policy.gate.for_verifying()
                return events.Judged(
                    judge(policy, deployment, self.platform.ask, self.clock, self.watcher.gate)
                )
            case events.RunGate(deployment):
                policy = self.policy.gate
                return events.Judged(
                    judge(policy, deployment, self.platform.ask, self.clock, self.watcher.gate)
                )
            case events.Deploy():
                return self._deploy(effect)
            case events.Commit():
                return self._commit(effect)
            case events.ChooseFallback():
                return self._choose_fallback(attempt)
            case _:
                assert_never(effect)

    def facts(self, attempt: Attempt) -> Facts:
        """Read all that the first decision rests on; touch nothing.

        Raises:
            EngineUnreachableError: what is live can't be known.
        """
        return Facts(
            latest=self.platform.latest(),
            live=self.platform.live(),
            proven=self.journal.proven(),
            quarantined=self.journal.quarantined(),
            forced=self.policy.forced,
            attempt=attempt,
        )

    def _assess(self, attempt: Attempt) -> events.Event:
        try:
            return assess(self.facts(attempt))
        except EngineUnreachableError as error:
            return events.Unreachable(error.message)

    def _choose_fallback(self, attempt: Attempt) -> events.Event:
        try:
            live = self.platform.live()
        except EngineUnreachableError as error:
            return events.Unreachable(error.message)
        return choose_fallback(attempt, self.journal.proven(), live, self.policy.fallback_depth)

    def _deploy(self, effect: events.Deploy) -> events.Event:
        try:
            self.platform.deploy(effect.deployment)
        except DeployError as error:
            guilty = not isinstance(error, NotPreparedError)
            return events.DeployFailed(effect.deployment, error.message, guilty)
        except EngineUnreachableError as error:
            return events.Unreachable(error.message)
        return events.Deployed(effect.deployment)

    def _commit(self, effect: events.Commit) -> events.Event:
        self.journal.commit(effect.verdict)
        return events.Committed(effect.verdict.deployment.release)


def tidy(journal: Journal, platform: Platform) -> Iterator[ReconcileError]:
    """Drop what no rollback needs, then seal last-good; yield what went wrong.

    Neither changes how a run ended, and the next run tries again. Pruning comes first: it may make
    the room that keeping last-good takes.
    """

    def prune() -> None:
        platform.prune(journal.needed())

    def seal() -> None:
        for last_good in journal.proven()[:1]:
            platform.seal(last_good)

    for chore in (prune, seal):
        try:
            chore()
        except ReconcileError as error:
            yield error
