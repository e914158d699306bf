"""Exhaustive search over everything that can happen to the reconciler.

The real table, the real decisions, the real fold and the real loop run against ``ModelWorld``. A
node is a moment between two steps, or a host without power; an edge is one step with one choice of
everything that the world may do in it. Two nodes are the same if nothing in the future can tell
them apart, which makes the space finite.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from attrs import define, evolve, field, frozen
from worlds import Disk, FakeClock, MemoryJournal, ModelWorld, PowerCut, make_run

from runner.reconcile.attempt import Attempt
from runner.reconcile.machine import TABLE, ReconcileMachine, Row, State
from runner.reconcile.vocabulary import Deployment, LatestUnknown, Release

T = TypeVar("T")


@define
class Script:
    """A chooser that follows a prefix and takes the first option after it."""

    prefix: tuple[int, ...]
    taken: list[int] = field(factory=list[int])
    widths: list[int] = field(factory=list[int])
    told: list[str] = field(factory=list[str])

    def __call__(self, what: str, options: Sequence[T]) -> T:
        place = len(self.taken)
        index = self.prefix[place] if place < len(self.prefix) else 0
        self.taken.append(index)
        self.widths.append(len(options))
        self.told.append(f"{what}: {options[index]}")
        return options[index]

    def next(self) -> tuple[int, ...] | None:
        """Give the prefix of the next script in depth-first order."""
        for place in reversed(range(len(self.taken))):
            if self.taken[place] + 1 < self.widths[place]:
                return (*self.taken[:place], self.taken[place] + 1)
        return None


BLANK = Disk()


@frozen
class Node:
    """A moment. ``state`` is None while no run is going on."""

    disk: Disk
    live: Deployment | None
    state: State | None = None
    attempt: Attempt | None = None
    draft: Disk = BLANK
    deployed: tuple[Deployment, ...] = ()
    passed: frozenset[str] = frozenset()
    last_good: Release | None = None
    """As the run found it."""

    def key(self) -> object:
        """All that the future can depend on: tokens only count by what they are equal to."""
        return (
            self.state,
            _memory(self.attempt, self.live),
            self.live.release if self.live else None,
            _durable(self.disk, self.live),
            _durable(self.draft, self.live),
            tuple(d.release for d in self.deployed),
            self.attempt is not None
            and self.attempt.deployment is not None
            and self.attempt.deployment.token in self.passed,
            self.last_good,
        )


def _memory(attempt: Attempt | None, live: Deployment | None) -> object:
    if attempt is None:
        return None
    deployment = attempt.deployment
    return (
        attempt.candidate,
        attempt.target,
        deployment.release if deployment else None,
        deployment is not None and deployment == live,
        type(attempt.verdict),
        bool(attempt.against),
        attempt.guilty,
        attempt.fallbacks,
        min(attempt.crashes, 4),
    )


def _durable(disk: Disk, live: Deployment | None) -> object:
    return (disk.proven, disk.quarantine, disk.open_state, _memory(disk.memory, live))


Check = Callable[[Node, "Edge", Node], str]
"""Says what an edge violates; empty if nothing."""


@frozen
class Edge:
    """One step and the choices that it met."""

    what: str
    choices: tuple[str, ...]


@frozen
class Universe:
    """What may happen, and what is watched."""

    offers: tuple[Release | LatestUnknown, ...]
    start: tuple[Node, ...]
    depth: int = 2
    forced: bool = False
    table: tuple[Row, ...] = TABLE
    limit: int = 2_000_000


@frozen
class Result:
    nodes: int
    edges: int
    states: frozenset[State]
    rows: frozenset[tuple[State, State]]
    violation: str = ""
    trace: tuple[str, ...] = ()


def explore(universe: Universe, check: Check) -> Result:
    """Visit everything; stop at the first violation, with the shortest way there."""
    seen = {node.key() for node in universe.start}
    parents: dict[object, tuple[object, Edge, Node] | None] = {
        n.key(): None for n in universe.start
    }
    queue = deque(universe.start)
    edges = 0
    states: set[State] = set()
    rows: set[tuple[State, State]] = set()
    while queue and len(seen) < universe.limit:
        node = queue.popleft()
        for edge, after, problem in successors(universe, node):
            edges += 1
            if node.state is not None and not node.state.is_final and after.state is not None:
                rows.add((node.state, after.state))
                states |= {node.state, after.state}
            violation = problem or check(node, edge, after)
            if violation:
                trace = (*_trace(parents, node), *_line(edge, after))
                return Result(
                    len(seen), edges, frozenset(states), frozenset(rows), violation, trace
                )
            if after.key() not in seen:
                seen.add(after.key())
                parents[after.key()] = (node.key(), edge, after)
                queue.append(after)
    return Result(len(seen), edges, frozenset(states), frozenset(rows))


def successors(universe: Universe, node: Node) -> Iterator[tuple[Edge, Node, str]]:
    """Yield every step from a node, with what the step itself found to be wrong."""
    if node.state is None or node.state.is_final:
        yield from _between_runs(node)
        return
    prefix: tuple[int, ...] | None = ()
    while prefix is not None:
        script = Script(prefix)
        after, problem = _step(universe, node, script)
        yield Edge(node.state.name, tuple(script.told)), after, problem
        prefix = script.next()


def _between_runs(node: Node) -> Iterator[tuple[Edge, Node, str]]:
    """A run starts; or the host reboots; or a quarantine expires; or a crash loses nothing."""
    rest = Node(disk=node.disk, live=node.live)
    if node.live is not None:
        yield Edge("reboot", ()), evolve(rest, live=None), ""
    if node.disk.quarantine:
        forgetful = evolve(node.disk, quarantine=frozenset())
        yield Edge("quarantine expires", ()), evolve(rest, disk=forgetful), ""
    journal = MemoryJournal(Script(()), disk=node.disk)
    attempt = journal.begin()
    proven = journal.proven()
    yield (
        Edge("run", ()),
        evolve(
            rest,
            state=State.IDLE,
            attempt=attempt,
            draft=journal.draft,
            last_good=proven[0] if proven else None,
        ),
        "",
    )


def _step(universe: Universe, node: Node, script: Script) -> tuple[Node, str]:
    assert node.state is not None
    assert node.attempt is not None
    journal = MemoryJournal(script, disk=node.disk, draft=node.draft)
    world = ModelWorld(
        script,
        FakeClock(),
        universe.offers,
        live_now=node.live,
        deployed=list(node.deployed),
        passed=set(node.passed),
    )
    run = make_run(journal, world, depth=universe.depth, forced=universe.forced)
    machine = machine_in(node.state, universe.table)
    try:
        attempt = run.step(machine, node.attempt)
    except PowerCut:
        return Node(disk=journal.disk, live=world.live_now), ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return node, f"{type(error).__name__}: {error}"
    after = evolve(
        node,
        disk=journal.disk,
        draft=journal.draft,
        live=world.live_now,
        state=machine.state,
        attempt=attempt,
        deployed=tuple(world.deployed),
        passed=frozenset(world.passed),
    )
    return after, ""


_machines: dict[int, tuple[tuple[Row, ...], ReconcileMachine]] = {}


def machine_in(state: State, table: tuple[Row, ...]) -> ReconcileMachine:
    """Put a machine into a state that the search has reached by rows before."""
    found = _machines.get(id(table))
    if found is None or found[0] is not table:
        found = _machines[id(table)] = (table, ReconcileMachine(table))
    machine = found[1]
    machine._model.state = state
    return machine


def _trace(parents: dict[object, tuple[object, Edge, Node] | None], node: Node) -> list[str]:
    lines: list[str] = []
    entry = parents[node.key()]
    while entry is not None:
        before, edge, after = entry
        lines = [*_line(edge, after), *lines]
        entry = parents[before]
    return lines


def _line(edge: Edge, after: Node) -> list[str]:
    told = "; ".join(edge.choices)
    where = after.state.name if after.state else "no power"
    live = after.live.release.label if after.live else "nothing"
    return [f"{edge.what:<14} -> {where:<14} live: {live:<8} {told}"]
