"""Exhaustive search over every event that can happen to the reconciler.

The real table, the real decisions, the real fold and the real loop run against ``FakePlatform``. A
node is a moment between two steps, or a host on which no run is going on; an edge is one step with
one choice among all that the platform may do in it.

Each node is replaced by its canonical form before it is compared with those seen before, and the
search goes on from the canonical form. ``canonical`` keeps every field of a node; ``ABSTRACTIONS``
lists the few leaf values that it simplifies, with the reason why no decision and no promise depends
on them. A field that is added to ``Attempt``, ``Disk`` or ``Node`` is part of the key without any
other change. ``test_exhaustive.py`` holds that a node and its canonical form have the same
successors and break the same promises.
"""

import contextlib
import gc
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final, TypeAlias, TypeVar

import attrs
from attrs import define, evolve, field, frozen
from fake_platform import FOREIGN, Disk, FakeClock, FakePlatform, MemoryJournal, PowerCut, make_run
from typing_extensions import override

from runner.reconcile.attempt import Attempt
from runner.reconcile.decisions import CRASH_LIMIT
from runner.reconcile.machine import TABLE, ReconcileMachine, Row, State
from runner.reconcile.model import (
    Deployment,
    Healthy,
    LatestUnknown,
    Outcome,
    Release,
    Verdict,
)

T = TypeVar("T")
TRIAL: Final = frozenset({State.DEPLOYING, State.GATING, State.COMMITTING})


@define
class Script:
    """A chooser that follows a prefix and takes the first option after it."""

    prefix: tuple[int, ...]
    taken: list[int] = field(factory=list[int])
    widths: list[int] = field(factory=list[int])
    said: list[tuple[str, object]] = field(factory=list[tuple[str, object]])

    def __call__(self, what: str, options: Sequence[T]) -> T:
        place = len(self.taken)
        index = self.prefix[place] if place < len(self.prefix) else 0
        self.taken.append(index)
        self.widths.append(len(options))
        self.said.append((what, options[index]))
        return options[index]

    def next(self) -> tuple[int, ...] | None:
        """Give the prefix of the next script in depth-first order."""
        for place in reversed(range(len(self.taken))):
            if self.taken[place] + 1 < self.widths[place]:
                return (*self.taken[:place], self.taken[place] + 1)
        return None


@frozen
class Settings:
    """The operator's settings for one run."""

    depth: int = 2
    forced: bool = False


BLANK = Disk()


@frozen
class Node:
    """One moment. ``state`` is None while no run is going on, and final at the end of one."""

    disk: Disk
    live: Deployment | None
    failed: Release | None = None
    """The candidate, once there is evidence against it."""
    deaths: tuple[Release, int] | None = None
    """The candidate, and how many runs died while it was on trial."""
    state: State | None = None
    attempt: Attempt | None = None
    draft: Disk = BLANK
    deployed: tuple[tuple[State, Release], ...] = ()
    """The deployments that this run has begun, each with its state."""
    last_good: Release | None = None
    """Last-good when the run began."""
    settings: Settings | None = None
    """Once the first decision is made, `forced` only counts where there is a quarantine."""
    passed: frozenset[str] = frozenset()
    """Tokens of the deployments that passed in this run. Last, because ``key_of`` keeps only those
    that another field has."""

    @property
    def is_in_run(self) -> bool:
        return self.state is not None and not self.state.is_final


# The canonical form ------------------------------------------------------------------------------


def _proof(verdict: Verdict | None) -> Healthy | None:
    return verdict if isinstance(verdict, Healthy) else None


def _is_there(text: str) -> str:
    return "some" if text else ""


def _as_taken_up(disk: Disk) -> Disk:
    """Reduce the state that a dying run leaves to the part that the next run reads."""
    memory = disk.memory
    if memory is None:
        return disk
    if memory.fallbacks or memory.has_looked:
        memory = evolve(memory, fallbacks=(), has_looked=False)
    return Disk(disk.proven, disk.quarantine, _kind_of_end(disk.open_state), memory)


def _kind_of_end(state: State) -> State:
    """A run reads whether the one before ended undecided; the promises, whether it was a trial."""
    if state in TRIAL:
        return State.DEPLOYING
    return state if state is State.UNDECIDED else State.IDLE


