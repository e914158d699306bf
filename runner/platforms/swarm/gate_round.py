"""Asks about a deployment on the swarm: first the engine, then the very tasks that it named."""

import functools
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

from attrs import define, evolve, field, frozen

from runner.platforms.swarm.engine_api import Published
from runner.platforms.swarm.evidence import TaskResult, denied_port, judge
from runner.platforms.swarm.netns import run_inside
from runner.platforms.swarm.objects import BROKEN, Service, Snapshot, Task
from runner.platforms.swarm.stack import Stacks
from runner.reconcile.errors import EngineUnreachableError
from runner.reconcile.model import Outcome, ProbeResult, Round
from runner.reconcile.probes import AskedFrom, Probe, Prober, SafeProbe
from runner.reconcile.replies import Expected, printable, without_colours
from runner.storage.records import Record

LONGEST_NAME: Final = 128
"""Characters of the name of a probe."""


@frozen
class Evidence:
    """What the engine says, and of whom."""

    results: Round
    running: tuple[Task, ...]
    """The tasks that may answer."""
    service: Service | None
    """The gated one."""

    @property
    def is_final(self) -> bool:
        """Say whether no answer of a task could change what this round comes to."""
        return any(
            result.outcome is Outcome.INCONCLUSIVE or result.terminal for result in self.results
        )


