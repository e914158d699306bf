"""The verdict on the tasks of a stack, over all states that Docker can report.

The oracle is written from the promise, not from the code: a stack that passes has enough tasks of
exactly the written specs, no task of an older spec beside them, and no unexcused end.
"""

import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from runner.platforms.swarm.evidence import LEAVING, SETTLING, TaskResult, judge
from runner.platforms.swarm.objects import (
    BROKEN,
    ENDED,
    Node,
    Service,
    Snapshot,
    Task,
    read_service,
    read_task,
)
from runner.reconcile.model import Outcome
from runner.storage.records import Written

Require = Literal["all", "quorum"]
Scene: TypeAlias = tuple[Snapshot, Written, frozenset[str], Require, Mapping[str, float]]

AT = 1000.0
"""When it was written."""
NOW = 1060.0
STATES = (
    *("new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running"),
    *("complete", "shutdown", "failed", "rejected", "remove", "orphaned"),
)
DESIRED = ("ready", "running", "shutdown", "remove")
STUCK = "no suitable node (host-mode port already in use on 1 node)"
DENIED = "starting container failed: ... Bind for 0.0.0.0:443 failed: port is already allocated"
WEB = Service(
    *("web-id", "s_web", 7, "spec", "template", "token", "image", 1),
    is_global=False,
    is_job=False,
    published={80: 80},
    labels={},
    update="",
    update_started=0.0,
)
SIDE = evolve(WEB, id="side-id", name="s_side", spec="side-spec", template="side", token=None)
UP = Node("n1", "host1", "10.0.0.1", is_up=True)
WRITTEN = Written(AT, WEB.name, {WEB.name: WEB.spec})
BOTH = Written(AT, WEB.name, {WEB.name: WEB.spec, SIDE.name: SIDE.spec})


def task(name: str, service: Service = WEB, **changes: object) -> Task:
    made = Task(
        *(name, service.id, "n1", "running", "running", AT + 5, "", None, "c", 42),
        template=service.template,
    )
    return evolve(made, **changes)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def findings(
    services: tuple[Service, ...],
    tasks: tuple[Task, ...],
    *,
    nodes: tuple[Node, ...] = (UP,),
    excused: frozenset[str] = frozenset(),
    require: Require = "all",
    denied: Mapping[str, float] = MappingProxyType({}),
) -> list[TaskResult]:
    """Judge the tasks of a stack whose specs are as written."""
    written = Written(AT, WEB.name, {service.name: service.spec for service in services})
    snapshot = Snapshot({service.name: service for service in services}, tasks, nodes, NOW)
    return judge(snapshot, written, "token", excused, require, denied)


def passes(found: list[TaskResult]) -> bool:
    return bool(found) and all(finding.outcome is Outcome.PASS for finding in found)


updates = st.tuples(
    st.sampled_from(["", "updating: x", "paused: x", "completed: x", "rollback_paused: x"]),
    st.sampled_from([-62135596800.0, 0.0, AT - 5, AT, AT + 5]),
)


@st.composite
def services_of(draw: st.DrawFn, service: Service) -> Service:
    update, started = draw(updates)
    return evolve(
        service,
        wanted=draw(st.integers(0, 3)),
        is_global=draw(st.booleans()),
        spec=draw(st.sampled_from([service.spec] * 15 + ["other"])),
        template=draw(st.sampled_from([service.template] * 15 + ["other"])),
        token=draw(st.sampled_from([service.token] * 15 + ["another"])),
        update=update,
        update_started=started,
    )


tasks_of_both = st.lists(
    st.builds(
        task,
        st.uuids().map(str),
        st.sampled_from([WEB, WEB, WEB, SIDE]),
        state=st.sampled_from((*STATES, *["running"] * 14)),
        desired=st.sampled_from((*DESIRED, *["running"] * 8)),
        since=st.sampled_from([AT - 500, AT - 5, AT + 5, NOW - SETTLING - 1, NOW - 1, NOW + 5]),
        error=st.sampled_from(["", "", STUCK, "task: non-zero exit (1)", DENIED]),
        template=st.sampled_from([WEB.template, WEB.template, WEB.template, "older"]),
    ),
    max_size=6,
).map(tuple)
nodes_up_or_not = st.lists(st.booleans(), min_size=1, max_size=3).map(
    lambda ups: tuple(Node(f"n{i}", f"host{i}", "", is_up=up) for i, up in enumerate(ups))
)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    there = [draw(services_of(WEB))] if draw(st.integers(0, 9)) else []
    if draw(st.booleans()):
        there.append(evolve(draw(services_of(SIDE)), is_job=draw(st.booleans())))
    tasks = draw(tasks_of_both)
    excused = frozenset(draw(st.sets(st.sampled_from([t.id for t in tasks])))) if tasks else None
    snapshot = Snapshot({s.name: s for s in there}, tasks, draw(nodes_up_or_not), NOW)
    theirs = BOTH if SIDE.name in snapshot.services else WRITTEN
    written = draw(st.sampled_from([theirs] * 6 + [WRITTEN, BOTH]))
    require: Require = draw(st.sampled_from(["all", "quorum"]))
    denied = {t.id: draw(st.sampled_from([0.0, LEAVING])) for t in tasks if t.error == DENIED}
    if not draw(st.booleans()):
        denied = {}
    return snapshot, written, (excused or frozenset()) | frozenset(denied), require, denied