def _settings(node: Node) -> Settings | None:
    if node.settings is None or not node.settings.forced:
        return node.settings
    has_effect = node.state is State.IDLE or node.disk.quarantine or node.draft.quarantine
    return node.settings if has_effect else evolve(node.settings, forced=False)


ABSTRACTIONS: Final[dict[tuple[type, str], Callable[[Any], object]]] = {
    # `Interrupted`, the first thing that the next run remembers, resets the rest.
    (Node, "disk"): _as_taken_up,
    # `passed_of` says which of them count.
    (Node, "passed"): lambda _: frozenset[str](),
    # Unguessable and unique. Decisions ask only whether two tokens are equal: `Canonical` renames
    # them in the order in which they appear.
    (Attempt, "id"): lambda _: "a",
    # Only makes the next token; that it makes a new one each time is promise S4, checked on the
    # node itself.
    (Attempt, "deploys"): lambda _: 0,
    (Disk, "attempts"): lambda _: 0,
    # Compared with the limit alone.
    (Attempt, "crashes"): lambda crashes: min(crashes, CRASH_LIMIT),
    # Only a healthy verdict proves something; the report alone reads the others.
    (Attempt, "verdict"): _proof,
    # Words for the operator, which no decision reads.
    (Attempt, "note"): lambda _: "",
    # Words for the operator, of which a decision asks whether there are any.
    (Attempt, "against"): _is_there,
}


Key: TypeAlias = tuple[Any, ...]
"""A node as nested tuples, each object as its class and its fields: quick to compare."""


Abstraction: TypeAlias = Callable[[Any], object]
Reader: TypeAlias = Callable[[Any], tuple[Any, ...]]


FIELDS: Final[dict[type, tuple[Reader, tuple[Abstraction | None, ...]]]] = {}
"""Cache: for each class, the getter of its fields and how each field is simplified."""


def _fields_of(kind: Any) -> tuple[Reader, tuple[Abstraction | None, ...]]:  # noqa: ANN401
    if kind not in FIELDS:
        names = [a.name for a in attrs.fields(kind)]
        simplified = tuple(ABSTRACTIONS.get((kind, name)) for name in names)
        FIELDS[kind] = attrgetter(*names), simplified
    return FIELDS[kind]


_LEAVES: Final = frozenset(
    {str, int, float, bool, type(None), frozenset, State, Release, Settings, Outcome}
)
_POOL: Final[dict[Key, Key]] = {}
"""Makes equal parts the same object, which saves memory."""


@define
class _Walk:
    """Goes through one node, renaming its tokens in the order in which they appear."""

    names: dict[str, str] = field(factory=lambda: {FOREIGN: FOREIGN})

    def key(self, value: Any) -> Any:  # noqa: ANN401 - any part of a node
        kind = value.__class__
        if kind is tuple:
            return tuple(v if type(v) in _LEAVES else self.key(v) for v in value)
        if kind is Deployment:
            return (Deployment, value.release, self._name(value.token))
        get, abstractions = _fields_of(kind)
        made: Key = (
            kind,
            *(
                part if type(part) in _LEAVES else self.key(part)
                for part in (
                    whole if abstract is None else abstract(whole)
                    for whole, abstract in zip(get(value), abstractions, strict=True)
                )
            ),
        )
        return _POOL.setdefault(made, made)

    def _name(self, token: str) -> str:
        return self.names.setdefault(token, f"#{len(self.names)}")


def key_of(node: Node) -> Key:
    """Return a key that is equal for two nodes if no decision and no promise distinguishes them."""
    walk = _Walk()
    rest = walk.key(node)
    return (*rest[:-2], _settings(node), passed_of(node, walk.names))


def passed_of(node: Node, names: dict[str, str]) -> frozenset[str]:
    """Keep the tokens that passed and that another field has, under their new names."""
    return frozenset(names[token] for token in node.passed if token in names)


def node_of(key: Key) -> Node:
    """Make the node that a key describes."""
    node: Node = _part_of(key)
    return node


def _part_of(key: Any) -> Any:  # noqa: ANN401 - any part of a key
    if not _is_tuple(key):
        return key
    if key and isinstance(key[0], type):
        return key[0](*map(_part_of, key[1:]))
    return tuple(map(_part_of, key))


def _is_tuple(value: object) -> bool:
    return isinstance(value, tuple)


def canonical(node: Node) -> Node:
    """Return the one representative of all nodes that have the same key."""
    return node_of(key_of(node))


