"""Parsing recorded objects of the Docker API, and judging single stories of tasks."""

import copy
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import example, given
from hypothesis import strategies as st

from runner.platforms.swarm.evidence import SETTLING, TaskResult, describe_changes, judge
from runner.platforms.swarm.objects import (
    Node,
    Service,
    Snapshot,
    Task,
    read_node,
    read_service,
    read_task,
)
from runner.reconcile.model import Outcome
from runner.storage.records import Written

Json = dict[str, Any]

# As Docker 20.10.24 said it, but for what nothing reads.
TEMPLATE: Json = {
    "ContainerSpec": {
        "Image": "tiny:1",
        "Labels": {"com.docker.stack.namespace": "s"},
        "Args": ["sh", "-c", "sleep 1000"],
        "Env": ["A=b=c", "EMPTY=", "BARE", "WARM_RECONCILE_TOKEN=t1"],
        "Privileges": {"CredentialSpec": None, "SELinuxContext": None},
        "StopGracePeriod": 1000000000,
        "Isolation": "default",
    },
    "Resources": {},
    "Placement": {},
    "Networks": [{"Target": "uwx1yci1479uoh86xtnzpbj41", "Aliases": ["app"]}],
    "ForceUpdate": 0,
}
SERVICE: Json = {
    "ID": "zvk57gwhk4plkw5r123le6ivg",
    "Version": {"Index": 141},
    "Spec": {
        "Name": "s_app",
        "Labels": {"com.docker.stack.image": "tiny:1", "com.docker.stack.namespace": "s"},
        "TaskTemplate": {**TEMPLATE, "Runtime": "container"},
        "Mode": {"Replicated": {"Replicas": 2}},
        "UpdateConfig": {"Parallelism": 1, "FailureAction": "pause", "Order": "stop-first"},
        "EndpointSpec": {
            "Mode": "vip",
            "Ports": [
                {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"},
                {"Protocol": "udp", "TargetPort": 443, "PublishedPort": 8443},
                {"Protocol": "tcp", "TargetPort": 9000},
            ],
        },
    },
    "ServiceStatus": {"RunningTasks": 1, "DesiredTasks": 2, "CompletedTasks": 0},
}
TASK: Json = {
    "ID": "bt1ur8c8k3e3mm2sdnz63d0kx",
    "Version": {"Index": 75},
    "Labels": {},
    "Spec": TEMPLATE,
    "ServiceID": SERVICE["ID"],
    "Slot": 1,
    "NodeID": "4id0fap3nwpx9g8j13mjqiax7",
    "Status": {
        "Timestamp": "2026-11-23T16:59:22.374233867Z",
        "State": "failed",
        "Message": "started",
        "Err": "task: non-zero exit (3)",
        "ContainerStatus": {"ContainerID": "83f64fee21b0", "PID": 0, "ExitCode": 3},
        "PortStatus": {},
    },
    "DesiredState": "shutdown",
}
PENDING: Json = {
    "Timestamp": "2026-11-23T16:59:33.394809973Z",
    "State": "pending",
    "Message": "pending task scheduling",
    "Err": "no suitable node (host-mode port already in use on 1 node)",
    "PortStatus": {},
}
MOMENT = 1795453162.374233  # date --date=2026-11-23T16:59:22Z +%s, and the fraction


def changed(data: Json, *path: str, to: object) -> Json:
    """Copy an object of the API with one value changed."""
    made = copy.deepcopy(data)
    place = made
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = to
    return made


# Reading -----------------------------------------------------------------------------------------


def test_a_service_is_read() -> None:
    """Its token, its image, its TCP ports; what isn't published has none."""
    service = read_service(SERVICE)
    assert (service.name, service.version, service.wanted) == ("s_app", 141, 2)
    assert (service.token, service.image) == ("t1", "tiny:1")
    assert service.published == {8080: 80}
    assert (service.is_global, service.is_job) == (False, False)
    assert (service.update, service.update_started) == ("", 0.0)


@pytest.mark.parametrize(
    ("mode", "wanted", "is_global", "is_job"),
    [
        ({"Replicated": {"Replicas": 0}}, 0, False, False),
        ({"Replicated": {}}, 1, False, False),
        ({"Global": {}}, 2, True, False),
        ({"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}}, 2, False, True),
        ({"GlobalJob": {}}, 2, False, True),
    ],
)
def test_how_many_tasks_there_are_to_be(
    mode: Json, wanted: int, *, is_global: bool, is_job: bool
) -> None:
    """Replicas are in the spec; of a global service only the orchestrator knows the number."""
    service = read_service(changed(SERVICE, "Spec", "Mode", to=mode))
    assert (service.wanted, service.is_global, service.is_job) == (wanted, is_global, is_job)


def test_a_service_without_what_may_be_missing_is_read() -> None:
    """No environment, no ports, no labels, no status: Go leaves out what is empty."""
    bare: Json = {
        "ID": "1",
        "Version": {"Index": 1},
        "Spec": {"Name": "s", "TaskTemplate": {"ForceUpdate": 0}, "Mode": {"Global": {}}},
    }
    service = read_service(bare)
    assert (service.token, service.image, service.wanted) == (None, "", 0)
    assert (service.published, service.labels) == ({}, {})
    for empty in ({"EndpointSpec": None}, {"Labels": None}, {"EndpointSpec": {"Ports": None}}):
        assert not read_service({**bare, "Spec": {**bare["Spec"], **empty}}).published


def test_an_update_is_read_with_its_start() -> None:
    """The state and Swarm's words about it, and when it began."""
    update = {
        "State": "paused",
        "StartedAt": "2026-11-23T16:59:22.374233867Z",
        "Message": "update paused due to failure or early termination of task 1",
    }
    service = read_service({**SERVICE, "UpdateStatus": update})
    assert service.update == f"paused: {update['Message']}"
    assert service.update_started == pytest.approx(MOMENT, abs=1e-5)


def test_a_task_is_read() -> None:
    """Whose it is, how it ended, and which container's words explain it."""
    task = read_task(TASK)
    assert (task.state, task.desired, task.exit_code) == ("failed", "shutdown", 3)
    assert (task.error, task.container) == ("task: non-zero exit (3)", "83f64fee21b0")
    assert (task.service, task.node) == (SERVICE["ID"], "4id0fap3nwpx9g8j13mjqiax7")
    assert task.since == pytest.approx(MOMENT, abs=1e-5)


def test_a_task_without_what_may_be_missing_is_read() -> None:
    """One that no node has taken has no node and no container; a running one has no exit code."""
    pending = read_task({key: TASK[key] for key in ("ID", "Spec")} | {"Status": PENDING})
    assert (pending.node, pending.container, pending.pid, pending.desired) == ("", "", 0, "")
    assert pending.exit_code is None
    assert read_task(changed(TASK, "Status", "State", to="running")).exit_code is None
    bare = read_task({"ID": "1", "Status": {"State": "new"}})
    assert (bare.since, bare.error) == (0.0, "")
    assert bare.template != read_task(TASK).template


def test_a_task_is_of_the_spec_that_it_was_made_from() -> None:
    """The API has a service's runtime and not a task's; any other difference counts."""
    service = read_service(SERVICE)
    assert read_task(TASK).template == service.template
    assert service.spec != service.template
    for path, other in [
        (("ForceUpdate",), 1),
        (("ContainerSpec", "Env"), ["WARM_RECONCILE_TOKEN=t2"]),
        (("ContainerSpec", "Image"), "tiny:2"),
        (("Resources",), {"Limits": {"MemoryBytes": 1}}),
    ]:
        task = read_task({**TASK, "Spec": changed(TEMPLATE, *path, to=other)})
        assert task.template != service.template


def test_any_change_of_the_spec_changes_its_hash() -> None:
    """Labels and ports, too; the status around it doesn't."""
    before = read_service(SERVICE)
    for path in (("Spec", "Labels"), ("Spec", "EndpointSpec"), ("Spec", "Mode")):
        assert read_service(changed(SERVICE, *path, to={})).spec != before.spec
    status = {"State": "completed", "Message": "update completed"}
    after = read_service({**SERVICE, "Version": {"Index": 142}, "UpdateStatus": status})
    assert (after.spec, after.template) == (before.spec, before.template)


def test_a_newer_docker_shows_the_same_spec() -> None:
    """Docker 26.1.5 returned this for an unchanged service that 20.10.24 had written."""
    template = changed(TEMPLATE, "ContainerSpec", "Privileges", "NoNewPrivileges", to=False)
    newer = changed(SERVICE, "Spec", "TaskTemplate", to={**template, "Runtime": "container"})
    before, after = read_service(SERVICE), read_service(newer)
    assert (after.spec, after.template) == (before.spec, before.template)
    assert read_task({**TASK, "Spec": template}).template == before.template


@pytest.mark.parametrize(
    ("path", "other"),
    [
        (("Privileges", "NoNewPrivileges"), True),
        (("Init",), False),
        (("Mounts",), [{"Type": "volume", "Target": "/a", "ReadOnly": True}]),
        (("StopGracePeriod",), 0),
        (("Env",), []),
    ],
)
def test_a_meaningful_member_is_never_left_out(path: tuple[str, ...], other: object) -> None:
    """One change that someone else may have written, and that affects the task."""
    held = changed(SERVICE, "Spec", "TaskTemplate", "ContainerSpec", *path, to=other)
    before, after = read_service(SERVICE), read_service(held)
    assert after.spec != before.spec
    assert after.template != before.template


def test_no_two_modes_are_the_same() -> None:
    """Some are empty objects: what is empty is still said."""
    modes = ("Global", "GlobalJob", "Replicated", "ReplicatedJob")
    specs = {read_service(changed(SERVICE, "Spec", "Mode", to={m: {}})).spec for m in modes}
    assert len(specs) == len(modes)


@given(st.integers(0, 4_000_000_000), st.integers(0, 999_999_999))
@example(0, 0)
@example(1795453162, 100_000_000)
def test_times_are_read_to_the_microsecond(seconds: int, nanoseconds: int) -> None:
    """Go writes as many digits as there are, up to nine."""
    moment = f"{_date(seconds)}.{nanoseconds:09}".rstrip("0").rstrip(".") + "Z"
    task = read_task(changed(TASK, "Status", "Timestamp", to=moment))
    assert task.since == pytest.approx(seconds + nanoseconds / 1e9, abs=2e-6)


def _date(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    # Howard Hinnant's civil_from_days: another way to a date than the one under test.
    era, of_era = divmod(days + 719468, 146097)
    year_of = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    day_of = of_era - (365 * year_of + year_of // 4 - year_of // 100)
    index = (5 * day_of + 2) // 153
    day, month = day_of - (153 * index + 2) // 5 + 1, index + 3 if index < 10 else index - 9
    year = year_of + era * 400 + (month <= 2)
    hours, rest = divmod(rest, 3600)
    return f"{year:04}-{month:02}-{day:02}T{hours:02}:{rest // 60:02}:{rest % 60:02}"


def test_go_s_zero_time_is_long_ago() -> None:
    """It is no update that began after any write."""
    update = {"State": "paused", "StartedAt": "0001-01-01T00:00:00Z"}
    assert read_service({**SERVICE, "UpdateStatus": update}).update_started < 0


@pytest.mark.parametrize(
    ("state", "availability", "is_up"),
    [
        ("ready", "active", True),
        ("ready", "drain", True),
        ("ready", "pause", True),
        ("down", "active", False),
        ("unknown", "active", False),
    ],
)
def test_a_node_is_up_if_it_is_heard_of(state: str, availability: str, *, is_up: bool) -> None:
    """What its operator wants of it is another matter: the orchestrator counts that in."""
    node = read_node(
        {
            "ID": "n",
            "Spec": {"Role": "manager", "Availability": availability},
            "Description": {"Hostname": "vm"},
            "Status": {"State": state, "Addr": "127.0.0.1"},
        }
    )
    assert node == Node("n", "vm", "127.0.0.1", is_up)
    assert read_node({"ID": "n"}) == Node("n", "n", "", is_up=False)


# Stories -----------------------------------------------------------------------------------------

NOW = MOMENT + 60
WEB = evolve(read_service(SERVICE), wanted=1)
SIDE = evolve(WEB, id="side", name="s_side", token=None, spec="s", template="side", published={})
RUNS = Task(
    *("task-of-the-web", WEB.id, "n1", "running", "running", MOMENT + 2, "", None, "c1", 42),
    template=WEB.template,
)
SIDE_RUNS = evolve(RUNS, id="task-of-the-side", service=SIDE.id, template=SIDE.template)
N1 = Node("n1", "host1", "10.0.0.1", is_up=True)
WRITTEN = Written(MOMENT, WEB.name, {WEB.name: WEB.spec})


@frozen
class Scene:
    """The spec in Docker, which is as it was written."""

    services: tuple[Service, ...] = (WEB,)
    tasks: tuple[Task, ...] = (RUNS,)
    excused: frozenset[str] = frozenset()

    def judge(self) -> dict[str, TaskResult]:
        there = {service.name: service for service in self.services}
        written = Written(MOMENT, WEB.name, {name: s.spec for name, s in there.items()})
        snapshot = Snapshot(there, self.tasks, (N1,), NOW)
        return {f.probe: f for f in judge(snapshot, written, "t1", self.excused, "all", {})}

    def tasks_finding(self) -> TaskResult:
        return self.judge()["tasks"]


def test_one_that_runs_passes() -> None:
    """Both findings pass, and the reason names the task."""
    findings = Scene().judge()
    assert {f.outcome for f in findings.values()} == {Outcome.PASS}
    assert findings["tasks"].reason == "1 of 1 running: task-of-the-"


@pytest.mark.parametrize(
    ("task", "reason", "container"),
    [
        (
            evolve(RUNS, state="failed", exit_code=3, error="task: non-zero exit (3)"),
            "task task-of-the- ended with status 3",
            "c1",
        ),
        (
            evolve(RUNS, state="failed", exit_code=143, error="unhealthy container"),
            "task task-of-the- ended with status 143: unhealthy container",
            "c1",
        ),
        (
            evolve(RUNS, state="complete", exit_code=0),
            "task task-of-the- ended with status 0",
            "c1",
        ),
        (
            evolve(RUNS, state="rejected", exit_code=0, container="", error="No such image: x"),
            "task task-of-the- was rejected: No such image: x",
            "",
        ),
        (
            evolve(RUNS, state="failed", exit_code=0, container="", error="starting failed"),
            "task task-of-the- has failed: starting failed",
            "",
        ),
    ],
    ids=["status", "unhealthy", "status 0", "rejected", "never started"],
)
def test_an_end_is_terminal_even_if_another_task_runs(
    task: Task, reason: str, container: str
) -> None:
    """It names the task, how it ended, and the container whose log has more."""
    replaced = evolve(RUNS, id="next")
    found = Scene(tasks=(replaced, task)).tasks_finding()
    assert found == TaskResult("tasks", Outcome.FAIL, reason, terminal=True, container=container)
    excused = Scene(tasks=(replaced, task), excused=frozenset({task.id})).tasks_finding()
    assert excused.outcome is Outcome.PASS


def test_an_unschedulable_task_is_waited_for_a_moment() -> None:
    """A port that was just left looks taken; and while an older task runs, that is no news."""
    stuck = evolve(
        RUNS,
        state="pending",
        error="no suitable node (scheduling constraints not satisfied on 1 node)",
        since=NOW - SETTLING,
    )
    assert not Scene(tasks=(stuck,)).tasks_finding().terminal
    longer = evolve(stuck, since=NOW - SETTLING - 0.01)
    assert Scene(tasks=(longer,)).tasks_finding().terminal
    older = evolve(RUNS, id="older", template="older")
    found = Scene(tasks=(longer, older)).tasks_finding()
    assert (found.outcome, found.terminal) == (Outcome.FAIL, False)
    assert "no suitable node (scheduling constraints not satisfied on 1 node)" in found.reason


def test_an_older_task_that_is_left_fails() -> None:
    """Start-first: both run, and the older one may answer."""
    found = Scene(tasks=(RUNS, evolve(RUNS, id="older", template="older"))).tasks_finding()
    assert found.reason == "a task of an older spec is still there: older (running)"
    assert not found.terminal


@pytest.mark.parametrize(
    ("started", "terminal"), [(MOMENT - 2, False), (-62135596800.0, False), (MOMENT + 1, True)]
)
def test_only_an_update_of_ours_counts(started: float, *, terminal: bool) -> None:
    """Swarm's update status stays after the next write."""
    service = evolve(WEB, update="paused: update paused", update_started=started)
    assert Scene(services=(service,)).tasks_finding().terminal is terminal


def test_a_rollback_by_swarm_is_another_hand() -> None:
    """It wrote the spec back: no evidence, and the reason names Swarm."""
    back = evolve(WEB, spec="previous", update="rollback_completed: rolled back")
    snapshot = Snapshot({WEB.name: back}, (RUNS,), (N1,), NOW)
    said = describe_changes(snapshot, WRITTEN, "t1")
    assert said == (
        "service s_app was changed by someone else (Swarm says rollback_completed: rolled back)"
    )


@pytest.mark.parametrize(
    ("services", "said"),
    [
        ((), "service s_app is gone"),
        ((evolve(WEB, token=None),), "service s_app was changed by someone else"),
        ((WEB, SIDE), "service s_side was added by someone else"),
    ],
    ids=["gone", "token", "added"],
)
def test_a_change_by_someone_else_is_named(services: tuple[Service, ...], said: str) -> None:
    """The first difference from what was written is the reason."""
    snapshot = Snapshot({service.name: service for service in services}, (RUNS,), (N1,), NOW)
    assert describe_changes(snapshot, WRITTEN, "t1") == said
    found = judge(snapshot, WRITTEN, "t1", frozenset(), "all", {})[0]
    assert found == TaskResult("stack", Outcome.INCONCLUSIVE, f"since it was deployed, {said}")


def test_a_side_service_speaks_only_up_if_it_fails() -> None:
    """It has to run as well, and its finding bears its name; a job's end is its purpose."""
    assert set(Scene((WEB, SIDE), (RUNS, SIDE_RUNS)).judge()) == {"stack", "tasks"}
    found = Scene((WEB, SIDE), (RUNS,)).judge()["tasks of s_side"]
    assert found.outcome is Outcome.FAIL
    assert set(Scene((WEB, evolve(SIDE, is_job=True)), (RUNS,)).judge()) == {"stack", "tasks"}
