"""Findings from single snapshots, word for word: ends, nodes that are down, quorums, patience."""

import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import pytest
from attrs import evolve

from runner.platforms.swarm.evidence import TaskResult, denied_port, describe_changes, judge
from runner.platforms.swarm.objects import Node, Service, Snapshot, Task
from runner.reconcile.model import Outcome
from runner.storage.records import Written

AT = 1000.0
"""When it was written."""
NOW = 1100.0
SETTLED = 3.0
"""Seconds until a task that can't be placed is hopeless."""
LEFT = 15.0
"""Seconds until a port that is still in use is."""
WEB = Service(
    *("web-id", "s_web", 7, "web-spec", "web-template", "token", "image", 1),
    is_global=False,
    is_job=False,
    published={80: 80},
    labels={},
    update="",
    update_started=0.0,
)
SIDE = evolve(
    WEB, id="side-id", name="s_side", spec="side-spec", template="side-template", token=None
)
UP = Node("n1", "host1", "10.0.0.1", is_up=True)
ALSO_UP = Node("n2", "host2", "10.0.0.2", is_up=True)
DOWN = Node("n3", "host3", "10.0.0.3", is_up=False)
NOWHERE = "no suitable node (scheduling constraints not satisfied on 1 node)"
TAKEN = "no suitable node (host-mode port already in use on 1 node)"
DENIED = "starting container failed: Bind for 0.0.0.0:443 failed: port is already allocated"
Require = Literal["all", "quorum"]
NOBODY: Mapping[str, float] = MappingProxyType({})


def task(name: str, service: Service = WEB, **changes: object) -> Task:
    made = Task(
        *(name, service.id, "n1", "running", "running", AT + 5, "", None, f"c-{name}", 42),
        template=service.template,
    )
    return evolve(made, **changes)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def waiting(name: str, error: str = "", *, seconds: float = 0.0, **changes: object) -> Task:
    """Make a task that has waited for some seconds."""
    return evolve(task(name), state="pending", error=error, since=NOW - seconds, **changes)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def ended(name: str, service: Service = WEB, **changes: object) -> Task:
    usual = {"state": "failed", "desired": "shutdown", "exit_code": 3}
    return evolve(task(name, service), **{**usual, "error": "task: non-zero exit (3)", **changes})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def findings(
    *tasks: Task,
    services: tuple[Service, ...] = (WEB,),
    nodes: tuple[Node, ...] = (UP,),
    excused: frozenset[str] = frozenset(),
    require: Require = "all",
    denied: Mapping[str, float] = NOBODY,
) -> dict[str, TaskResult]:
    """Judge a stack that is as written; return the results by probe."""
    written = Written(AT, WEB.name, {service.name: service.spec for service in services})
    snapshot = Snapshot({service.name: service for service in services}, tasks, nodes, NOW)
    found = judge(snapshot, written, "token", excused, require, denied)
    return {finding.probe: finding for finding in found}


def of_web(*tasks: Task, **given: object) -> TaskResult:
    return findings(*tasks, **given)["tasks"]  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def of_side(*tasks: Task, side: Service = SIDE, **given: object) -> TaskResult | None:
    """Judge tasks of the side service, beside a gated one that is well."""
    found = findings(task("web"), *tasks, services=(WEB, side), **given)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert found["tasks"].outcome is Outcome.PASS
    return found.get("tasks of s_side")


PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


# What was written --------------------------------------------------------------------------------


def test_a_stack_as_it_was_written_passes() -> None:
    """And so are the tasks of its gate."""
    assert list(findings(task("t")).values()) == [
        TaskResult("stack", PASS, "the services are as they were deployed"),
        TaskResult("tasks", PASS, "1 of 1 running: t"),
    ]