# The search --------------------------------------------------------------------------------------


@frozen
class Edge:
    """One step and the choices in it."""

    what: str
    choices: tuple[tuple[str, object], ...] = ()

    @override
    def __str__(self) -> str:
        return "; ".join(f"{what}: {choice}" for what, choice in self.choices)


Check = Callable[[Node, Edge, Node], str]
"""Returns the violation in an edge; empty if there is none."""


@frozen
class Universe:
    """The possible events of a search."""

    offers: tuple[Release | LatestUnknown, ...]
    """The possible latest releases of the source."""
    start: tuple[Node, ...]
    others: tuple[Release, ...] = ()
    """The deployments that someone else may do, during a run and between runs."""
    settings: tuple[Settings, ...] = (Settings(),)
    """Each run has one of these."""
    kept: int = 4
    """Proven releases that the journal keeps."""
    table: tuple[Row, ...] = TABLE
    limit: int = 3_000_000
    """Moments after which the search gives up."""


@define
class Found:
    """The result of a search."""

    universe: Universe
    parents: dict[Key, tuple[Key, Edge] | None]
    """Every moment, and the edge by which it was first reached."""
    edges: int = 0
    states: set[State] = field(factory=set[State])
    rows: set[tuple[State, State]] = field(factory=set[tuple[State, State]])
    runs: list[tuple[Key, Key]] = field(factory=list[tuple[Key, Key]])
    """The steps within runs."""
    is_complete: bool = False
    violation: str = ""
    trace: tuple[str, ...] = ()

    def describe(self) -> str:
        return (
            f"{len(self.parents):,} moments, {self.edges:,} steps,"
            f" {len(self.states)} states, {len(self.rows)} pairs of them"
        )


