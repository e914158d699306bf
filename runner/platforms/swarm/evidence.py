"""What the engine's evidence says about a deployment. Pure: a snapshot in, findings out.

A task belongs to a deployment if its spec is the one that the service has now, token included; what
the service's labels or its ``UpdateStatus`` say about a task is no evidence.
"""

import re
from collections.abc import Mapping
from typing import Final, Literal

from attrs import frozen

from runner.platforms.swarm.objects import BROKEN, Service, Snapshot, Task
from runner.reconcile.model import Outcome
from runner.storage.records import Written

_NON_ZERO: Final = re.compile(r"^task: non-zero exit \(\d+\)(: )?")
"""What Docker says of an end, before what it knows of the cause."""
UNSCHEDULABLE: Final = "no suitable node"
SETTLING: Final = 3.0
"""Seconds that a task may be unschedulable after it was written: a port that was just left is seen
as free by the scheduler up to a second later."""
LEAVING: Final = 15.0
"""Seconds that a port may be in use: a container gets ten to stop (``stop_grace_period``), and one
whose service was removed is in no list of tasks any more."""
_TAKEN: Final = re.compile(r"Bind for \S*:(\d+) failed: port is already allocated")
"""What the engine's own allocator of ports says. Of a port that somebody else listens on it says
"address already in use", and of one that another task has, the scheduler says it."""


@frozen
class TaskResult:
    """One thing that the engine's evidence shows."""

    about: str
    outcome: Outcome
    reason: str
    terminal: bool = False
    container: str = ""
    """The one that can explain it: by its last words, or by its health check."""


def judge(
    snapshot: Snapshot,
    written: Written,
    token: str,
    excused: frozenset[str],
    require: Literal["all", "quorum"],
    denied: Mapping[str, float],
) -> list[TaskResult]:
    """Say what the evidence shows: one finding for the stack, one for the tasks of the gate.

    Args:
        snapshot: what the engine says now.
        written: what the deployment wrote.
        token: the deployment's.
        excused: ids of tasks whose end is nobody's fault: a restart of the engine took them.
        require: how many tasks must run.
        denied: ids of tasks that the engine denied a port that no container has, and for how many
            seconds that has been so.
    """
    changes = describe_changes(snapshot, written, token)
    if changes:
        # Another hand's tasks are no evidence about the release, in either direction.
        return [TaskResult("stack", Outcome.INCONCLUSIVE, f"since it was deployed, {changes}")]
    findings = [TaskResult("stack", Outcome.PASS, "the engine holds what was deployed")]
    for name in written.specs:
        is_gated = name == written.gated
        finding = _judge_service(
            snapshot, snapshot.services[name], written, excused, require, denied
        )
        if is_gated or finding[0] is not Outcome.PASS:
            answer, reason, terminal, container = finding
            about = "tasks" if is_gated else f"tasks of {name}"
            findings.append(TaskResult(about, answer, reason, terminal, container))
    return findings


def describe_changes(snapshot: Snapshot, written: Written, token: str) -> str:
    """Name the first way in which the engine holds something else than was written."""
    if written.gated not in written.specs:
        return f"nobody recorded what {written.gated} is"
    for name, spec in written.specs.items():
        service = snapshot.services.get(name)
        if service is None:
            return f"service {name} is gone"
        if service.spec != spec or (name == written.gated and service.token != token):
            by = f" (Swarm says {service.update})" if "rollback" in service.update else ""
            return f"service {name} was changed by another hand{by}"
    more = sorted(set(snapshot.services) - set(written.specs))
    return f"service {more[0]} was added by another hand" if more else ""


def denied_port(task: Task) -> int | None:
    """Name the port that the engine could not give to a task: its allocator has given it away."""
    said = _TAKEN.search(task.error) if task.has_ended else None
    return int(said[1]) if said is not None else None


_Judgement = tuple[Outcome, str, bool, str]


def _judge_service(
    snapshot: Snapshot,
    service: Service,
    written: Written,
    excused: frozenset[str],
    require: Literal["all", "quorum"],
    denied: Mapping[str, float],
) -> _Judgement:
    is_gated = service.name == written.gated
    if service.is_job:
        answer = Outcome.FAIL if is_gated else Outcome.PASS
        return answer, "a job: it is meant to end", False, ""
    hopeless = (
        _find_end(snapshot, service, written, excused)
        or _find_leak(snapshot, service, denied)
        or _find_pause(service, written)
    )
    if hopeless is not None:
        return hopeless
    wanted, missing = _wanted(snapshot, service, require)
    wanted = max(wanted, 1) if is_gated else wanted
    older = _older(snapshot, service)
    running = snapshot.running(service)
    done = [] if is_gated else snapshot.completed(service)
    if len(running) + len(done) < wanted:
        return _describe_lack(snapshot, service, older, wanted)
    names = ", ".join(task.name for task in running)
    reason = f"{len(running)} of {wanted} running: {names}"
    if older:
        left = ", ".join(f"{task.name} ({task.state})" for task in older)
        reason = f"a task of an older spec is still there: {left}"
    elif missing:
        reason += f"; node {', '.join(missing)} is down"
    is_well = not older and (not missing or require == "quorum")
    return Outcome.PASS if is_well else Outcome.FAIL, reason, False, ""


