"""A platform and a journal without I/O: everything that can happen is a choice of the test.

``FakePlatform`` is honest about one thing only, which is what the real gate guarantees: an answer
passes for a deployment only while that very deployment is what is live. All else may go wrong at
any moment, including the power.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from attrs import define, evolve, field, frozen

from runner.reconcile.attempt import Attempt, Entry, Interrupted, blamed, remember
from runner.reconcile.errors import (
    DeployError,
    EngineUnreachableError,
    NotPreparedError,
    ReconcileError,
)
from runner.reconcile.events import Effect, Event
from runner.reconcile.gate import GatePolicy, Progress
from runner.reconcile.interfaces import Journal, Journaled, Watcher
from runner.reconcile.loop import Policy, Run
from runner.reconcile.machine import State
from runner.reconcile.model import (
    Deployment,
    Healthy,
    LatestUnknown,
    NotLive,
    Outcome,
    ProbeResult,
    Release,
    Round,
)
from runner.storage.codec import LOOKS

T = TypeVar("T")

DEADLINE = 10.0
VERIFY_DEADLINE = 3.0
ONE_ROUND = GatePolicy(rise=1, window=0.0, deadline=DEADLINE, verify_deadline=VERIFY_DEADLINE)
"""The gate has tests of its own; here one round decides."""


FOREIGN = "made by someone else"
"""The token of every deployment that no run of ours has made."""


def release(name: str, digest: str = "") -> Release:
    """Make a release whose digest is its name, unless another one is given."""
    return Release(name, name, digest or name)


class PowerCut(BaseException):
    """Everything that was not durable is gone. No ``except Exception`` may survive it."""


class Chooser(Protocol):
    """Decides what happens next: Hypothesis, a script, or an exhaustive search."""

    def __call__(self, what: str, options: Sequence[T]) -> T: ...


@define
class FakeClock:
    """A clock that advances only by sleeping or waiting."""

    time: float = 1_000_000.0

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class Silent:
    """A watcher that ignores everything, also chores that failed."""

    def entered(self, state: State, attempt: Attempt, event: Event) -> None:
        del state, attempt, event

    def gate(self, progress: Progress) -> None:
        del progress

    def warn(self, error: ReconcileError) -> None:
        del error


@frozen
class Disk:
    """The part of a ``MemoryJournal`` that survives a power cut."""

    proven: tuple[Release, ...] = ()
    quarantine: frozenset[str] = frozenset()
    open_state: State = State.IDLE
    memory: Attempt | None = None
    """The open attempt, folded as it is written: what replaying its entries gives."""
    attempts: int = 0


@define
class MemoryJournal:
    """The journal's contract in a few lines; ``test_journals_agree`` holds it to the real one."""

    choose: Chooser
    disk: Disk = Disk()
    draft: Disk = Disk()
    """The open transaction."""
    kept: int = 4
    """Proven releases kept deployable: ``Retention.proven``."""

    def begin(self) -> Attempt:
        self.draft = self.disk
        if self.disk.memory is None:
            attempt = Attempt(f"attempt{self.disk.attempts}")
            self._draft(memory=attempt, attempts=self.disk.attempts + 1)
        else:
            crashed = self.disk.open_state is not State.UNDECIDED
            attempt = remember(self.disk.memory, Interrupted(crashed))
            self._draft(memory=attempt)
        self._draft(open_state=State.IDLE)
        return attempt

    def intend(self, state: State, effect: Effect) -> Journaled:
        self._remember(effect)
        if not isinstance(effect, LOOKS):
            self._flush()
        return Journaled((state, effect))

    def observe(self, event: Event, state: State, attempt: Attempt) -> None:
        self._remember(event)
        self._draft(open_state=state)
        if not state.is_final:
            return
        guilty = blamed(attempt) if state is State.ROLLED_BACK else None
        if guilty is not None:
            self._draft(quarantine=self.draft.quarantine | {guilty.digest})
        if state is not State.UNDECIDED:
            self._draft(memory=None, open_state=State.IDLE)
        self._flush()

    def commit(self, verdict: Healthy) -> None:
        good = verdict.deployment.release
        older = tuple(r for r in self.draft.proven if r != good)
        self._draft(proven=(good, *older), quarantine=self.draft.quarantine - {good.digest})

    def proven(self) -> tuple[Release, ...]:
        newest = self.draft.proven[: self.kept]
        return tuple(r for r in newest if r.digest not in self.draft.quarantine)

    def quarantined(self) -> frozenset[str]:
        return self.draft.quarantine

    def needed(self) -> frozenset[str]:
        return frozenset(r.digest for r in self.draft.proven[: self.kept])

    def _remember(self, entry: Entry) -> None:
        assert self.draft.memory is not None
        self._draft(memory=remember(self.draft.memory, entry))

    def _draft(self, **changes: Any) -> None:  # noqa: ANN401 - the fields of Disk
        self.draft = evolve(self.draft, **changes)

    def _flush(self) -> None:
        """COMMIT: all or nothing, and the power may go right before or right after it."""
        if self.choose("power before the write", ("on", "cut")) == "cut":
            raise PowerCut
        self.disk = self.draft
        if self.choose("power after the write", ("on", "cut")) == "cut":
            raise PowerCut


