"""The ordering proof in exact words: refused targets with their chains, and safe targets."""

import itertools

import pytest

from runner.exit_codes import ExitCode
from runner.reconcile.errors import InvariantError, OrderingError, UnprovenError
from runner.reconcile.ordering import (
    Edge,
    Says,
    Served,
    Target,
    UnitGraph,
    draw,
    find_chain,
    prove,
    target_of,
)
from runner.reconcile.probes import Http, Identity, Probe, SafeProbe, Tcp, TraefikPing, UnitActive

PROXY = "deploy-proxy.service"
DASHBOARD = "deploy-dashboard.service"
STILL = "which is still starting while its gate runs"


def graph(*edges: Edge, also: str = "", aliases: dict[str, str] | None = None) -> UnitGraph:
    """Make a graph in which every unit that an edge names exists, and those of ``also``."""
    names = {name for edge in edges for name in (edge.later, edge.earlier)}
    return UnitGraph(frozenset(names | {PROXY, *also.split()}), edges, aliases or {})


def before(earlier: str, later: str, implied: str = "") -> Edge:
    return Edge(later, earlier, Says.BEFORE, implied)


def refused(units: UnitGraph, target: Target | str, caller: str = PROXY) -> OrderingError:
    asked = Target(target) if isinstance(target, str) else target
    with pytest.raises(OrderingError) as caught:
        prove(units, caller, asked)
    assert caught.value.exit_code == ExitCode.ORDERING_REFUSED
    assert isinstance(caught.value, UnprovenError) == (not caught.value.chain)
    return caught.value


# Refused ------------------------------------------------------------------------------------------


def test_the_old_gate_is_refused() -> None:
    """The deadlock that this program was made for, with its exact message."""
    error = refused(graph(Edge(DASHBOARD, PROXY)), DASHBOARD)
    assert error.message == (
        f"{DASHBOARD} starts after {PROXY}, {STILL}: {DASHBOARD} → After= → {PROXY}"
    )
    assert error.hint == (
        f"probe what {PROXY} deploys, or from a unit that starts after {DASHBOARD}"
    )
    assert error.chain == (DASHBOARD, PROXY)


def test_the_deployment_of_an_unsafe_unit_is_refused_as_well() -> None:
    """It does not exist before the unit begins to start."""
    target = Target(DASHBOARD, Served.BY_ITS_DEPLOYMENT)
    assert refused(graph(Edge(DASHBOARD, PROXY)), target).chain == (DASHBOARD, PROXY)


def test_before_in_the_caller_counts_like_after_in_the_target() -> None:
    """The arrow shows which unit's file has the directive."""
    error = refused(graph(before(PROXY, DASHBOARD)), DASHBOARD)
    assert error.message.endswith(f": {DASHBOARD} ← Before= ← {PROXY}")


def test_every_hop_is_reported() -> None:
    """Through a target, an instance, a timer and an implied ordering; the names in order."""
    units = graph(
        Edge(DASHBOARD, "sync.timer", implied="default"),
        before("ready.target", "sync.timer"),
        before("worker@x.service", "ready.target", "default"),
        Edge("worker@x.service", PROXY),
    )
    error = refused(units, DASHBOARD)
    assert error.message.endswith(
        f": {DASHBOARD} → After= (default) → sync.timer ← Before= ← ready.target"
        f" ← Before= (default) ← worker@x.service → After= → {PROXY}"
    )
    assert error.chain == (DASHBOARD, "sync.timer", "ready.target", "worker@x.service", PROXY)


def test_an_alias_is_no_way_out() -> None:
    """Neither of the target, nor of the caller, nor inside an edge; the message has both names."""
    aliases = {"dash.service": DASHBOARD, "proxy.service": PROXY, "web.target": "ready.target"}
    units = graph(
        Edge("dash.service", "web.target"),
        before("proxy.service", "ready.target"),
        also="ready.target",
        aliases=aliases,
    )
    error = refused(units, "dash.service", caller="proxy.service")
    assert error.message == (
        f"dash.service starts after proxy.service, {STILL}: dash.service = {DASHBOARD}"
        f" → After= → ready.target ← Before= ← {PROXY} = proxy.service"
    )


