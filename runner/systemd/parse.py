"""What systemd and systemctl print about units, read into graphs. Pure.

Two of these texts are made for people and not for programs: the dump of ``systemd-analyze verify``
and the tree of ``list-jobs``. Their arrows and colours differ by version and locale: all are read.
Lines that are not understood are skipped, so the caller must check that what it needs is there.
"""

import re
import shlex
from collections.abc import Iterator
from typing import Final

from runner.reconcile.ordering import Edge, Says, UnitGraph
from runner.reconcile.replies import without_colours

PROPERTIES: Final = "Id,Names,LoadState,After,Before"
"""What ``read_show`` wants to be told."""

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
"""As systemd.time(7) has them, a month of 30.44 days and a year of 365.25 included."""

_SECTION: Final = re.compile(r"\t\S+ Unit (\S+):")
"""The arrow is ``->``, or ``→`` from systemd 256 on."""
_LIMIT: Final = re.compile(r"\t\tTimeoutStartSec: (.+)")
_FIELD: Final = re.compile(r"\t\t(Alias|Name|Unit Load State|After|Before): (\S+)(?: \((.*)\))?")
_JOB: Final = re.compile(r"\d+\s+(\S+)\s+\S+\s+\S+\s*")
_WAITS: Final = re.compile(r"\W+waiting for job \d+ \((\S+)/[\w-]+\)")


def read_dump(text: str) -> UnitGraph:
    """Read the dump of units that ``systemd-analyze verify`` prints at log level debug.

    It tells where each edge comes from: ``origin-file`` is said by this unit's files, and
    ``destination-default`` is implied by the nature of the other unit.
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
    """List the units that a dump has a section of, and those that they are ordered with."""
    sections = {found[1] for line in text.splitlines() if (found := _SECTION.fullmatch(line))}
    edges = read_dump(text).edges
    return frozenset(sections.union(*({edge.later, edge.earlier} for edge in edges)))


def read_start_limits(text: str) -> dict[str, float | None]:
    """Read from the same dump how long each unit may take to start, in seconds; None: for ever."""
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
    """Read ``systemctl list-dependencies --plain``: the unit that was asked for, and the others."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def read_show(text: str) -> UnitGraph:
    """Read ``systemctl show`` of several units.

    systemd lists each order with both units, whichever of them says it: so every edge that it
    tells of both reads as ``After=`` here.

    Raises:
        ValueError: a quotation is not closed.
    """
    units: set[str] = set()
    edges: set[Edge] = set()
    aliases: dict[str, str] = {}
    for block in text.split("\n\n"):
        told: dict[str, str] = {}
        for line in block.splitlines():
            name, _, value = line.partition("=")
            told[name] = value
        if not (unit := told.get("Id")):
            continue
        if told.get("LoadState") == "loaded":
            units.add(unit)
        # Quoted as in C where a name has a backslash; Id alone never is.
        aliases |= {name: unit for name in shlex.split(told.get("Names", "")) if name != unit}
        edges |= {Edge(unit, other) for other in shlex.split(told.get("After", ""))}
        edges |= {Edge(other, unit, Says.BEFORE) for other in shlex.split(told.get("Before", ""))}
    return UnitGraph(frozenset(units), tuple(edges), aliases)


def read_jobs(text: str) -> UnitGraph:
    """Read ``systemctl list-jobs --before``: whose job waits for whose, at this moment."""
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

    Whatever else it is that can't be read is no bound that anybody could keep to: 0.
    """
    if text == "infinity":
        return None
    parts = [_SPAN.fullmatch(word) for word in text.split()]
    return sum(float(part[1]) * _SECONDS[part[2]] if part else 0.0 for part in parts)
