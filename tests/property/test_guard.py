"""No probe that can wait for its caller, or declares a wrong unit, gets past the preconditions."""

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from test_ordering import Oracle
from unit_graphs import NAMES, Case, cases

from runner.platforms.swarm.traefik_routers import Router, Table, TableUnknown
from runner.preconditions import clear
from runner.reconcile.errors import OrderingError
from runner.reconcile.ordering import SafeUnit, Served, Target, prove
from runner.reconcile.probes import Http, Identity, Probe, Tcp, TraefikPing, UnitActive

HOSTS = ("a.test", "b.test", "c.test")
UNITS = tuple(name for name in NAMES if name.endswith((".service", ".socket")))


KINDS = ("tcp", "unit", "address", "name", "ping", "who")


def probe(kind: str, name: str, unit: str, host: str) -> Probe:
    """Make a probe of an address, a unit, or a host name."""
    match kind:
        case "tcp":
            return Tcp(name=name, target_unit=unit, address="127.0.0.1:1")
        case "unit":
            return UnitActive(name=name, target_unit=unit)
        case "ping":
            return TraefikPing(name=name, target_unit=unit, url="http://127.0.0.1/")
        case "who":
            return Identity(name=name, target_unit=unit, url="http://127.0.0.1/")
        case _:
            asked = host if kind == "name" else "127.0.0.1"
            return Http(name=name, target_unit=unit, url=f"http://{asked}/")


@st.composite
def gates(draw: st.DrawFn) -> tuple[Probe, ...]:
    """Draw a gate of a few probes."""
    kinds, units, hosts = (st.sampled_from(some) for some in (KINDS, UNITS, HOSTS))
    drawn = draw(st.lists(st.tuples(kinds, units, hosts), min_size=1, max_size=3))
    return tuple(probe(kind, f"q{n}", unit, host) for n, (kind, unit, host) in enumerate(drawn))


@st.composite
def tables(draw: st.DrawFn) -> Table | TableUnknown:
    """Draw routers: each name leads to at most one unit."""
    routed = draw(st.none() | st.dictionaries(st.sampled_from(HOSTS), st.sampled_from(UNITS)))
    if routed is None:
        return TableUnknown("no table")
    routers = [
        Router(
            name=f"{host}@swarm",
            rule=f"Host(`{host}`)",
            service=f"{host}@swarm",
            priority=1,
            entrypoints=frozenset({"web"}),
            has_tls=False,
        )
        for host in routed
    ]
    return Table(tuple(routers), {host: frozenset({u}) for host, u in routed.items()}, "")


def is_safe(case: Case, table: Table | TableUnknown, gate: tuple[Probe, ...], asked: Probe) -> bool:
    """Decide it independently: by networkx, and by the drawn routers."""
    by_deployment = not isinstance(asked, UnitActive)
    if isinstance(asked, Http) and "127.0.0.1" not in asked.url:
        declared = frozenset({asked.target_unit})
        host = asked.url.removeprefix("http://").removesuffix("/")
        if isinstance(table, Table) and table.owners.get(host, declared) != declared:
            return False
        by_deployment = not any(isinstance(q, TraefikPing | Identity) for q in gate)
    served = Served.BY_ITS_DEPLOYMENT if by_deployment else Served.BY_ITSELF
    return Oracle(case.graph()).is_safe(case.caller, Target(asked.target_unit, served))


@given(cases(), gates(), tables())
def test_all_or_nothing_and_only_what_is_safe(
    case: Case, gate: tuple[Probe, ...], table: Table | TableUnknown
) -> None:
    """The cleared probes are safe by the oracle's judgement; one bad probe refuses all."""
    units = case.graph()

    def prove_there(caller: str, target: Target) -> SafeUnit:
        return prove(units, caller, target)

    safe = [is_safe(case, table, gate, asked) for asked in gate]
    event("cleared" if all(safe) else "refused")
    if all(safe):
        cleared = clear(case.caller, gate, prove_there, table=table)
        assert tuple(each.probe for each in cleared) == gate
        assert all(each.unit.unit == each.probe.target_unit for each in cleared)
    else:
        with pytest.raises(OrderingError) as caught:
            clear(case.caller, gate, prove_there, table=table)
        told = [f"\n  probe {asked.name}: " in caught.value.message for asked in gate]
        assert told == [not each for each in safe]