def needed(snapshot: Snapshot, service: Service, require: Require) -> int:
    theirs = {task.node for task in snapshot.tasks if task.service == service.id}
    lost = sum(not node.is_up and node.id in theirs for node in snapshot.nodes)
    down = lost if service.is_global else 0
    if require == "quorum":
        return (service.wanted + down) // 2 + 1
    return max(1, service.wanted) if not down else 99


@given(scenes())
def test_a_pass_rests_on_enough_tasks_of_exactly_what_was_written(
    scene: Scene,
) -> None:
    """No task of an older spec is left, none has ended unexcused, and no service is foreign."""
    snapshot, written, excused, require, denied = scene
    found = judge(snapshot, written, "token", excused, require, denied)
    if not passes(found):
        return
    held = {name: service.spec for name, service in snapshot.services.items()}
    assert held == written.specs
    web = snapshot.services[WEB.name]
    assert web.token == "token"  # noqa: S105 - of a test
    mine = [t for t in snapshot.tasks if t.service == web.id]
    running = [
        t for t in mine if (t.template, t.state, t.desired) == (web.template, "running", "running")
    ]
    assert len(running) >= needed(snapshot, web, require)
    older = [t for t in mine if t.template != web.template and t.state not in ENDED]
    assert {t.node for t in older} <= {node.id for node in snapshot.nodes if not node.is_up}
    ended = [t for t in mine if t.template == web.template and t.state in BROKEN]
    assert not [t for t in ended if t.since >= AT and t.id not in excused]


@given(scenes())
def test_terminal_is_only_what_cannot_heal(
    scene: Scene,
) -> None:
    """An end since it was written, an update that stopped since, or a task that has no place."""
    snapshot, written, excused, require, denied = scene
    for finding in judge(snapshot, written, "token", excused, require, denied):
        if not finding.terminal:
            continue
        if finding.outcome is Outcome.INCONCLUSIVE:
            assert LEAVING in denied.values()
            continue
        assert finding.outcome is Outcome.FAIL
        name = finding.probe.removeprefix("tasks of ") if "of" in finding.probe else WEB.name
        service = snapshot.services[name]
        mine = [t for t in snapshot.tasks if t.service == service.id]
        current = [t for t in mine if t.template == service.template]
        ended = [t for t in current if t.state in BROKEN and t.id not in excused]
        # What bears the token has ended since it was written, whatever its node's clock says.
        has_ended = any(t.since >= AT - 1 or service.name == WEB.name for t in ended)
        has_stopped = "paused" in service.update and service.update_started >= AT - 1
        is_stuck = any(t.error == STUCK and NOW - t.since > SETTLING for t in current)
        older = [t for t in mine if t.template != service.template and t.state not in ENDED]
        assert has_ended or has_stopped or (is_stuck and not older)


@given(scenes())
def test_a_service_changed_by_someone_else_is_no_evidence(
    scene: Scene,
) -> None:
    """Neither for the release nor against it: its failing task is not ours."""
    snapshot, written, excused, require, denied = scene
    found = judge(snapshot, written, "token", excused, require, denied)
    if found[0].outcome is not Outcome.INCONCLUSIVE:
        return
    assert len(found) == 1
    assert Outcome.FAIL not in {finding.outcome for finding in found}


@given(scenes())
def test_all_pass_only_if_the_gated_tasks_were_looked_at(
    scene: Scene,
) -> None:
    """A passing round has a result about the tasks of the gate, and one about the stack."""
    snapshot, written, excused, require, denied = scene
    found = judge(snapshot, written, "token", excused, require, denied)
    if passes(found):
        assert [finding.probe for finding in found] == ["stack", "tasks"]


