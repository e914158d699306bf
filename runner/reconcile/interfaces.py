"""What the core asks of the outside: four Protocols, and the witness that ties two of them."""

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
    """The app, and the engine that runs it: processes here, a Swarm elsewhere."""

    def latest(self) -> Release | LatestUnknown:
        """Name the latest release, with all that deploying it needs already at hand."""
        ...

    def live(self) -> Deployment | NotLive:
        """Read what is live from the engine.

        Raises:
            EngineUnreachableError: the engine can't be asked.
        """
        ...

    def deploy(self, deployment: Deployment) -> None:
        """Put exactly this deployment in place and nothing beside it.

        Absolute and repeatable: it starts from whatever a killed run left behind.

        Raises:
            NotPreparedError: the host can't get it ready; nothing was touched.
            DeployError: the release can't be put in place.
            EngineUnreachableError: the engine can't be told.
        """
        ...

    def ask(self, deployment: Deployment, timeout: float) -> Round:
        """Ask every probe of the gate once, all within ``timeout`` seconds. Never raises."""
        ...

    def seal(self, release: Release) -> None:
        """Keep what deploying the proven release again takes, so that it can be done offline.

        Called for last-good at the end of every run; does nothing once it has succeeded.

        Raises:
            DeployError: something that it needs is missing, has changed or can't be kept.
            EngineUnreachableError: the engine, which has a part of it, can't be asked.
        """
        ...

    def prune(self, keep: frozenset[str]) -> None:
        """Drop what only releases outside ``keep`` (digests) need."""
        ...


class Journal(Protocol):
    """The durable memory of one app: attempts, proven releases, quarantine."""

    def begin(self) -> Attempt:
        """Take up the attempt that an earlier run left open, or start a new one."""
        ...

    def intend(self, state: State, effect: Effect) -> Journaled:
        """Record what is about to happen; durable before it returns, if it touches anything."""
        ...

    def observe(self, event: Event, state: State, attempt: Attempt) -> None:
        """Record what happened and where that led; a final state closes the attempt."""
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
        """List the digests that the journal may still want deployed."""
        ...


class Watcher(Protocol):
    """Whoever looks on: a terminal, a log."""

    def entered(self, state: State, attempt: Attempt, event: Event) -> None: ...

    def gate(self, progress: Progress) -> None: ...

    def warn(self, error: ReconcileError) -> None: ...
