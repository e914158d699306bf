"""Measurement 5: what does the proof cost that no probe waits for its caller?"""

import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import networkx as nx
from apps import Bench
from costs import cost
from rows import BenchError, Row, Section, milliseconds

from runner.reconcile.errors import OrderingError
from runner.reconcile.ordering import Edge, Target, UnitGraph, prove

UNITS: Final = 10_000
EDGES: Final = 100_000
FIRST: Final = "u0.service"
LAST: Final = f"u{UNITS - 1}.service"
NIX: Final = Path(__file__).parents[1] / "nix" / "lib" / "ordering.nix"


def measure(bench: Bench, times: int) -> Section:
    """Prove a target safe, refuse one, and ask the same of networkx and Nix, alternately."""
    edges = _edges()
    names = frozenset(f"u{number}.service" for number in range(UNITS))
    tasks: dict[str, Callable[[], None]] = {
        "networkx: make the graph, `has_path`": lambda: _with_networkx(edges),
        "safe: make the graph, `prove`": lambda: _safe(UnitGraph(names, edges)),
        "refused: make the graph, `prove`": lambda: _refused(UnitGraph(names, edges)),
    }
    if nix := shutil.which("nix-instantiate"):
        command = _nix_command(nix, names, edges, bench.scratch / "units.json")
        tasks["safe: a whole `nix-instantiate`"] = lambda: _discard(cost(command, {}))
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(times):
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            found[name].append(time.perf_counter() - began)
    return Section(
        f"The proof of order, {UNITS:,} units and {EDGES:,} edges",
        "A random graph without circles, always the same; the target is its last unit. In the safe"
        " case the caller has no edge, so everything that the target waits for is searched; in the"
        " other it is the first unit that has one.",
        _rows(found),
    )


def _edges() -> tuple[Edge, ...]:
    """Order random pairs; the first unit stays out of it."""
    random.seed(1)
    pairs = (random.sample(range(1, UNITS), 2) for _ in range(EDGES))
    return tuple(Edge(f"u{max(pair)}.service", f"u{min(pair)}.service") for pair in pairs)


def _with_networkx(edges: tuple[Edge, ...]) -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node(FIRST)
    graph.add_edges_from((edge.later, edge.earlier) for edge in edges)
    if nx.has_path(graph, LAST, FIRST):
        raise BenchError("networkx finds a way that is not there")


def _safe(units: UnitGraph) -> None:
    prove(units, FIRST, Target(LAST))


def _refused(units: UnitGraph) -> None:
    try:
        prove(units, "u1.service", Target(LAST))
    except OrderingError:
        return
    raise BenchError("a target that waits for its caller was found safe")


def _nix_command(
    nix: str, names: frozenset[str], edges: tuple[Edge, ...], place: Path
) -> list[str]:
    after: dict[str, list[str]] = {name: [] for name in sorted(names)}
    for edge in edges:
        after[edge.later].append(edge.earlier)
    units = {name: {"after": others} for name, others in after.items()}
    place.write_text(json.dumps({"units": units, "caller": FIRST, "targets": [{"unit": LAST}]}))
    expression = f"import {NIX} (builtins.fromJSON (builtins.readFile {place}))"
    return [nix, "--store", "dummy://", "--eval", "--strict", "--json", "--expr", expression]


def _discard(_: object) -> None:
    """Keep the time that was measured here, as for the other rows."""


def _rows(found: dict[str, list[float]]) -> tuple[Row, ...]:
    rows: list[Row] = []
    for name, seconds in found.items():
        meaning = "From the list of edges to the answer, in a process that runs already."
        if "nix" in name:
            meaning = "From the start of the process until it was reaped; it reads JSON."
        floor = rows[0] if rows else None
        rows.append(Row(name, meaning, milliseconds(seconds), floor=floor))
    return tuple(rows)