def test_the_first_difference_is_reported() -> None:
    """A service that is gone or changed, each by its name; and one more than was written."""
    written = Written(AT, WEB.name, {WEB.name: WEB.spec, SIDE.name: SIDE.spec})

    def said(*services: Service) -> str:
        there = {service.name: service for service in services}
        return describe_changes(Snapshot(there, (), (UP,), NOW), written, "token")

    more = [evolve(SIDE, name=name) for name in ("s_z", "s_a")]
    rolled_back = evolve(SIDE, spec="x", update="rollback_started: by Swarm")
    assert said(WEB, SIDE) == ""
    assert said(WEB) == "service s_side is gone"
    assert said(SIDE) == "service s_web is gone"
    assert said(WEB, evolve(SIDE, spec="x")) == "service s_side was changed by someone else"
    assert said(WEB, evolve(SIDE, spec="x", update="updating: now")).endswith("by someone else")
    assert said(WEB, rolled_back).endswith("(Swarm says rollback_started: by Swarm)")
    assert said(evolve(WEB, token="x"), SIDE) == "service s_web was changed by someone else"  # noqa: S106
    assert said(WEB, evolve(SIDE, token="x")) == ""  # noqa: S106 - a side service has none of ours
    assert said(WEB, SIDE, *more) == "service s_a was added by someone else"


def test_a_record_without_the_gated_service_is_reported() -> None:
    """Nothing would be judged then."""
    there = {SIDE.name: SIDE}
    written = Written(AT, WEB.name, {SIDE.name: SIDE.spec})
    (found,) = judge(Snapshot(there, (), (UP,), NOW), written, "token", frozenset(), "all", {})
    assert (found.probe, found.outcome) == ("stack", INCONCLUSIVE)
    assert found.reason == "since it was deployed, the record of the deployment lacks s_web"


# Ends --------------------------------------------------------------------------------------------

ENDS = ("failed", "rejected", "complete", "orphaned")
SINCE = (AT - 50, AT - 2, AT - 1, AT, AT + 50)


@pytest.mark.parametrize("is_gated", [True, False])
def test_an_end_counts_if_it_is_of_what_was_written(*, is_gated: bool) -> None:
    """Of the gated service it always is: the token says so. Beside it, by the time of the end.

    A side service may be what it was before, so its older ends are of an earlier deployment; a
    second is left for the clocks. What may end well, and does, has not failed.
    """
    service = WEB if is_gated else SIDE
    for state, since, is_excused, may_complete in itertools.product(
        ENDS, SINCE, [True, False], [True, False]
    ):
        which = evolve(service, may_complete=may_complete)
        gone = ended("gone", which, state=state, since=since, error="why", container="")
        others = (task("web"),) if is_gated else (task("web"), task("side", SIDE))
        found = findings(
            *others,
            gone,
            services=(which,) if is_gated else (WEB, which),
            excused=frozenset({"gone"} if is_excused else ()),
        )
        is_done = state == "complete" and may_complete and not is_gated
        counts = not is_excused and not is_done and (is_gated or since >= AT - 1)
        about = "tasks" if is_gated else "tasks of s_side"
        told = found.get(about)
        has_failed = told is not None and (told.outcome, told.terminal) == (FAIL, True)
        assert has_failed == counts, (state, since, is_excused, may_complete)


def test_an_end_of_an_older_spec_is_no_end() -> None:
    """The task that was replaced failed at last; or a task of another service did."""
    assert of_web(task("t"), ended("old", template="older")).outcome is PASS
    assert of_side(task("s", SIDE), ended("old", SIDE, template="older")) is None
    assert of_web(task("t"), ended("other", evolve(WEB, id="other-id"))).outcome is PASS


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "task a-task-with- ended with status 3"),
        ({"error": "task: non-zero exit (3): dockerexec: x"}, "ended with status 3: dockerexec: x"),
        ({"exit_code": 0, "error": "unhealthy"}, "ended with status 0: unhealthy"),
        ({"exit_code": 0, "error": ""}, "task a-task-with- ended with status 0"),
        ({"state": "rejected", "error": "No such image"}, "was rejected: No such image"),
        ({"container": "", "error": "starting failed"}, "has failed: starting failed"),
        ({"exit_code": None, "error": "lost"}, "task a-task-with- has failed: lost"),
        ({"state": "orphaned", "container": "", "error": "gone"}, "has orphaned: gone"),
    ],
)
def test_an_ended_task_is_described_by_its_error(changes: dict[str, object], reason: str) -> None:
    """With the container, whose log has more."""
    gone = evolve(ended("a-task-with-a-long-name"), **changes)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    found = of_web(task("t"), gone)
    assert found.reason.endswith(reason)
    assert (found.outcome, found.terminal, found.container) == (FAIL, True, gone.container)