@pytest.mark.parametrize(("seconds", "is_final"), [(0.0, False), (LEAVING, True)])
def test_a_task_denied_a_leaked_port_is_no_evidence_about_its_release(
    *, seconds: float, is_final: bool
) -> None:
    """The gate waits while a container may still be ending; an end of the task itself counts."""
    earlier = task("earlier", state="failed", error=DENIED)
    last = task("last", state="failed", since=AT + 9, error=DENIED)
    denied = {earlier.id: seconds, last.id: seconds}
    for others in ((), (task("next", state="starting", since=AT + 10),)):
        (_, found) = findings(
            (WEB,), (earlier, last, *others), excused=frozenset(denied), denied=denied
        )
        assert (found.outcome, found.terminal) == (Outcome.INCONCLUSIVE, is_final)
        assert "holds port 443 although no container uses it" in found.reason
    crashed = task("crashed", state="failed", error="task: non-zero exit (1)", exit_code=1)
    (_, found) = findings((WEB,), (crashed, last), excused=frozenset(denied), denied=denied)
    assert (found.outcome, found.terminal) == (Outcome.FAIL, True)


def test_a_task_denied_a_port_in_use_has_failed() -> None:
    """The release wants the port, or the host gave it away: waiting heals neither."""
    (_, found) = findings((WEB,), (task("last", state="failed", error=DENIED),))
    assert (found.outcome, found.terminal) == (Outcome.FAIL, True)


def test_a_record_that_does_not_name_the_gated_service_proves_nothing() -> None:
    """Without the name there would be no result but the one about the stack."""
    empty = Written(AT, WEB.name, {})
    assert not passes(judge(Snapshot({}, (), (UP,), NOW), empty, "token", frozenset(), "all", {}))


def test_a_gated_job_proves_nothing() -> None:
    """It has ended well when it can't answer any more."""
    assert not passes(findings((evolve(WEB, is_job=True),), ()))


def test_every_single_task_is_judged_right() -> None:
    """One task, of every state, wish, spec and time: it passes in exactly one way."""
    every = itertools.product(STATES, DESIRED, [WEB.template, "older"], [AT - 9, AT + 9], [0, 1])
    passed: set[tuple[str, str, str]] = set()
    for state, desired, template, since, excuse in every:
        one = task("t", state=state, desired=desired, template=template, since=since)
        (_, found) = findings((WEB,), (one,), excused=frozenset({"t"} if excuse else ()))
        if found.outcome is Outcome.PASS:
            passed.add((state, desired, template))
        assert found.outcome is not Outcome.INCONCLUSIVE
    assert passed == {("running", "running", WEB.template)}


def test_every_task_beside_one_that_runs_is_judged_right() -> None:
    """A running task passes beside anything but an unexcused end and an older task that is left."""
    every = itertools.product(STATES, DESIRED, [WEB.template, "older"], [0, 1])
    for state, desired, template, excuse in every:
        other = task("o", state=state, desired=desired, template=template)
        excused = frozenset({"o"} if excuse else ())
        (_, found) = findings((WEB,), (task("t"), other), excused=excused)
        is_older = template == "older" and state not in ENDED
        is_end = template != "older" and state in BROKEN and not excuse
        assert (found.outcome is Outcome.PASS) == (not is_older and not is_end), (other, found)
        assert found.terminal == is_end


def test_a_global_service_wants_one_on_each_node() -> None:
    """Its number is what the orchestrator wants now, and its nodes that are down beside.

    A node that is down and never had a task of it may be one that its constraints leave out.
    """
    web = evolve(WEB, wanted=2, is_global=True)
    two = (task("a"), task("b"))
    up = (UP, Node("n2", "host2", "", is_up=True))
    down = Node("n3", "host3", "", is_up=False)
    assert passes(findings((web,), two, nodes=up))
    assert not passes(findings((web,), two[:1], nodes=up))
    assert passes(findings((web,), two, nodes=(*up, down)))
    lost = task("lost", node="n3", desired="shutdown")
    (_, found) = findings((web,), (*two, lost), nodes=(*up, down))
    assert found.outcome is Outcome.FAIL
    assert found.reason.endswith("node host3 is down")
    assert passes(findings((web,), (*two, lost), nodes=(*up, down), require="quorum"))
    assert not passes(findings((web,), (two[0], lost), nodes=(*up, down), require="quorum"))
    one = evolve(web, wanted=1)
    two_down = (UP, evolve(down, id="n2"), down)
    both_lost = (two[0], lost, evolve(lost, id="lost2", node="n2"))
    assert not passes(findings((one,), both_lost, nodes=two_down, require="quorum"))


