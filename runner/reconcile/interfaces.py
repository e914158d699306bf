"""The Protocols that the core uses: Platform, Journal, Watcher and Clock.

``Journaled`` is the witness that an effect is in the journal before it is performed.
"""

from typing import NewType, Protocol

from runner.reconcile.attempt import Attempt
from runner.reconcile.errors import ReconcileError
from runner.reconcile.events import Effect, Event
from runner.reconcile.gate import Clock, Progress
from runner.reconcile.machine import State
from runner.reconcile.model import Deployment, Healthy, LatestUnknown, NotLive, Release, Round

__all__ = ["Clock", "Journal", "Journaled", "Platform", "Watcher"]

Journaled = NewType("Journaled", tuple[State, Effect])
"""An effect that is in the journal. Only a journal makes one, and nothing else is performed."""


class Platform(Protocol):
    """The platform that runs the app: local processes, or Docker Swarm."""

    def latest(self) -> Release | LatestUnknown:
        """Return the latest release, once everything that its deployment needs is on this host."""
        ...

    def live(self) -> Deployment | NotLive:
        """Read the live deployment.

        Raises:
            EngineUnreachableError: the platform can't be reached.
        """
        ...

    def deploy(self, deployment: Deployment) -> None:
        """Put exactly this deployment in place and nothing beside it.

        Absolute and repeatable: it works from any state that a killed run left behind.

        Raises:
            NotPreparedError: the host can't prepare it; nothing was touched.
            DeployError: the release can't be put in place.
            EngineUnreachableError: the platform can't be reached.
        """
        ...

    def ask(self, deployment: Deployment, timeout: float) -> Round:
        """Run every probe of the gate once, all within ``timeout`` seconds. Never raises."""
        ...

    def seal(self, release: Release) -> None:
        """Store everything that deploying the proven release again needs, so that it works offline.

        Called for last-good at the end of every run; does nothing once it has succeeded.

        Raises:
            DeployError: a part of it is missing, has changed or can't be stored.
            EngineUnreachableError: the platform, which holds a part of it, can't be reached.
        """
        ...

    def prune(self, keep: frozenset[str]) -> None:
        """Delete everything that only releases outside ``keep`` (digests) need."""
        ...


class Journal(Protocol):
    """The durable memory of one app: attempts, proven releases, quarantine."""

    def begin(self) -> Attempt:
        """Resume the attempt that an earlier run left open, or start a new one."""
        ...

    def intend(self, state: State, effect: Effect) -> Journaled:
        """Record the next effect; durable before this returns, if the effect changes anything."""
        ...

    def observe(self, event: Event, state: State, attempt: Attempt) -> None:
        """Record an event and the state after it; a final state closes the attempt."""
        ...

    def commit(self, verdict: Healthy) -> None:
        """Make the release last-good, and end its quarantine."""
        ...

    def proven(self) -> tuple[Release, ...]:
        """List the proven releases, newest first, without those in quarantine."""
        ...

    def quarantined(self) -> frozenset[str]:
        """List the digests that are in quarantine now."""
        ...

    def needed(self) -> frozenset[str]:
        """List the digests that a later run may still have to deploy."""
        ...


class Watcher(Protocol):
    """An observer of a run: a terminal, or a log."""

    def entered(self, state: State, attempt: Attempt, event: Event) -> None: ...

    def gate(self, progress: Progress) -> None: ...

    def warn(self, error: ReconcileError) -> None: ...
