"""Draws the start order of units and the probes of a gate, with refused probes in red. Pure.

Mermaid is for a README, DOT for Graphviz; both are made from one ``Picture``.
"""

import json
from collections.abc import Collection, Iterable

from attrs import evolve, frozen

from runner.reconcile.ordering import Edge, Says, Served, UnitGraph, find_chain
from runner.reconcile.probes import Probe


@frozen
class Arrow:
    """An arrow from one unit to another, with its label."""

    source: str
    dest: str
    text: str
    is_probe: bool
    is_bad: bool


@frozen
class Picture:
    """The drawing of one app: its caller, the units, and the arrows between them."""

    caller: str
    units: tuple[str, ...]
    arrows: tuple[Arrow, ...]

    def to_mermaid(self) -> str:
        """Draw it as a Mermaid flowchart; a probe is a dotted arrow."""
        names = {unit: f"u{number}" for number, unit in enumerate(self.units)}
        lines = ["flowchart LR"]
        lines += [f"    {names[unit]}[{json.dumps(unit)}]" for unit in self.units]
        lines.append(f"    style {names[self.caller]} stroke-width:3px")
        for arrow in self.arrows:
            line = "-.->" if arrow.is_probe else "-->"
            text = json.dumps(arrow.text)
            lines.append(f"    {names[arrow.source]} {line}|{text}| {names[arrow.dest]}")
        bad = [str(number) for number, arrow in enumerate(self.arrows) if arrow.is_bad]
        if bad:
            lines.append(f"    linkStyle {','.join(bad)} stroke:red,color:red")
        return "\n".join(lines)

    def to_dot(self) -> str:
        """Draw it as a Graphviz digraph; a probe is a dashed arrow."""
        lines = ["digraph units {", "    rankdir=LR;", "    node [shape=box];"]
        for unit in self.units:
            bold = " [penwidth=3]" if unit == self.caller else ""
            lines.append(f"    {json.dumps(unit)}{bold};")
        for arrow in self.arrows:
            style = "dashed" if arrow.is_probe else "solid"
            red = ", color=red, fontcolor=red" if arrow.is_bad else ""
            ends = f"{json.dumps(arrow.source)} -> {json.dumps(arrow.dest)}"
            lines.append(f"    {ends} [label={json.dumps(arrow.text)}, style={style}{red}];")
        return "\n".join([*lines, "}"])


def picture(
    graph: UnitGraph,
    caller: str,
    probes: Iterable[Probe],
    unresolved: Collection[str] = (),
    refused: Collection[str] = (),
) -> Picture:
    """Collect the probes of a gate, and every start order among the units that they concern.

    Args:
        graph: of the units.
        caller: the unit that runs the gate.
        probes: of the gate.
        unresolved: names of probes whose target unit only the config declares.
        refused: names of refused probes, also those refused for another reason than start order.
    """
    asked = tuple(probes)
    home = graph.resolve(caller)
    chains = [find_chain(graph, q.target_unit, caller) or () for q in asked]
    hops = {edge for chain in chains for edge in chain}
    targets = {graph.resolve(probe.target_unit) for probe in asked}
    concerned = {home} | targets | {unit for hop in hops for unit in (hop.later, hop.earlier)}
    units = (home, *sorted(concerned - {home}))
    orders = [
        Arrow(edge.later, edge.earlier, _edge_text(edge), is_probe=False, is_bad=edge in hops)
        for unit in units
        for edge in graph.ahead_of(unit)
        if edge.earlier in concerned and edge.earlier != unit
    ]
    arrows = [_probe(graph, home, probe, chain) for probe, chain in zip(asked, chains, strict=True)]
    marked = [
        evolve(
            arrow,
            text=arrow.text + (" (not resolved)" if probe.name in unresolved else ""),
            is_bad=arrow.is_bad or probe.name in refused,
        )
        for arrow, probe in zip(arrows, asked, strict=True)
    ]
    return Picture(home, units, (*orders, *marked))


def _probe(graph: UnitGraph, home: str, probe: Probe, chain: tuple[Edge, ...]) -> Arrow:
    target = graph.resolve(probe.target_unit)
    is_itself = probe.served is Served.BY_ITSELF and target == home
    is_bad = bool(chain) or is_itself or (target != home and not graph.knows(target))
    return Arrow(home, target, f"probe {probe.name}", is_probe=True, is_bad=is_bad)


def _edge_text(edge: Edge) -> str:
    """Label an order from the side of the later unit, where the arrow starts."""
    text = "Before= of the other" if edge.says is Says.BEFORE else edge.says.value
    return f"{text} ({edge.implied})" if edge.implied else text
