"""The order in which units start, and the proof that no probe waits for its own caller. Pure.

While a gate runs, its caller is still starting. A unit that is ordered after the caller starts only
when the caller has started: a gate that waits for such a unit waits for itself until a timeout ends
both. systemd sees no cycle in that, because it doesn't know the probes of a gate.

So a unit may be probed only if it is proven **not** to be ordered after the caller, by any path.
Every unit on a path counts as if it had a start job, whether or not it has one now, and a unit that
failed to load counts, too, because it may load tomorrow.

The graph holds *all* ordering, also that of no unit file: a target starts after the units that it
wants, a service after its timer and its socket, most units after ``basic.target``. The code that
builds a graph has to add these edges. ``systemd/graph.py`` reads them from systemd's own loader,
which also makes an instance of every template that a unit names.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum, unique
from functools import cached_property
from typing import ClassVar, Generic, NewType, Protocol, TypeVar

from attrs import field, frozen
from typing_extensions import override

from runner.reconcile.errors import InvariantError, OrderingError, UnprovenError


@unique
class Says(Enum):
    """Which directive orders two units, or what else shows it."""

    AFTER = "After="
    """The later unit says it of the earlier one."""
    BEFORE = "Before="
    """The earlier unit says it of the later one."""
    WAITS = "waits for"
    """systemd shows it: a job of the later unit waits for one of the earlier unit, right now."""


@frozen
class Edge:
    """``later`` does not start until the start of ``earlier`` has ended, well or badly."""

    later: str
    earlier: str
    says: Says = Says.AFTER
    implied: str = ""
    """Empty if a unit file says it; otherwise systemd's word for what implies it: ``default``."""

    @override
    def __str__(self) -> str:
        """Draw it without its first unit; the arrows go from who says it to who is named."""
        arrow = "←" if self.says is Says.BEFORE else "→"
        source = f" ({self.implied})" if self.implied else ""
        return f" {arrow} {self.says.value}{source} {arrow} {self.earlier}"


@unique
class Served(Enum):
    """What of a unit gives the answer. It makes a difference for the caller alone."""

    BY_ITSELF = "by the unit itself"
    """The unit must have started: its own process answers, or systemd does about it."""
    BY_ITS_DEPLOYMENT = "by what the unit deploys"
    """What the unit puts in place while it is still starting, and what outlives it: the Traefik of
    ``deploy-proxy.service`` is served by the engine that it was handed to, not by the oneshot."""


@frozen
class Target:
    """What a probe asks."""

    unit: str
    served: Served = Served.BY_ITSELF


SafeUnit = NewType("SafeUnit", Target)
"""A target that doesn't wait for the caller. Only ``prove`` makes one."""


@frozen
class UnitGraph:
    """Units, and which starts after which. Cycles are allowed: systemd breaks them as it likes."""

    units: frozenset[str]
    """Those that exist and can be started; an edge may name others."""
    edges: tuple[Edge, ...]
    aliases: Mapping[str, str] = field(factory=dict[str, str])
    """From another name of a unit to its own, or to a further alias."""

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(map(self.resolve, self.units))

    @cached_property
    def _ahead(self) -> Mapping[str, Mapping[str, Edge]]:
        ahead: dict[str, dict[str, Edge]] = {}
        for edge in self.edges:
            there = ahead.setdefault(self.resolve(edge.later), {})
            earlier = self.resolve(edge.earlier)
            if earlier not in there or _rank(edge) < _rank(there[earlier]):
                there[earlier] = edge
        return ahead

    def resolve(self, name: str) -> str:
        """Find a unit's own name. Of aliases in a circle, the first in the alphabet stands."""
        if name not in self.aliases:
            return name
        seen = [name]
        while (name := self.aliases[name]) not in seen:
            if name not in self.aliases:
                return name
            seen.append(name)
        return min(seen[seen.index(name) :])

    def knows(self, name: str) -> bool:
        """Say whether a unit of this name exists and can be started."""
        return self.resolve(name) in self._known

    def ahead_of(self, name: str) -> Iterator[Edge]:
        """Yield one edge to each unit that is directly ahead, in the alphabet's order."""
        unit = self.resolve(name)
        there = self._ahead.get(unit, {})
        for earlier in sorted(there):
            yield Edge(unit, earlier, there[earlier].says, there[earlier].implied)


