"""The loop of a run: decide, journal the effect, perform it, journal the event.

It reaches the platform, the journal and the clock through Protocols only.
"""

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
    """The operator's settings for a run."""

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
        """Reconcile; return the final state and the attempt.

        Raises:
            JournalError: the journal can't be written. No effect is performed that it lacks.
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
        """Perform a journaled effect; return the event that it led to."""
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
        """Read the input of the first decision; change nothing.

        Raises:
            EngineUnreachableError: the live deployment can't be read.
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
    """Delete what no rollback needs, then seal last-good; yield the errors.

    An error doesn't change how a run ended, and the next run tries again. Pruning comes first: it
    may free the space that sealing needs.
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