def test_the_shortest_chain_is_reported() -> None:
    """A direct edge, and not the longer path through a target."""
    units = graph(
        *(Edge(DASHBOARD, unit) for unit in ("a.target", "b.target", "c.target")),
        *(Edge("a.target", "aa.target"), Edge("aa.target", PROXY)),
        Edge("b.target", PROXY),
        *(Edge("c.target", "cc.target"), Edge("cc.target", PROXY)),
    )
    assert refused(units, DASHBOARD).chain == (DASHBOARD, "b.target", PROXY)


def test_a_directive_in_a_unit_file_is_reported_first() -> None:
    """Of several reasons for one hop, the line in a file; of two lines, that of the later unit."""
    edges = (
        Edge(DASHBOARD, PROXY, implied="default"),
        before(PROXY, DASHBOARD),
        Edge(DASHBOARD, PROXY),
    )
    assert refused(graph(*edges), DASHBOARD).message.endswith(f": {DASHBOARD} → After= → {PROXY}")
    assert refused(graph(*edges[:2]), DASHBOARD).message.endswith(
        f": {DASHBOARD} ← Before= ← {PROXY}"
    )


RANKED = (
    *(Edge(DASHBOARD, PROXY), Edge(DASHBOARD, PROXY, Says.BEFORE)),
    Edge(DASHBOARD, PROXY, Says.WAITS),
    *(Edge(DASHBOARD, PROXY, implied=word) for word in ("default", "slice")),
    Edge(DASHBOARD, PROXY, Says.BEFORE, "default"),
)
"""Reasons for one hop: one in a unit file first, and After= before Before=."""


@pytest.mark.parametrize("pair", list(itertools.combinations(RANKED, 2)), ids=str)
def test_of_two_reasons_the_reported_one_does_not_depend_on_their_order(
    pair: tuple[Edge, Edge],
) -> None:
    """The first of them in ``RANKED``."""
    for edges in (pair, pair[::-1]):
        assert list(graph(*edges).ahead_of(DASHBOARD)) == [pair[0]]


def test_the_caller_itself_is_refused() -> None:
    """A probe that wants the caller active waits for the end of its own gate."""
    error = refused(graph(), PROXY)
    assert error.message == (
        f"{PROXY} is the caller itself: it is still starting while its gate runs"
    )
    assert error.chain == (PROXY,)


def test_the_caller_under_another_name_is_refused() -> None:
    """An alias doesn't hide it."""
    error = refused(graph(aliases={"proxy.service": PROXY}), "proxy.service")
    assert error.message.startswith(f"proxy.service = {PROXY} is the caller itself")


@pytest.mark.parametrize(
    ("target", "caller", "told"),
    [("gone.service", PROXY, "target gone.service"), (PROXY, "gone.service", "caller gone")],
)
def test_an_unknown_unit_is_never_safe(target: str, caller: str, told: str) -> None:
    """A misspelt name, of either, must not make a gate safe."""
    error = refused(graph(), target, caller)
    assert f"the {told}" in error.message
    assert f"can't be determined whether {target} starts after {caller}" in error.message
    assert error.hint == "check that gone.service is installed and spelled right"


def test_a_unit_that_is_only_named_is_unknown() -> None:
    """An edge to a unit does not make it exist."""
    units = UnitGraph(frozenset({PROXY}), (Edge(PROXY, "gone.service"),))
    assert "gone.service is unknown" in refused(units, "gone.service").message


def test_a_chain_through_a_unit_that_does_not_exist_counts() -> None:
    """It may be installed tomorrow: both ends have named it already."""
    units = UnitGraph(
        frozenset({PROXY, DASHBOARD}),
        (Edge(DASHBOARD, "ghost.target"), before(PROXY, "ghost.target")),
    )
    assert refused(units, DASHBOARD).chain == (DASHBOARD, "ghost.target", PROXY)


def test_units_in_a_circle_are_all_after_each_other() -> None:
    """Any order is possible, because systemd may break a circle anywhere."""
    units = graph(
        Edge(PROXY, "a.service"), Edge("a.service", "b.service"), Edge("b.service", PROXY)
    )
    assert refused(units, "a.service").chain == ("a.service", "b.service", PROXY)
    assert refused(units, "b.service").chain == ("b.service", PROXY)