def _find_end(
    snapshot: Snapshot, service: Service, written: Written, excused: frozenset[str]
) -> _Judgement | None:
    """Find a task that has ended."""
    for task in snapshot.current(service):
        # Those of the gated service bear the token; a side service may be what it was before.
        is_gated = service.name == written.gated
        is_of_now = is_gated or task.since >= written.at - 1
        is_done = task.state == "complete" and service.may_complete and not is_gated
        if task.state in BROKEN and task.id not in excused and is_of_now and not is_done:
            return Outcome.FAIL, _describe_end(task), True, task.container
    return None


def _find_leak(
    snapshot: Snapshot, service: Service, denied: Mapping[str, float]
) -> _Judgement | None:
    """Find out that no release could start: its newest end is that it was denied a port.

    A container that is just ending may be in no list any more while it still has its ports.
    """
    ended = [task for task in snapshot.current(service) if task.has_ended]
    newest = max(ended, key=lambda task: task.since, default=None)
    if newest is None or newest.id not in denied:
        return None
    reason = (
        f"the engine holds port {denied_port(newest)} for no container, so it can start nothing"
        " there; `systemctl restart docker.service` frees it"
    )
    return Outcome.INCONCLUSIVE, reason, denied[newest.id] >= LEAVING, ""


def _find_pause(service: Service, written: Written) -> _Judgement | None:
    """Find an update that Swarm gave up."""
    if "paused" in service.update and service.update_started >= written.at - 1:
        return Outcome.FAIL, f"Swarm stopped the update, {service.update}", True, ""
    return None


def _older(snapshot: Snapshot, service: Service) -> list[Task]:
    """List the tasks of older specs that may still serve.

    Not those on a node that is down: they keep their last state for a day, and serve nobody.
    """
    down = {node.id for node in snapshot.nodes if not node.is_up}
    return [
        task
        for task in snapshot.tasks_of(service)
        if task.template != service.template and not task.has_ended and task.node not in down
    ]


def _wanted(
    snapshot: Snapshot, service: Service, require: Literal["all", "quorum"]
) -> tuple[int, list[str]]:
    """Count the tasks that must run, and name the nodes that can't run theirs."""
    theirs = {task.node for task in snapshot.tasks_of(service)}
    down = [node.name for node in snapshot.nodes if not node.is_up and node.id in theirs]
    missing = down if service.is_global else []
    everyone = service.wanted + len(missing)
    if require == "quorum" and everyone:
        return everyone // 2 + 1, missing
    return service.wanted, missing


def _describe_lack(
    snapshot: Snapshot, service: Service, older: list[Task], wanted: int
) -> _Judgement:
    current = snapshot.current(service)
    waiting = [task for task in current if not task.has_ended and not task.is_running]
    lack = f"{len(snapshot.running(service))} of {wanted} tasks running"
    if not waiting:
        return Outcome.FAIL, f"{lack}, and none is on its way", False, ""
    task = max(waiting, key=lambda task: bool(task.error))
    says = f"{lack}; task {task.name} is {task.state}" + (f": {task.error}" if task.error else "")
    # A task waits from the beginning of an update on, and an older one may stop much later: its
    # place is known to be free only a moment after that.
    ends = [other.since for other in snapshot.tasks_of(service) if other.has_ended]
    has_waited = snapshot.now - max(task.since, *ends, 0.0)
    patience = LEAVING if "port" in task.error else SETTLING
    is_stuck = task.error.startswith(UNSCHEDULABLE) and has_waited > patience
    # While an older task holds the port, or a node may still come up, that is no news.
    may_heal = bool(older) or not all(node.is_up for node in snapshot.nodes)
    return Outcome.FAIL, says, is_stuck and not may_heal, task.container


def _describe_end(task: Task) -> str:
    if task.state == "rejected":
        return f"task {task.name} was rejected: {task.error}"
    if task.exit_code is not None and task.container:
        cause = _NON_ZERO.sub("", task.error)
        return f"task {task.name} ended with status {task.exit_code}" + f": {cause}" * bool(cause)
    return f"task {task.name} has {task.state}: {task.error}"