def test_a_gated_job_fails_and_one_beside_it_does_not() -> None:
    """Its tasks are meant to end."""
    job = evolve(WEB, is_job=True)
    assert of_web(task("t"), services=(job,)) == TaskResult(
        "tasks", FAIL, "a job: its tasks are meant to end"
    )
    assert of_side(ended("s", SIDE, state="complete"), side=evolve(SIDE, is_job=True)) is None
    assert of_side(side=evolve(SIDE, is_job=True, wanted=3)) is None


# Leaked ports ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "state", "port"),
    [
        (DENIED, "failed", 443),
        (DENIED, "rejected", 443),
        (DENIED, "running", None),
        ("Bind for [::]:8080 failed: port is already allocated", "failed", 8080),
        ("listen tcp4 0.0.0.0:443: bind: address already in use", "failed", None),
        (TAKEN, "pending", None),
    ],
)
def test_only_the_port_allocator_of_dockerd_denies_a_port(
    error: str, state: str, port: int | None
) -> None:
    """Whoever else has it is named in other words."""
    assert denied_port(task("t", error=error, state=state)) == port


def test_the_newest_ended_task_decides_whether_a_port_is_leaked() -> None:
    """An older denial is past once something else has ended."""
    denied = ended("denied", error=DENIED, since=AT + 5)
    other = ended("other", since=AT + 9)
    excused = frozenset({"denied", "other"})
    for newer, outcome in ((denied, INCONCLUSIVE), (other, PASS)):
        pair = [evolve(each, since=AT + (9 if each is newer else 5)) for each in (denied, other)]
        found = of_web(task("t"), *pair, excused=excused, denied={"denied": 1.0})
        assert found.outcome is outcome
    found = of_web(denied, excused=excused, denied={"denied": LEFT})
    assert found.reason == (
        "dockerd holds port 443 although no container uses it, so no task can publish it;"
        " `systemctl restart docker.service` frees it"
    )
    assert (found.terminal, found.container) == (True, "")
    assert not of_web(denied, excused=excused, denied={"denied": LEFT - 0.1}).terminal
    running = evolve(task("t"), since=AT + 50)
    assert of_web(running, denied, excused=excused, denied={"denied": 1.0}).outcome is INCONCLUSIVE


# Updates that Swarm gave up ----------------------------------------------------------------------


@pytest.mark.parametrize("service", [WEB, SIDE], ids=["gated", "beside"])
@pytest.mark.parametrize("started", SINCE)
def test_an_update_that_swarm_gave_up_is_hopeless(service: Service, started: float) -> None:
    """If it began with this deployment: an older one is left standing by a write without effect."""
    paused = evolve(service, update="paused: m", update_started=started)
    tasks = (task("t"), task("s", SIDE))
    services = (paused,) if service is WEB else (WEB, paused)
    found = findings(*tasks, services=services)
    told = found.get("tasks" if service is WEB else "tasks of s_side")
    expected = TaskResult("x", FAIL, "Swarm gave up the update: paused: m", terminal=True)
    if started >= AT - 1:
        assert told is not None
        assert evolve(told, probe="x") == expected
    else:
        assert told is None or told.outcome is PASS
    going_on = evolve(paused, update="updating: m")
    services = (going_on,) if service is WEB else (WEB, going_on)
    assert {f.outcome for f in findings(*tasks, services=services).values()} == {PASS}


