"""Runs one gate round on Docker Swarm.

Reads task states from the Docker API, then probes exactly the tasks that run this deployment.
"""

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
    """The results from the Docker API, and the tasks and service that they are about."""

    results: Round
    running: tuple[Task, ...]
    """The tasks of the deployment that run: only they may answer a probe."""
    service: Service | None
    """The gated one."""

    @property
    def is_final(self) -> bool:
        """Return whether probing the tasks could not change the outcome of this round."""
        return any(
            result.outcome is Outcome.INCONCLUSIVE or result.terminal for result in self.results
        )


@define
class StackGate:
    """The gate rounds of one stack; remembers which ends of tasks a loss of Docker excuses."""

    stacks: Stacks
    stack: str
    unit: str
    """The systemd unit that deploys the stack, and so serves it."""
    require: Literal["all", "quorum"] = "all"
    _excused: dict[str, frozenset[str]] = field(factory=dict[str, frozenset[str]])
    """By the token of a deployment: the tasks whose end is no evidence against it."""
    _seen: frozenset[str] = frozenset()
    has_lost: bool = field(default=False, init=False)
    """Docker was unreachable in at least one round."""
    _is_lost: bool = False
    _leaked: dict[int, float] = field(factory=dict[int, float])
    """Leaked ports, and when each was first seen (Unix time)."""
    _node: str = ""

    def read_evidence(self, record: Record, *, is_ours: bool) -> Evidence:
        """Read the states of the services and tasks, and judge the deployment by them.

        Args:
            record: of the deployment.
            is_ours: this very run deployed it. If not, tasks that ended before the first round
                are no evidence against it: Docker or the host may have been restarted since.
        """
        try:
            self._node = self._node or self.stacks.engine.swarm_node()
            snapshot = self.stacks.read_snapshot(self.stack)
            denied = self._find_denied(snapshot)
            excused = self._excuse(snapshot, record, frozenset(denied), is_ours=is_ours)
        except EngineUnreachableError as error:
            self.has_lost = self._is_lost = True
            result = self._result("docker", Outcome.INCONCLUSIVE, error.message)
            return Evidence((result,), (), None)
        written = record.written
        judged = judge(snapshot, written, record.deployment.token, excused, self.require, denied)
        results = tuple(self._to_result(result) for result in judged)
        service = snapshot.services.get(written.gated)
        running = tuple(snapshot.running(service)) if service is not None else ()
        return Evidence(results, running, service)

    def probe_tasks(
        self,
        expected: Expected,
        tasks: Iterable[Task],
        probes: tuple[SafeProbe, ...],
        limit: float,
    ) -> list[Round]:
        """Probe each task of this host in its network namespace; at most ``limit`` seconds.

        A task on another node is judged only by its state: its pid means nothing here.
        """
        chosen = [task for task in tasks if task.pid and task.node == self._node]
        ask = functools.partial(self._probe_task, expected, probes, limit)
        with ThreadPoolExecutor(max_workers=max(1, len(chosen))) as threads:
            return list(threads.map(ask, chosen))

    def summarize(self, rounds: list[Round]) -> ProbeResult:
        """Combine the rounds of the tasks: pass if as many passed as ``require`` demands."""
        bad = [[r for r in each if r.outcome is not Outcome.PASS] for each in rounds]
        good = sum(bool(each) and not worse for each, worse in zip(rounds, bad, strict=True))
        worst = {r.outcome for results in bad for r in results}
        # A quorum excuses tasks that can't be probed. One with a failed probe serves clients.
        enough = len(rounds) // 2 + 1 if self.require == "quorum" else max(1, len(rounds))
        is_enough = good >= enough and Outcome.FAIL not in worst
        complaints = [f"{results[0].probe}: {results[0].reason}" for results in bad if results]
        reason = "; ".join([f"{good} of {len(rounds)} tasks passed", *complaints])
        could_ask = Outcome.FAIL if Outcome.FAIL in worst else Outcome.INCONCLUSIVE
        return self._result("each task", Outcome.PASS if is_enough else could_ask, reason)

    def _probe_task(
        self, expected: Expected, probes: tuple[SafeProbe, ...], limit: float, task: Task
    ) -> Round:
        named = tuple(safe.about(_with_task_name(safe.probe, task)) for safe in probes)
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
            reason = f"task {task.name} can't be probed from inside: {error.strerror}"
            return (self._result("inside", Outcome.INCONCLUSIVE, reason),)

    def _excuse(
        self, snapshot: Snapshot, record: Record, denied: frozenset[str], *, is_ours: bool
    ) -> frozenset[str]:
        """Return the ids of the tasks whose end is no evidence: dockerd caused it."""
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
        """Return the tasks that were denied a leaked port, with the seconds since it was seen.

        After a power cut dockerd may remove the endpoint of a deleted container without releasing
        its ports; they stay allocated until dockerd is restarted (libnetwork's
        cleanupLocalEndpoints; seen in Docker 20.10).
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

    def _to_result(self, judged: TaskResult) -> ProbeResult:
        """Make a probe result; add a starting task's health check, or an ended task's log."""
        words = self._read_container(judged) if judged.container else ""
        lines = [printable(line) for line in words.splitlines() if line.strip()]
        link = ": " if judged.terminal else "; its health check printed "
        reason = judged.reason + (link + lines[-1] if lines else "")
        result = self._result(judged.probe, judged.outcome, reason)
        return evolve(result, terminal=judged.terminal, excerpt=printable(words))

    def _read_container(self, judged: TaskResult) -> str:
        """Read the last health check of a starting container, or the log and cause of an ended one.

        Returns nothing if Docker can't be asked; that is not counted as a loss of Docker, which
        has just answered.
        """
        engine, container = self.stacks.engine, judged.container
        try:
            if not judged.terminal:
                return engine.health(container)
            words = without_colours(engine.last_log_lines(container))
            health = engine.health(container, only="unhealthy")
            memory = "out of memory" if engine.was_oom_killed(container) else ""
        except EngineUnreachableError:
            return ""
        cause = memory or (f"unhealthy: {health}" if health else "")
        return f"{words}\n{cause}".strip()

    def _result(self, probe: str, outcome: Outcome, reason: str) -> ProbeResult:
        return ProbeResult(probe, outcome, reason, self.unit)


def host_probes(probes: Iterable[SafeProbe]) -> tuple[SafeProbe, ...]:
    """Return the probes that are sent from the host: all but those for inside a task."""
    return tuple(safe for safe in probes if safe.probe.asked_from is not AskedFrom.TASK)


def task_probes(probes: Iterable[SafeProbe], ports: Mapping[int, int]) -> tuple[SafeProbe, ...]:
    """Return the probes that can be sent inside a task, in their form for there.

    Args:
        probes: of the gate.
        ports: from the published ports to those of the task.
    """
    inside = ((safe, safe.probe.inside(ports)) for safe in probes)
    return tuple(safe.about(probe) for safe, probe in inside if probe is not None)


def _with_task_name(probe: Probe, task: Task) -> Probe:
    return evolve(probe, name=f"{probe.name}@{task.name}"[:LONGEST_NAME])
