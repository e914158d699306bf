"""Parses the output of ``systemctl`` and ``systemd-analyze`` into graphs of units. No I/O.

Two of these outputs are made for people and not for programs: the dump of ``systemd-analyze
verify`` and the tree of ``list-jobs``. Their arrows and colours differ by version and locale; all
forms are accepted. Unknown lines are skipped, so the caller must check that the units it needs are
there.
"""

import re
import shlex
from collections.abc import Iterator
from typing import Final

from runner.reconcile.ordering import Edge, Says, UnitGraph
from runner.reconcile.replies import without_colours

PROPERTIES: Final = "Id,Names,LoadState,After,Before"
"""The properties that ``read_show`` needs."""

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d|w|month|y)")
_SECONDS: Final = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604_800.0,
    "month": 2_629_800.0,
    "y": 31_557_600.0,
}
"""As in systemd.time(7): a month is 30.44 days, a year 365.25."""

_SECTION: Final = re.compile(r"\t\S+ Unit (\S+):")
"""The arrow is ``->``, or ``→`` from systemd 256 on."""
_LIMIT: Final = re.compile(r"\t\tTimeoutStartSec: (.+)")
_FIELD: Final = re.compile(r"\t\t(Alias|Name|Unit Load State|After|Before): (\S+)(?: \((.*)\))?")
_JOB: Final = re.compile(r"\d+\s+(\S+)\s+\S+\s+\S+\s*")
_WAITS: Final = re.compile(r"\W+waiting for job \d+ \((\S+)/[\w-]+\)")


def read_dump(text: str) -> UnitGraph:
    """Read the dump of units that ``systemd-analyze verify`` prints at log level debug.

    It has the origin of each edge: ``origin-file`` is set in this unit's files, and
    ``destination-default`` is implied by the type of the other unit.
    """
    units: set[str] = set()
    edges: set[Edge] = set()
    aliases: dict[str, str] = {}
    unit = ""
    for line in text.splitlines():
        if section := _SECTION.fullmatch(line):
            unit = section[1]
        elif unit and (found := _FIELD.fullmatch(line)):
            match found[1]:
                case "After" | "Before" as says:
                    edges.update(_dumped(unit, Says(f"{says}="), found[2], found[3] or ""))
                case "Unit Load State" if found[2] == "loaded":
                    units.add(unit)
                case "Alias" | "Name" if found[2] != unit:
                    aliases[found[2]] = unit
                case _:
                    pass
    return UnitGraph(frozenset(units), tuple(edges), aliases)


def dumped_names(text: str) -> frozenset[str]:
    """List the units that have a section in a dump, and the units that these are ordered with."""
    sections = {found[1] for line in text.splitlines() if (found := _SECTION.fullmatch(line))}
    edges = read_dump(text).edges
    return frozenset(sections.union(*({edge.later, edge.earlier} for edge in edges)))


def read_start_limits(text: str) -> dict[str, float | None]:
    """Read ``TimeoutStartSec=`` of each unit in the same dump, in seconds; None: no limit."""
    limits: dict[str, float | None] = {}
    unit = ""
    for line in text.splitlines():
        if section := _SECTION.fullmatch(line):
            unit = section[1]
        elif unit and (found := _LIMIT.fullmatch(line)):
            limits[unit] = read_span(found[1])
    return limits


def _dumped(unit: str, says: Says, other: str, reasons: str) -> Iterator[Edge]:
    later, earlier = (unit, other) if says is Says.AFTER else (other, unit)
    inverse = Says.BEFORE if says is Says.AFTER else Says.AFTER
    for reason in reasons.split() or ["origin-file"]:
        side, _, kind = reason.partition("-")
        said = inverse if side == "destination" else says
        yield Edge(later, earlier, said, "" if kind == "file" else kind)


def read_dependencies(text: str) -> tuple[str, ...]:
    """Read ``systemctl list-dependencies --plain``: the unit itself and its dependencies."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def read_show(text: str) -> UnitGraph:
    """Read ``systemctl show`` of several units.

    systemd lists each edge at both units, without the side that sets it: an edge between two of
    these units is always returned as ``After=``, too.

    Raises:
        ValueError: a quotation is not closed.
    """
    units: set[str] = set()
    edges: set[Edge] = set()
    aliases: dict[str, str] = {}
    for block in text.split("\n\n"):
        shown: dict[str, str] = {}
        for line in block.splitlines():
            name, _, value = line.partition("=")
            shown[name] = value
        if not (unit := shown.get("Id")):
            continue
        if shown.get("LoadState") == "loaded":
            units.add(unit)
        # A name with a backslash is quoted as in C, except in Id.
        aliases |= {name: unit for name in shlex.split(shown.get("Names", "")) if name != unit}
        edges |= {Edge(unit, other) for other in shlex.split(shown.get("After", ""))}
        edges |= {Edge(other, unit, Says.BEFORE) for other in shlex.split(shown.get("Before", ""))}
    return UnitGraph(frozenset(units), tuple(edges), aliases)


def read_jobs(text: str) -> UnitGraph:
    """Read ``systemctl list-jobs --before``: an edge for each job that waits for another now."""
    units: set[str] = set()
    edges: list[Edge] = []
    unit = ""
    for line in without_colours(text).splitlines():
        if job := _JOB.fullmatch(line):
            unit = job[1]
            units.add(unit)
        elif unit and (waits := _WAITS.match(line)):
            edges.append(Edge(unit, waits[1], Says.WAITS))
    return UnitGraph(frozenset(units), tuple(edges))


def read_span(text: str) -> float | None:
    """Read a time span as systemd prints it (``1min 30s``), in seconds; None for infinity.

    A word that can't be parsed counts as 0 s, so the limit is never taken for a longer one.
    """
    if text == "infinity":
        return None
    parts = [_SPAN.fullmatch(word) for word in text.split()]
    return sum(float(part[1]) * _SECONDS[part[2]] if part else 0.0 for part in parts)
