"""Judges a deployment by the states of its services and tasks. Pure: snapshot in, results out.

A task belongs to a deployment if its spec is the one that the service has now, token included. The
service's labels and its ``UpdateStatus`` are no evidence about a task.
"""

import re
from collections.abc import Mapping
from typing import Final, Literal

from attrs import frozen

from runner.platforms.swarm.objects import BROKEN, Service, Snapshot, Task
from runner.reconcile.model import Outcome
from runner.storage.records import Written

_NON_ZERO: Final = re.compile(r"^task: non-zero exit \(\d+\)(: )?")
"""The beginning of Docker's error for a task that exited; the cause may follow."""
UNSCHEDULABLE: Final = "no suitable node"
SETTLING: Final = 3.0
"""Seconds that a task may be unschedulable after it was written: the scheduler sees a released port
as free up to a second later."""
LEAVING: Final = 15.0
"""Seconds that a port may be in use: a container gets 10 s to stop (``stop_grace_period``), and one
of a removed service is in no list of tasks any more."""
_TAKEN: Final = re.compile(r"Bind for \S*:(\d+) failed: port is already allocated")
"""The error of dockerd's own port allocator. For a port that another program listens on, dockerd
reports "address already in use"; for one that another task has, the scheduler reports it."""


@frozen
class TaskResult:
    """One result from the states of services and tasks, still without the unit."""

    probe: str
    outcome: Outcome
    reason: str
    terminal: bool = False
    container: str = ""
    """Id of the container whose log or health check explains it; empty if there is none."""


def judge(
    snapshot: Snapshot,
    written: Written,
    token: str,
    excused: frozenset[str],
    require: Literal["all", "quorum"],
    denied: Mapping[str, float],
) -> list[TaskResult]:
    """Return a result for the stack, one for the gated tasks, one for each failing side service.

    Args:
        snapshot: the stack now.
        written: what the deployment wrote.
        token: the deployment's.
        excused: ids of tasks whose end is no evidence, for example: a restart of dockerd ended it.
        require: how many tasks must run.
        denied: ids of tasks that failed because of a leaked port, with the seconds since it was
            first seen.
    """
    changes = describe_changes(snapshot, written, token)
    if changes:
        # Tasks of a changed service are no evidence about the release, in either direction.
        return [TaskResult("stack", Outcome.INCONCLUSIVE, f"since it was deployed, {changes}")]
    results = [TaskResult("stack", Outcome.PASS, "the services are as they were deployed")]
    for name in written.specs:
        is_gated = name == written.gated
        judged = _judge_service(
            snapshot, snapshot.services[name], written, excused, require, denied
        )
        if is_gated or judged[0] is not Outcome.PASS:
            outcome, reason, terminal, container = judged
            probe = "tasks" if is_gated else f"tasks of {name}"
            results.append(TaskResult(probe, outcome, reason, terminal, container))
    return results


def describe_changes(snapshot: Snapshot, written: Written, token: str) -> str:
    """Describe the first difference between the services and what was written; empty if none."""
    if written.gated not in written.specs:
        return f"the record of the deployment lacks {written.gated}"
    for name, spec in written.specs.items():
        service = snapshot.services.get(name)
        if service is None:
            return f"service {name} is gone"
        if service.spec != spec or (name == written.gated and service.token != token):
            by = f" (Swarm says {service.update})" if "rollback" in service.update else ""
            return f"service {name} was changed by someone else{by}"
    more = sorted(set(snapshot.services) - set(written.specs))
    return f"service {more[0]} was added by someone else" if more else ""


def denied_port(task: Task) -> int | None:
    """Return the port that dockerd's port allocator denied to an ended task; None if it did not."""
    found = _TAKEN.search(task.error) if task.has_ended else None
    return int(found[1]) if found is not None else None


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
        outcome = Outcome.FAIL if is_gated else Outcome.PASS
        return outcome, "a job: its tasks are meant to end", False, ""
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
    """Return a failure if a task of this deployment has ended, unless it is excused."""
    for task in snapshot.current(service):
        # Tasks of the gated service have the token; those of a side service may be older.
        is_gated = service.name == written.gated
        is_of_now = is_gated or task.since >= written.at - 1
        is_done = task.state == "complete" and service.may_complete and not is_gated
        if task.state in BROKEN and task.id not in excused and is_of_now and not is_done:
            return Outcome.FAIL, _describe_end(task), True, task.container
    return None


def _find_leak(
    snapshot: Snapshot, service: Service, denied: Mapping[str, float]
) -> _Judgement | None:
    """Return an inconclusive result if the newest ended task was denied a leaked port.

    No release could start then. It becomes terminal only after `LEAVING` seconds: a container that
    is stopping may be in no list any more while it still has its ports.
    """
    ended = [task for task in snapshot.current(service) if task.has_ended]
    newest = max(ended, key=lambda task: task.since, default=None)
    if newest is None or newest.id not in denied:
        return None
    reason = (
        f"dockerd holds port {denied_port(newest)} although no container uses it, so no task can"
        " publish it; `systemctl restart docker.service` frees it"
    )
    return Outcome.INCONCLUSIVE, reason, denied[newest.id] >= LEAVING, ""


def _find_pause(service: Service, written: Written) -> _Judgement | None:
    """Return a failure if Swarm paused the update of this deployment."""
    if "paused" in service.update and service.update_started >= written.at - 1:
        return Outcome.FAIL, f"Swarm gave up the update: {service.update}", True, ""
    return None


def _older(snapshot: Snapshot, service: Service) -> list[Task]:
    """List the tasks of older specs that may still serve.

    Not those on a node that is down: they keep their last state for a day, but don't run.
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
    """Return how many tasks must run, and the names of nodes that are down and had one."""
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
        return Outcome.FAIL, f"{lack}, and none is starting", False, ""
    task = max(waiting, key=lambda task: bool(task.error))
    reason = f"{lack}; task {task.name} is {task.state}" + (f": {task.error}" if task.error else "")
    # A task waits from the beginning of an update, while an older one may stop much later: count
    # from the last end of a task.
    ends = [other.since for other in snapshot.tasks_of(service) if other.has_ended]
    has_waited = snapshot.now - max(task.since, *ends, 0.0)
    patience = LEAVING if "port" in task.error else SETTLING
    is_stuck = task.error.startswith(UNSCHEDULABLE) and has_waited > patience
    # It may heal while an older task holds the port, or while a node may still come up.
    may_heal = bool(older) or not all(node.is_up for node in snapshot.nodes)
    return Outcome.FAIL, reason, is_stuck and not may_heal, task.container


def _describe_end(task: Task) -> str:
    if task.state == "rejected":
        return f"task {task.name} was rejected: {task.error}"
    if task.exit_code is not None and task.container:
        cause = _NON_ZERO.sub("", task.error)
        return f"task {task.name} ended with status {task.exit_code}" + f": {cause}" * bool(cause)
    return f"task {task.name} has {task.state}: {task.error}"
