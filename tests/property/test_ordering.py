"""No target that can wait for its caller is ever proven safe; networkx is the oracle."""

from itertools import pairwise
from random import Random

import networkx as nx
from attrs import evolve
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from unit_graphs import Case, cases, many_units

from runner.reconcile.errors import OrderingError, UnprovenError
from runner.reconcile.ordering import Edge, Served, Target, UnitGraph, find_chain, prove


class Oracle:
    """The same graphs in networkx: an alias is an edge of length 0, in both directions."""

    def __init__(self, units: UnitGraph) -> None:
        self._units = units.units
        self._roads: nx.DiGraph[str] = nx.DiGraph()
        same: nx.Graph[str] = nx.Graph(units.aliases.items())
        self._names = {
            name: frozenset(all_) for all_ in nx.connected_components(same) for name in all_
        }
        for edge in units.edges:
            self._roads.add_edge(edge.later, edge.earlier, weight=1)
        for pair in units.aliases.items():
            for one, other in (pair, pair[::-1]):
                self._roads.add_edge(one, other, weight=0)

    def names(self, unit: str) -> frozenset[str]:
        """List all names of a unit."""
        return self._names.get(unit, frozenset({unit}))

    def knows(self, unit: str) -> bool:
        return bool(self.names(unit) & self._units)

    def distance(self, later: str, earlier: str) -> int | None:
        """Count the hops of a shortest way; None if there is none."""
        if earlier in self.names(later):
            return 0
        try:
            return int(nx.dijkstra_path_length(self._roads, later, earlier))
        except (nx.NetworkXNoPath, nx.NodeNotFound):
            return None

    def is_safe(self, caller: str, target: Target) -> bool:
        distance = self.distance(target.unit, caller)
        if distance == 0:
            return target.served is Served.BY_ITS_DEPLOYMENT
        return distance is None and self.knows(target.unit) and self.knows(caller)


def verdict(units: UnitGraph, caller: str, target: Target) -> OrderingError | None:
    """Try to prove it; None is safe."""
    try:
        assert prove(units, caller, target) == target
    except OrderingError as error:
        return error
    return None


def check(case: Case) -> None:
    units = case.graph()
    oracle = Oracle(units)
    for target in case.targets:
        error = verdict(units, case.caller, target)
        event(type(error).__name__)
        assert (error is None) == oracle.is_safe(case.caller, target)
        chain = find_chain(units, target.unit, case.caller)
        distance = oracle.distance(target.unit, case.caller)
        assert (None if chain is None else len(chain)) == distance
        if error is not None:
            assert isinstance(error, UnprovenError) == (distance is None)
        if chain:
            assert error is not None
            check_chain(case, oracle, target.unit, chain)
            check_words(error, chain)


def check_chain(case: Case, oracle: Oracle, target: str, chain: tuple[Edge, ...]) -> None:
    """Every hop is an edge of the graph, the hops join, and they lead from end to end."""
    assert chain[0].later in oracle.names(target)
    assert chain[-1].earlier in oracle.names(case.caller)
    for hop, following in pairwise(chain):
        assert hop.earlier == following.later
    given_edges = case.graph().edges
    for hop in chain:
        assert any(
            edge.later in oracle.names(hop.later)
            and edge.earlier in oracle.names(hop.earlier)
            and edge.says is hop.says
            for edge in given_edges
        )


def check_words(error: OrderingError, chain: tuple[Edge, ...]) -> None:
    """The message has every hop, in order."""
    assert error.chain == (chain[0].later, *(hop.earlier for hop in chain))
    assert chain[0].later + "".join(map(str, chain)) in error.message


@given(cases())
def test_the_verdict_is_that_of_the_oracle(case: Case) -> None:
    """Safe if and only if there is no path; the chain is a real one, and a shortest."""
    check(case)


@settings(
    max_examples=max(10, settings().max_examples // 10),
    suppress_health_check=[HealthCheck.data_too_large],  # large on purpose; 6.130 counts them
)
@given(many_units())
def test_thousands_of_units(case: Case) -> None:
    """The same with some thousand units."""
    check(case)


@given(cases(), cases())
def test_more_order_makes_nothing_safe(case: Case, more: Case) -> None:
    """Edges only take safety away: a graph that sees too much errs on the safe side."""
    units = case.graph()
    seeing_more = evolve(units, edges=units.edges + more.graph().edges)
    for target in case.targets:
        if verdict(units, case.caller, target) is not None:
            assert verdict(seeing_more, case.caller, target) is not None


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_edges_does_not_matter(case: Case, random: Random) -> None:
    """The same chain is reported for any order of the edges."""
    units = case.graph()
    edges = list(units.edges)
    random.shuffle(edges)
    for target in case.targets:
        chain = find_chain(units, target.unit, case.caller)
        assert find_chain(evolve(units, edges=tuple(edges)), target.unit, case.caller) == chain
