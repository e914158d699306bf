"""The output of systemd 252, 257 and 262 about the same units gives the same graph.

The recordings are those of Debian 12, 13 and sid. Colours, arrows and the order of lines and fields
differ between them; systemd's own units do, too, so only the edges between ours are compared.
"""

import pytest
from recorded import Systemctl, read_recording

from runner.reconcile.ordering import Edge, Says, UnitGraph, find_chain
from runner.systemd.graph import query_start_timeout
from runner.systemd.parse import (
    dumped_names,
    read_dependencies,
    read_dump,
    read_jobs,
    read_show,
    read_start_limits,
)

VERSIONS = (252, 257, 262)
PROXY = "deploy-proxy.service"
DASHBOARD = "deploy-dashboard.service"
LATE = "late.service"
BRIDGE = "bridge.service"
CONSUMER = "consumer.service"
READY = "ready.target"
COLD = "cold.target"
INSTANCE = r"inst@a\x2db.service"
ANY = "inst@any.service"
LONG = (
    "this-is-a-unit-with-a-very-long-name-indeed-so-long-that-no-terminal-of-eighty-columns-can"
    "-show-it-in-one-line.service"
)
OURS = {
    *(PROXY, DASHBOARD, LATE, BRIDGE, CONSUMER, READY, COLD, INSTANCE, ANY, LONG),
    *("sock.socket", "t.timer"),
}
ORDER = {
    (READY, PROXY),
    (LONG, PROXY),
    (DASHBOARD, READY),
    (INSTANCE, PROXY),
    (ANY, PROXY),
    (BRIDGE, INSTANCE),
    (LATE, BRIDGE),
    (CONSUMER, DASHBOARD),
    (CONSUMER, "sock.socket"),
    (CONSUMER, "t.timer"),
    *((COLD, unit) for unit in (PROXY, DASHBOARD, LONG, READY)),
}


def of(version: int, name: str) -> str:
    return read_recording(f"systemd-{version}/{name}.txt")


def pairs(units: UnitGraph, among: set[str]) -> set[tuple[str, str]]:
    return {(edge.later, edge.earlier) for edge in units.edges} & {
        (later, earlier) for later in among for earlier in among
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("form", ["dump", "dump-utf8"])
def test_a_dump(version: int, form: str) -> None:
    """From systemd 256 on the arrow before a unit differs in a UTF-8 locale."""
    text = of(version, form if version > 252 else "dump")
    units = read_dump(text)
    assert units.units == OURS
    assert units.aliases == {"dash.service": DASHBOARD}
    assert pairs(units, OURS) == ORDER
    assert {
        Edge(DASHBOARD, READY),
        Edge(CONSUMER, "t.timer", Says.BEFORE),
        Edge(COLD, PROXY, implied="default"),
        Edge("multi-user.target", CONSUMER, Says.BEFORE),
        Edge(CONSUMER, "ghost.service"),
    } <= set(units.edges)
    assert dumped_names(text) > OURS
    chain = find_chain(units, LATE, PROXY)
    assert chain is not None
    assert [edge.earlier for edge in chain] == [BRIDGE, INSTANCE, PROXY]


@pytest.mark.parametrize("version", VERSIONS)
def test_start_limits(version: int) -> None:
    """The limits of each unit are read; a oneshot without a limit gives None."""
    limits = read_start_limits(of(version, "dump"))
    assert (limits[PROXY], limits[DASHBOARD], limits[BRIDGE]) == (900.0, 90.0, None)


@pytest.mark.parametrize("version", VERSIONS)
def test_show(version: int) -> None:
    """Fields, and names within them, are read in any order."""
    units = read_show(of(version, "show"))
    assert units.units == {LATE, BRIDGE, INSTANCE, PROXY, DASHBOARD, READY}
    assert units.aliases == {"dash.service": DASHBOARD}
    known = {LATE, BRIDGE, INSTANCE, PROXY, DASHBOARD, READY, COLD, LONG}
    shown = ORDER - {(COLD, LONG)}  # neither was asked for
    assert pairs(units, known) == {(a, b) for a, b in shown if {a, b} <= known}


@pytest.mark.parametrize("version", VERSIONS)
def test_dependencies(version: int) -> None:
    """The unit of the query is first."""
    names = read_dependencies(of(version, "list-dependencies"))
    assert names[:4] == (LATE, BRIDGE, INSTANCE, PROXY)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("form", ["list-jobs", "list-jobs-utf8"])
def test_jobs(version: int, form: str) -> None:
    """The queue of a boot, in a table with and without box drawing and colours."""
    units = read_jobs(of(version, form))
    assert units.units == {PROXY, DASHBOARD, LONG, READY, COLD}
    assert set(units.edges) == {
        Edge(LONG, PROXY, Says.WAITS),
        Edge(DASHBOARD, READY, Says.WAITS),
        Edge(READY, PROXY, Says.WAITS),
        *(Edge(COLD, unit, Says.WAITS) for unit in (PROXY, DASHBOARD, LONG, READY)),
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_timeouts(systemctl_says: Systemctl, version: int) -> None:
    """Time spans are read from all versions; a target and an unknown unit give None."""
    found: list[float | None] = []
    for block in of(version, "timeouts").split("\n\n"):
        systemctl_says(show=block)
        found.append(query_start_timeout(PROXY))
    assert found == [900.0, 90.0, None, None, None]