@contextlib.contextmanager
def _without_collections() -> Generator[None]:
    """Switch the cyclic garbage collector off: it would visit millions of tuples over and over."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@_without_collections()
def explore(universe: Universe, check: Check) -> Found:
    """Visit every node; stop at the first violation, with the shortest path to it."""
    queue = deque(map(key_of, universe.start))
    found = Found(universe, dict.fromkeys(queue))
    while queue:
        if len(found.parents) > universe.limit:
            found.violation = f"not exhaustive: there are more than {universe.limit:,} moments"
            return found
        key = queue.popleft()
        node = node_of(key)
        for edge, after, problem in successors(universe, node):
            found.edges += 1
            violation = problem or check(node, edge, after)
            if violation:
                found.violation = violation
                found.trace = (*_trace(found, key), _line(edge, after))
                return found
            if node.state is not None and after.state is not None and node.is_in_run:
                found.rows.add((node.state, after.state))
                found.states |= {node.state, after.state}
            next_key = key_of(after if after.is_in_run else at_rest(after))
            if node.is_in_run:
                found.runs.append((key, next_key))
            if next_key not in found.parents:
                found.parents[next_key] = (key, edge)
                queue.append(next_key)
    found.is_complete = True
    return found


def successors(universe: Universe, node: Node) -> Iterator[tuple[Edge, Node, str]]:
    """Yield every step from a node, with the violations in the step itself."""
    if not node.is_in_run:
        yield from _between_runs(universe, node)
        return
    assert node.state is not None
    prefix: tuple[int, ...] | None = ()
    while prefix is not None:
        script = Script(prefix)
        after, problem = _step(universe, node, script)
        yield Edge(node.state.name, tuple(script.said)), after, problem
        prefix = script.next()


def _between_runs(universe: Universe, node: Node) -> Iterator[tuple[Edge, Node, str]]:
    """A run starts; or the host reboots, a quarantine expires, someone else deploys."""
    if node.live is not None:
        yield Edge("reboot"), evolve(node, live=None), ""
    if node.disk.quarantine:
        forgetful = evolve(node.disk, quarantine=frozenset())
        yield Edge("quarantine expires"), evolve(node, disk=forgetful), ""
    for theirs in universe.others:
        choice = (("release", theirs),)
        yield (
            Edge("someone else deploys", choice),
            evolve(node, live=Deployment(theirs, FOREIGN)),
            "",
        )
    for settings in universe.settings:
        yield Edge("run", (("settings", settings),)), begin(universe, node, settings), ""


def at_rest(node: Node) -> Node:
    """Leave a run that has ended or died: only the journal remains of its memory."""
    memory = node.disk.memory
    rest = Node(disk=node.disk, live=node.live)
    if memory is None:
        return rest
    # Evidence that was not written down before the power went is lost.
    return evolve(rest, failed=node.failed if memory.against else None, deaths=node.deaths)


def begin(universe: Universe, rest: Node, settings: Settings) -> Node:
    journal = MemoryJournal(Script(()), disk=rest.disk, kept=universe.kept)
    attempt = journal.begin()
    return evolve(
        rest,
        state=State.IDLE,
        attempt=attempt,
        draft=journal.draft,
        last_good=next(iter(journal.proven()), None),
        settings=settings,
    )


def _step(universe: Universe, node: Node, script: Script) -> tuple[Node, str]:
    assert node.state is not None
    assert node.attempt is not None
    assert node.settings is not None
    journal = MemoryJournal(script, disk=node.disk, draft=node.draft, kept=universe.kept)
    platform = FakePlatform(
        script,
        FakeClock(),
        universe.offers,
        live_now=node.live,
        passed=set(node.passed),
        others=universe.others,
    )
    run = make_run(journal, platform, depth=node.settings.depth, forced=node.settings.forced)
    machine = machine_in(node.state, universe.table)
    try:
        attempt = run.step(machine, node.attempt)
    except PowerCut:
        deaths = _deaths(node, journal.disk)
        return at_rest(Node(journal.disk, platform.live_now, _failed(node, platform), deaths)), ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return node, f"{type(error).__name__}: {error}"
    after = evolve(
        node,
        disk=journal.disk,
        draft=journal.draft,
        live=platform.live_now,
        failed=_failed(node, platform),
        state=machine.state,
        attempt=attempt,
        deployed=(*node.deployed, *((node.state, d.release) for d in platform.deployed)),
        passed=frozenset(platform.passed),
    )
    return after, ""


def _failed(node: Node, platform: FakePlatform) -> Release | None:
    """Return the release on trial if this step gave evidence against it."""
    on_trial = node.attempt.candidate if node.attempt and node.state in TRIAL else None
    return on_trial if on_trial in platform.failed else node.failed


def _deaths(node: Node, disk: Disk) -> tuple[Release, int] | None:
    """Count one more dead run if the journal says that a release was on trial in it."""
    candidate = disk.memory.candidate if disk.memory else None
    if candidate is None or disk.open_state not in TRIAL:
        return node.deaths
    before = node.deaths[1] if node.deaths and node.deaths[0] == candidate else 0
    return candidate, min(before + 1, CRASH_LIMIT)


_machines: dict[int, tuple[tuple[Row, ...], ReconcileMachine]] = {}


def machine_in(state: State, table: tuple[Row, ...] = TABLE) -> ReconcileMachine:
    """Put a machine into a state that the search has reached by rows before."""
    found = _machines.get(id(table))
    if found is None or found[0] is not table:
        found = _machines[id(table)] = (table, ReconcileMachine(table))
    machine = found[1]
    machine._model.state = state
    return machine


def _trace(found: Found, key: Key) -> list[str]:
    lines: list[str] = []
    entry = found.parents[key]
    while entry is not None:
        before, edge = entry
        lines.append(_line(edge, node_of(key)))
        key, entry = before, found.parents[before]
    return lines[::-1]


def _line(edge: Edge, after: Node) -> str:
    where = after.state.name if after.state else "no run"
    live = "nothing"
    if after.live is not None:
        live = after.live.release.label + ("*" if after.live.token == FOREIGN else "")
    return f"{edge.what:<20} -> {where:<14} live: {live:<8} {edge}"


def longest_run(found: Found) -> int:
    """Return the number of steps of the longest run; -1 if a run can go round for ever.

    Works through the moments of runs backwards, from those where a run has ended.
    """
    befores: dict[Key, list[Key]] = {}
    open_steps: dict[Key, int] = {}
    for before, after in found.runs:
        befores.setdefault(after, []).append(before)
        open_steps[before] = open_steps.get(before, 0) + 1
    length = {after: 0 for _, after in found.runs if after not in open_steps}
    ready = deque(length)
    while ready:
        after = ready.popleft()
        for before in befores.get(after, ()):
            length[before] = max(length.get(before, 0), length[after] + 1)
            open_steps[before] -= 1
            if open_steps[before] == 0:
                ready.append(before)
    return max(length.values(), default=0) if not any(open_steps.values()) else -1