DEPLOYS = (
    "done",
    "refused, untouched",
    "unprepared, untouched",
    "failed, nothing left",
    "failed, but it runs",
    "unreachable, untouched",
    "unreachable, but it runs",
    "cut, untouched",
    "cut, nothing left",
    "cut, but it runs",
)
ANSWERS = ("pass", "fail", "inconclusive", "cut")
CHORES = ("done", "failed", "unreachable")


@define
class FakePlatform:
    """One app on one host, as a handful of choices."""

    choose: Chooser
    clock: FakeClock
    offers: tuple[Release | LatestUnknown, ...]
    live_now: Deployment | None = None
    deployed: list[Deployment] = field(factory=list[Deployment])
    """Every deployment that was begun in this run, in order."""
    passed: set[str] = field(factory=set[str])
    """Tokens of the deployments whose probes passed while they were live."""
    failed: set[Release] = field(factory=set[Release])
    """Releases that there was evidence against: a failed deployment or a failed answer."""
    others: tuple[Release, ...] = ()
    """Releases that someone else may deploy, whenever this run probes or deploys."""
    sealed: list[Release] = field(factory=list[Release])
    kept: list[frozenset[str]] = field(factory=list[frozenset[str]])
    """The digests that each ``prune`` was to keep."""

    def latest(self) -> Release | LatestUnknown:
        return self.choose("latest", self.offers)

    def live(self) -> Deployment | NotLive:
        self._let_someone_else_deploy()
        if self.choose("engine", ("up", "down")) == "down":
            raise EngineUnreachableError("the engine is down")
        return self.live_now or NotLive()

    def deploy(self, deployment: Deployment) -> None:
        self.deployed.append(deployment)
        self._let_someone_else_deploy()
        outcome = self.choose("deploy", DEPLOYS)
        if outcome.endswith(("runs", "done")):
            self.live_now = deployment
        elif outcome.endswith("nothing left"):
            self.live_now = None
        if outcome.startswith("cut"):
            raise PowerCut
        if outcome.startswith("unprepared"):
            raise NotPreparedError("it can't be got ready")
        if outcome.startswith("unreachable"):
            raise EngineUnreachableError("the engine is down")
        if outcome != "done":
            self.failed.add(deployment.release)
            raise DeployError("it can't be deployed")

    def ask(self, deployment: Deployment, timeout: float) -> Round:
        self._let_someone_else_deploy()
        is_live = deployment == self.live_now
        outcome = self.choose("answer", ANSWERS if is_live else ANSWERS[1:])
        if outcome == "cut":
            raise PowerCut
        if outcome == "pass":
            self.passed.add(deployment.token)
            return (ProbeResult("ping", Outcome.PASS, "200", "proxy.service"),)
        if outcome == "fail":
            self.failed.add(deployment.release)
            return (ProbeResult("ping", Outcome.FAIL, "404", "proxy.service", terminal=True),)
        self.clock.sleep(timeout)
        return (ProbeResult("ping", Outcome.INCONCLUSIVE, "no socket", "proxy.service"),)

    def seal(self, release: Release) -> None:
        self.sealed.append(release)
        self._do_chore("seal")

    def prune(self, keep: frozenset[str]) -> None:
        self.kept.append(keep)
        self._do_chore("prune")

    def _do_chore(self, chore: str) -> None:
        outcome = self.choose(chore, CHORES)
        if outcome == "unreachable":
            raise EngineUnreachableError("the engine is down")
        if outcome == "failed":
            raise DeployError("the disk is full")

    def _let_someone_else_deploy(self) -> None:
        if self.others:
            theirs = self.choose("someone else deploys", (None, *self.others))
            if theirs is not None:
                self.live_now = Deployment(theirs, FOREIGN)


def make_run(
    journal: Journal,
    platform: FakePlatform,
    *,
    depth: int = 2,
    forced: bool = False,
    watcher: Watcher | None = None,
) -> Run:
    policy = Policy(ONE_ROUND, depth, forced)
    return Run(journal, platform, policy, platform.clock, watcher or Silent())