# How many must run -------------------------------------------------------------------------------


def _enough(wanted: int, require: Require) -> int:
    """Say how many of the gated tasks must run, as the documents promise it."""
    return max(1, wanted if require == "all" else wanted // 2 + 1 if wanted else 1)


@pytest.mark.parametrize("require", ["all", "quorum"])
def test_how_many_must_run(require: Require) -> None:
    """All, or more than half; of the gated service at least one."""
    for wanted, number in itertools.product(range(6), range(7)):
        tasks = [task(f"t{i}") for i in range(number)]
        found = of_web(*tasks, services=(evolve(WEB, wanted=wanted),), require=require)
        least = _enough(wanted, require)
        assert (found.outcome is PASS) == (number >= least), (wanted, number)
        names = ", ".join(each.id for each in tasks)
        if found.outcome is PASS:
            assert found.reason == f"{number} of {least} running: {names}"
        else:
            said = f"{number} of {least} tasks running, and none is starting"
            assert (found.reason, found.terminal) == (said, False)


@pytest.mark.parametrize("require", ["all", "quorum"])
def test_how_many_of_a_side_service_must_run(require: Require) -> None:
    """The same, but none where none is wanted; one that was done counts as one that runs."""
    for wanted, number, done in itertools.product(range(4), range(4), range(3)):
        tasks = [task(f"t{i}", SIDE) for i in range(number)]
        over = [ended(f"d{i}", SIDE, state="complete", exit_code=0) for i in range(done)]
        side = evolve(SIDE, wanted=wanted, may_complete=True)
        found = of_side(*tasks, *over, side=side, require=require)
        least = _enough(wanted, require) if wanted else 0
        assert (found is None) == (number + done >= least), (wanted, number, done)


def test_nodes_that_are_down_are_missed_by_a_global_service() -> None:
    """It wants one on each; what runs on the others is no whole, but may be a quorum."""
    web = evolve(WEB, is_global=True, wanted=2)
    nodes = (UP, ALSO_UP, DOWN)
    both = (task("a"), task("b", node="n2"))
    lost = task("lost", node="n3", desired="shutdown")
    found = of_web(*both, lost, services=(web,), nodes=nodes)
    assert found == TaskResult("tasks", FAIL, "2 of 2 running: a, b; node host3 is down")
    found = of_web(*both, lost, services=(web,), nodes=nodes, require="quorum")
    assert found == TaskResult("tasks", PASS, "2 of 2 running: a, b; node host3 is down")
    # There are three: one is no quorum. With a fourth down, two are none either.
    assert of_web(both[0], lost, services=(web,), nodes=nodes, require="quorum").outcome is FAIL
    fourth = evolve(DOWN, id="n4", name="host4")
    four = (*both, lost, evolve(lost, id="lost4", node="n4"))
    found = of_web(*four, services=(web,), nodes=(*nodes, fourth), require="quorum")
    assert (found.outcome, found.reason.partition(" tasks")[0]) == (FAIL, "2 of 3")
    found = of_web(*four, services=(web,), nodes=(*nodes, fourth))
    assert found.reason == "2 of 2 running: a, b; node host3, host4 is down"


def test_nodes_that_are_down_are_nothing_to_others() -> None:
    """A replicated service has its tasks elsewhere; one that never was there misses nothing."""
    nodes = (UP, DOWN)
    lost = task("lost", node="n3", desired="shutdown", state="shutdown")
    assert of_web(task("a"), lost, nodes=nodes).reason == "1 of 1 running: a"
    web = evolve(WEB, is_global=True)
    assert of_web(task("a"), services=(web,), nodes=nodes).outcome is PASS
    of_another = evolve(lost, service="other-id")
    assert of_web(task("a"), of_another, services=(web,), nodes=nodes).outcome is PASS
    assert (
        of_web(task("a"), lost, services=(web,), nodes=(UP, evolve(DOWN, is_up=True))).outcome
        is PASS
    )


# Older tasks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["running", "starting", "ready", "pending"])
def test_an_older_task_that_is_left_spoils_the_round(state: str) -> None:
    """It may answer the probes. One that has ended, or whose node is down, can't."""
    older = task("older", template="older", state=state)
    for require in ("all", "quorum"):
        found = of_web(task("t"), older, require=require)
        said = f"a task of an older spec is still there: older ({state})"
        assert found == TaskResult("tasks", FAIL, said)
    two = of_web(task("t"), older, evolve(older, id="o2"))
    assert two.reason.endswith(f"older ({state}), o2 ({state})")
    there = evolve(older, node="n3")
    assert of_web(task("t"), there, nodes=(UP, DOWN)).outcome is PASS
    assert of_web(task("t"), there, nodes=(UP, evolve(DOWN, is_up=True))).outcome is FAIL
    assert of_web(task("t"), evolve(older, state="shutdown")).outcome is PASS
    assert of_web(task("t"), evolve(older, service="other-id")).outcome is PASS


def test_a_task_that_is_stopping_does_not_run() -> None:
    """It serves open connections only."""
    found = of_web(task("t", desired="shutdown"))
    assert found.outcome is FAIL
    assert found.reason == "0 of 1 tasks running; task t is running"


# Tasks that wait ---------------------------------------------------------------------------------


def test_a_waiting_task_is_reported_with_its_error() -> None:
    """Of a task that has an error; its health check may have more."""
    found = of_web(waiting("a"), waiting("b", "why"), services=(evolve(WEB, wanted=2),))
    assert found == TaskResult(
        "tasks", FAIL, "0 of 2 tasks running; task b is pending: why", container="c-b"
    )
    found = of_web(waiting("a"))
    assert found.reason == "0 of 1 tasks running; task a is pending"
    assert found.container == "c-a"


@pytest.mark.parametrize(("error", "patience"), [(NOWHERE, SETTLED), (TAKEN, LEFT)])
def test_a_task_without_a_place_is_given_some_time(error: str, patience: float) -> None:
    """A port that was just left looks taken for longer than anything else."""
    for seconds, is_hopeless in ((patience, False), (patience + 0.1, True)):
        stuck = waiting("t", error, seconds=seconds)
        found = of_web(stuck)
        assert (found.outcome, found.terminal) == (FAIL, is_hopeless)
        # A side service has the same.
        side = of_side(evolve(stuck, service=SIDE.id, template=SIDE.template))
        assert side is not None
        assert side.terminal is is_hopeless


def test_the_time_begins_when_its_place_is_free() -> None:
    """It begins when the last other task of the service ended, of any spec."""
    stuck = waiting("t", NOWHERE, seconds=50)
    for template in (WEB.template, "older"):
        gone = ended("gone", template=template, state="shutdown", since=NOW - SETTLED)
        assert not of_web(stuck, gone).terminal
        assert of_web(stuck, evolve(gone, since=NOW - SETTLED - 0.1)).terminal
        assert of_web(stuck, evolve(gone, service="other-id")).terminal
    running = task("runs", template="older", since=NOW, state="remove")
    assert not of_web(stuck, running).terminal


def test_a_place_may_still_become_free() -> None:
    """An older task may end, or a node may come up."""
    stuck = waiting("t", NOWHERE, seconds=50)
    assert of_web(stuck).terminal
    assert not of_web(stuck, task("older", template="older")).terminal
    assert not of_web(stuck, nodes=(UP, DOWN)).terminal
    assert of_web(stuck, nodes=(UP, ALSO_UP)).terminal


def test_only_the_scheduler_says_that_there_is_no_place() -> None:
    """Any other trouble may pass."""
    for error in ("", "no route to host", f"image: {NOWHERE}"):
        assert not of_web(waiting("t", error, seconds=1000)).terminal