# Safe ---------------------------------------------------------------------------------------------


def test_the_deployment_of_the_caller_is_safe() -> None:
    """With any other ordering, under any name of the caller, and without systemd."""
    target = Target(PROXY, Served.BY_ITS_DEPLOYMENT)
    assert prove(UnitGraph(frozenset(), ()), PROXY, target) == target
    units = graph(Edge(PROXY, PROXY), aliases={"proxy.service": PROXY})
    assert prove(units, "proxy.service", target) == target


def test_a_unit_that_starts_before_the_caller_is_safe() -> None:
    """The caller may wait for it; only the other direction is a deadlock."""
    target = Target("docker.service")
    assert prove(graph(Edge(PROXY, "docker.service")), PROXY, target) == target


def test_an_unrelated_unit_is_safe() -> None:
    """A circle of other units doesn't make it unsafe, and doesn't hang."""
    units = graph(Edge("a.service", "b.service"), Edge("b.service", "a.service"))
    assert prove(units, PROXY, Target("a.service")) == Target("a.service")


# Names and drawings -------------------------------------------------------------------------------


def test_aliases_of_aliases_and_in_circles() -> None:
    """A chain leads to its end; a circle is one unit, from any of its names."""
    units = graph(
        aliases={"a": "b", "b": "c", "x": "z", "z": "y", "y": "x", "into": "z", "self": "self"}
    )
    assert [units.resolve(name) for name in ("a", "b", "c")] == ["c", "c", "c"]
    assert [units.resolve(name) for name in ("x", "y", "z", "into")] == ["x", "x", "x", "x"]
    assert units.resolve("self") == "self"


def test_no_chain_and_an_empty_one() -> None:
    """None is "does not wait"; the empty chain is "is the same unit"."""
    units = graph(Edge(DASHBOARD, PROXY))
    assert find_chain(units, PROXY, DASHBOARD) is None
    assert find_chain(units, PROXY, PROXY) == ()
    assert draw(units, PROXY, PROXY, ()) == PROXY


def test_only_one_kind_of_probe_is_about_the_unit_itself() -> None:
    """Whether a unit is active, systemd answers; the unit or its deployment serves the rest."""
    url = "http://127.0.0.1/"
    served = [
        target_of(probe)
        for probe in (
            UnitActive(name="u", target_unit=PROXY),
            TraefikPing(target_unit=PROXY, url=url),
            Identity(target_unit=PROXY, url=url),
            Http(name="h", target_unit=PROXY, url=url),
            Tcp(name="t", target_unit=PROXY, address="127.0.0.1:80"),
        )
    ]
    assert served == [Target(PROXY), *[Target(PROXY, Served.BY_ITS_DEPLOYMENT)] * 4]


ADDRESS = "127.0.0.1:80"
CARRIED = (
    Tcp(name="port", target_unit=PROXY, address=ADDRESS),
    Http(name="page", target_unit=PROXY, url="http://127.0.0.1/"),
    UnitActive(name="active", target_unit=PROXY),
    Tcp(name="elsewhere", target_unit=DASHBOARD, address=ADDRESS),
    UnitActive(name="elsewhere", target_unit=DASHBOARD),
)


@pytest.mark.parametrize("asked", CARRIED, ids=lambda probe: f"{probe.kind}-{probe.name}")
def test_a_proof_is_carried_over_to_the_same_target_and_to_no_other(asked: Probe) -> None:
    """Neither to another unit, nor from what a unit deploys to the unit itself."""
    units = graph(also=f"{DASHBOARD} caller.service")
    proof = SafeProbe(asked, prove(units, "caller.service", target_of(asked)))
    for other in CARRIED:
        if target_of(other) == target_of(asked):
            carried = proof.about(other)
            assert (carried.probe, carried.unit) == (other, proof.unit)
        else:
            with pytest.raises(InvariantError, match=f"{other.name} is about {other.target_unit}"):
                proof.about(other)