@define
class StackGate:
    """Asks about one stack; remembers what a loss of the engine excuses."""

    stacks: Stacks
    stack: str
    unit: str
    """The systemd unit that deploys the stack, and so serves it."""
    require: Literal["all", "quorum"] = "all"
    _excused: dict[str, frozenset[str]] = field(factory=dict[str, frozenset[str]])
    """By the token of a deployment, the tasks whose end is not held against it."""
    _seen: frozenset[str] = frozenset()
    has_lost: bool = field(default=False, init=False)
    """The engine was out of reach at some time."""
    _is_lost: bool = False
    _leaked: dict[int, float] = field(factory=dict[int, float])
    """Ports that the engine holds for no container, and since when (Unix time) that was seen."""
    _node: str = ""

    def ask_engine(self, record: Record, *, is_ours: bool) -> Evidence:
        """Ask for the evidence about what was deployed.

        Args:
            record: of the deployment.
            is_ours: this very run deployed it. If not, what ended before it looked is not held
                against it: the engine, or the host, may have been started anew in between.
        """
        try:
            self._node = self._node or self.stacks.engine.swarm_node()
            snapshot = self.stacks.look(self.stack)
            denied = self._find_denied(snapshot)
            excused = self._excuse(snapshot, record, frozenset(denied), is_ours=is_ours)
        except EngineUnreachableError as error:
            self.has_lost = self._is_lost = True
            result = self._result("engine", Outcome.INCONCLUSIVE, error.message)
            return Evidence((result,), (), None)
        written = record.written
        findings = judge(snapshot, written, record.deployment.token, excused, self.require, denied)
        results = tuple(self._tell(finding) for finding in findings)
        service = snapshot.services.get(written.gated)
        running = tuple(snapshot.running(service)) if service is not None else ()
        return Evidence(results, running, service)

    def ask_each(
        self,
        expected: Expected,
        tasks: Iterable[Task],
        probes: tuple[SafeProbe, ...],
        limit: float,
    ) -> list[Round]:
        """Ask each task of this host from inside its own network; at most ``limit`` seconds.

        Of a task elsewhere the engine's evidence is all there is: its pid means nothing here.
        """
        chosen = [task for task in tasks if task.pid and task.node == self._node]
        ask = functools.partial(self._ask_one, expected, probes, limit)
        with ThreadPoolExecutor(max_workers=max(1, len(chosen))) as threads:
            return list(threads.map(ask, chosen))

    def sum_up(self, rounds: list[Round]) -> ProbeResult:
        """Say whether enough of the tasks that were asked each for itself gave good answers."""
        bad = [[r for r in each if r.outcome is not Outcome.PASS] for each in rounds]
        good = sum(bool(each) and not worse for each, worse in zip(rounds, bad, strict=True))
        worst = {r.outcome for results in bad for r in results}
        # A quorum excuses who can't be asked. Who answers wrongly is served from.
        enough = len(rounds) // 2 + 1 if self.require == "quorum" else max(1, len(rounds))
        is_enough = good >= enough and Outcome.FAIL not in worst
        complaints = [f"{results[0].probe}: {results[0].reason}" for results in bad if results]
        reason = "; ".join([f"{good} of {len(rounds)} answered well", *complaints])
        could_ask = Outcome.FAIL if Outcome.FAIL in worst else Outcome.INCONCLUSIVE
        return self._result("each task", Outcome.PASS if is_enough else could_ask, reason)

    def _ask_one(
        self, expected: Expected, probes: tuple[SafeProbe, ...], limit: float, task: Task
    ) -> Round:
        named = tuple(safe.about(_named(safe.probe, task)) for safe in probes)
        only = evolve(expected, tasks=frozenset({task.id}))

        def ask() -> Round:
            prober = Prober(named)
            try:
                return prober.ask(only, limit)
            finally:
                prober.close()

        try:
            return run_inside(task.pid, ask)
        except (FileNotFoundError, ProcessLookupError):
            return (self._result("inside", Outcome.FAIL, f"task {task.name} has just ended"),)
        except OSError as error:
            reason = f"task {task.name} can't be asked from inside: {error.strerror}"
            return (self._result("inside", Outcome.INCONCLUSIVE, reason),)

    def _excuse(
        self, snapshot: Snapshot, record: Record, denied: frozenset[str], *, is_ours: bool
    ) -> frozenset[str]:
        """Name the tasks whose end is no evidence: it was the engine's end, not their own."""
        ended = frozenset(task.id for task in snapshot.tasks if task.state in BROKEN)
        token = record.deployment.token
        excused = self._excused.get(token, frozenset() if is_ours else ended) | denied
        if self._is_lost:
            excused |= self._seen | ended
            self._is_lost = False
        self._excused[token] = excused
        self._seen |= {task.id for task in snapshot.tasks}
        return excused

    def _find_denied(self, snapshot: Snapshot) -> dict[str, float]:
        """Say which tasks the engine denied a port that no container has, and since how long.

        After a cut of the power it may come back with what a container had that is no more: it
        removes such an endpoint without giving back its ports, until it is started again
        (libnetwork's cleanupLocalEndpoints; seen in Docker 20.10).
        """
        here = (task for task in snapshot.tasks if task.node == self._node)
        denied = {task.id: port for task in here if (port := denied_port(task)) is not None}
        published = self.stacks.engine.published_ports() if denied else frozenset[Published]()
        leaked = set(denied.values()) - {port for kind, _, port in published if kind == "tcp"}
        self._leaked = {port: self._leaked.get(port, snapshot.now) for port in leaked}
        return {
            task: snapshot.now - self._leaked[port]
            for task, port in denied.items()
            if port in leaked
        }

    def _tell(self, finding: TaskResult) -> ProbeResult:
        """Add what the container says: of its health while it starts, else its last words."""
        words = self._hear(finding) if finding.container else ""
        lines = [printable(line) for line in words.splitlines() if line.strip()]
        link = ": " if finding.terminal else "; its health check says "
        reason = finding.reason + (link + lines[-1] if lines else "")
        result = self._result(finding.about, finding.outcome, reason)
        return evolve(result, terminal=finding.terminal, excerpt=printable(words))

    def _hear(self, finding: TaskResult) -> str:
        """Read the last health check of what still starts, or the last words of who ended.

        What can't be read explains nothing; it is no loss of the engine, which has just answered.
        """
        engine, container = self.stacks.engine, finding.container
        try:
            if not finding.terminal:
                return engine.health(container)
            words = without_colours(engine.last_words(container))
            health = engine.health(container, only="unhealthy")
            memory = "out of memory" if engine.ran_out(container) else ""
        except EngineUnreachableError:
            return ""
        cause = memory or (f"unhealthy: {health}" if health else "")
        return f"{words}\n{cause}".strip()

    def _result(self, probe: str, outcome: Outcome, reason: str) -> ProbeResult:
        return ProbeResult(probe, outcome, reason, self.unit)


def public(probes: Iterable[SafeProbe]) -> tuple[SafeProbe, ...]:
    """Leave out what is asked only inside of a task."""
    return tuple(safe for safe in probes if safe.probe.asked_from is not AskedFrom.TASK)


def personal(probes: Iterable[SafeProbe], ports: Mapping[int, int]) -> tuple[SafeProbe, ...]:
    """Choose the probes that each task is asked inside, in their form for there.

    Args:
        probes: of the gate.
        ports: from the published ones to the task's own.
    """
    inside = ((safe, safe.probe.inside(ports)) for safe in probes)
    return tuple(safe.about(probe) for safe, probe in inside if probe is not None)


def _named(probe: Probe, task: Task) -> Probe:
    return evolve(probe, name=f"{probe.name}@{task.name}"[:LONGEST_NAME])