def _rank(edge: Edge) -> tuple[bool, str, str]:
    """Rank reasons for the same order: a directive in a unit file first, After= before Before=."""
    return bool(edge.implied), edge.says.value, edge.implied


def find_chain(graph: UnitGraph, later: str, earlier: str) -> tuple[Edge, ...] | None:
    """Find a shortest path by which ``later`` waits for ``earlier``; None if there is none.

    A unit doesn't wait for itself: from a unit to itself the chain is empty.
    """
    start, goal = graph.resolve(later), graph.resolve(earlier)
    if start == goal:
        return ()
    reached: dict[str, Edge] = {}
    queue = deque([start])
    while queue:
        for edge in graph.ahead_of(queue.popleft()):
            if edge.earlier not in reached:
                reached[edge.earlier] = edge
                if edge.earlier == goal:
                    return _trace(reached, start, goal)
                queue.append(edge.earlier)
    return None


def _trace(reached: Mapping[str, Edge], start: str, goal: str) -> tuple[Edge, ...]:
    hops: list[Edge] = []
    while goal != start:
        hops.append(reached[goal])
        goal = hops[-1].later
    return tuple(reversed(hops))


def draw(graph: UnitGraph, later: str, earlier: str, chain: tuple[Edge, ...]) -> str:
    """Draw every hop, and both ends under the names that they were asked by.

    ``a.service → After= → b.target ← Before= ← c.service``
    """
    start, goal = graph.resolve(later), graph.resolve(earlier)
    head = start if later == start else f"{later} = {start}"
    tail = "" if earlier == goal else f" = {earlier}"
    return head + "".join(map(str, chain)) + tail


def prove(graph: UnitGraph, caller: str, target: Target) -> SafeUnit:
    """Prove that the start of the target never waits for the start of the caller.

    What the caller itself deploys needs no graph: it is there before the gate asks, whatever else
    is ordered how. The caller as a unit is never safe: it has not started before its gate is done.

    Raises:
        OrderingError: it can wait; the message has the chain.
        UnprovenError: one of the two is not known, and an unknown unit is not a safe one.
    """
    chain = find_chain(graph, target.unit, caller)
    if chain == ():
        if target.served is Served.BY_ITS_DEPLOYMENT:
            return SafeUnit(target)
        raise OrderingError(
            f"{draw(graph, target.unit, caller, ())} is the caller itself: it is still starting"
            " while its gate asks",
            hint="ask what it deploys, or ask from a unit that starts after it",
            chain=(graph.resolve(caller),),
        )
    if chain:
        raise OrderingError(
            f"{target.unit} starts after {caller}, which is still starting while its gate asks:"
            f" {draw(graph, target.unit, caller, chain)}",
            hint=f"ask what {caller} deploys, or ask from a unit that starts after {target.unit}",
            chain=(chain[0].later, *(edge.earlier for edge in chain)),
        )
    for unit, role in ((target.unit, "target"), (caller, "caller")):
        if not graph.knows(unit):
            raise UnprovenError(
                f"the {role} {unit} is not known, or can't be started: nobody can tell whether"
                f" {target.unit} starts after {caller}",
                hint=f"is {unit} installed, and is its name right?",
            )
    return SafeUnit(target)


class Aimed(Protocol):
    """A probe, as far as its order matters."""

    @property
    def name(self) -> str: ...
    @property
    def target_unit(self) -> str: ...

    served: ClassVar[Served]


_P = TypeVar("_P", bound=Aimed)
_P_co = TypeVar("_P_co", bound=Aimed, covariant=True)


def target_of(probe: Aimed) -> Target:
    """Return what a probe asks.

    Of the caller only what it deploys can be asked over the network: its process is this run, which
    serves nothing.
    """
    return Target(probe.target_unit, probe.served)


@frozen
class Safe(Generic[_P_co]):
    """A probe together with the proof that it can't wait for the caller."""

    probe: _P_co
    unit: SafeUnit

    def about(self, probe: _P) -> "Safe[_P]":
        """Carry the proof over to another probe of the very same target.

        Raises:
            InvariantError: it has another target.
        """
        if target_of(probe) != self.unit:
            raise InvariantError(f"{probe.name} is about {probe.target_unit}: not proven")
        return Safe(probe, self.unit)
