"""What systemd and systemctl print about units, read into graphs. Pure.

Two of these texts are made for eyes and not for programs: the dump of ``systemd --test`` and the
tree of ``list-jobs``. Lines that are not understood are passed over, so whoever reads them must
look for what has to be there.
"""

import re
import shlex
from collections.abc import Iterator
from typing import Final

from runner.reconcile.ordering import Edge, Says, UnitGraph

PROPERTIES: Final = "Id,Names,LoadState,After,Before"
"""What ``read_show`` wants to be told."""

_SECTION: Final = re.compile(r"\t-> Unit (\S+):")
_FIELD: Final = re.compile(r"\t\t(Alias|Name|Unit Load State|After|Before): (\S+)(?: \((.*)\))?")
_JOB: Final = re.compile(r"\d+\s+(\S+)\s+\S+\s+\S+\s*")
_WAITS: Final = re.compile(r"\W+waiting for job \d+ \((\S+)/[\w-]+\)")


def read_dump(text: str) -> UnitGraph:
    """Read the dump of ``systemd --test``.

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
    for line in text.splitlines():
        if job := _JOB.fullmatch(line):
            unit = job[1]
            units.add(unit)
        elif unit and (waits := _WAITS.match(line)):
            edges.append(Edge(unit, waits[1], Says.WAITS))
    return UnitGraph(frozenset(units), tuple(edges))