def test_a_quorum_is_more_than_half() -> None:
    """Two of three and two of two; never half, and never none."""
    for wanted, running in itertools.product(range(5), range(5)):
        web = evolve(WEB, wanted=wanted)
        found = findings((web,), tuple(task(f"t{i}") for i in range(running)), require="quorum")
        assert passes(found) == (running > wanted / 2)


def test_a_task_on_a_lost_node_does_not_spoil_a_quorum() -> None:
    """It keeps its last state for a day, because Swarm can't reach its node."""
    web = evolve(WEB, wanted=2, is_global=True)
    nodes = (UP, Node("n2", "host2", "", is_up=True), Node("n3", "host3", "", is_up=False))
    lost = task("older", template="older", node="n3", desired="shutdown")
    assert passes(findings((web,), (task("a"), task("b"), lost), nodes=nodes, require="quorum"))


def test_the_clock_of_a_node_does_not_hide_an_end() -> None:
    """A task of the gated spec bears the token: it can't have ended before that was written."""
    ended = task("old clock", state="failed", desired="shutdown", since=AT - 30)
    assert not passes(findings((WEB,), (task("t"), ended)))


def test_a_side_service_may_want_no_task() -> None:
    """Replicas 0, or a global one that no node suits, is as it was written."""
    for side in (evolve(SIDE, wanted=0), evolve(SIDE, wanted=0, is_global=True)):
        assert passes(findings((WEB, side), (task("t"),)))
        assert passes(findings((WEB, side), (task("t"),), require="quorum"))


def test_a_side_service_may_be_done() -> None:
    """One that is not started again has ended well with status 0; the gated one never has."""
    done = task("done", SIDE, state="complete", desired="shutdown")
    once = evolve(SIDE, may_complete=True)
    assert passes(findings((WEB, once), (task("t"), done)))
    assert not passes(findings((WEB, SIDE), (task("t"), done)))
    gated = task("gated", state="complete", desired="shutdown")
    assert not passes(findings((evolve(WEB, may_complete=True),), (gated,)))


def test_a_side_service_that_only_moved_its_constraints_passes() -> None:
    """Swarm keeps a task whose node still fits when placement alone changed: seen on 20.10.24."""

    def template(constraint: str) -> dict[str, object]:
        return {
            "ContainerSpec": {"Image": "tiny:1"},
            "Placement": {"Constraints": [constraint]},
            "ForceUpdate": 0,
        }

    after = read_service(
        {
            "ID": SIDE.id,
            "Version": {"Index": 98},
            "Spec": {
                "Name": SIDE.name,
                "TaskTemplate": {**template("node.id==n1"), "Runtime": "container"},
                "Mode": {"Replicated": {"Replicas": 1}},
            },
        }
    )
    kept = read_task(
        {
            "ID": "kept",
            "ServiceID": SIDE.id,
            "NodeID": "n1",
            "Spec": template("node.role==manager"),
            "DesiredState": "running",
            "Status": {"State": "running", "Timestamp": "1970-01-01T00:10:00Z"},
        }
    )
    assert passes(findings((WEB, after), (task("t"), kept)))


def test_a_port_that_was_just_left_is_no_verdict() -> None:
    """A new task waits for it from the beginning of an update, and an old one may stop much later.

    Seen on a real swarm: pending for 4.7 s, the old one ended 0.15 s ago, and 0.1 s later assigned.
    """
    waits = task("new", state="pending", since=NOW - 4.7)
    waits = evolve(waits, error=STUCK)
    left = task("old", template="older", state="shutdown", desired="shutdown", since=NOW - 0.15)
    (_, found) = findings((WEB,), (waits, left))
    assert (found.outcome, found.terminal) == (Outcome.FAIL, False)
    long_ago = evolve(left, since=NOW - LEAVING - 1)
    waits = evolve(waits, since=NOW - LEAVING - 1)
    assert findings((WEB,), (waits, long_ago))[1].terminal


def test_the_cause_of_an_end_is_reported() -> None:
    """Docker sometimes reports more than the exit status."""
    said = "task: non-zero exit (137): dockerexec: unhealthy container"
    ended = evolve(task("t", state="failed", desired="shutdown"), error=said, exit_code=137)
    (_, found) = findings((WEB,), (ended,))
    assert found.reason.endswith("ended with status 137: dockerexec: unhealthy container")
    plain = evolve(ended, error="task: non-zero exit (1)", exit_code=1)
    assert findings((WEB,), (plain,))[1].reason.endswith("ended with status 1")
