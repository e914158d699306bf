"""From verdicts and records to the blocks of a report."""

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from lab.judging import Verdict
from lab.machine import UnitState
from lab.pages import Block, Code, Heading, Picture, Table, Words, write
from lab.stage import EXCERPT, Record
from lab.timeline import draw

MOST: Final = 30
"""Lines of a capture that are shown ..."""
WIDEST: Final = 220
"""... and characters of a line."""
READING: Final = (
    "Every machine is booted from scratch: systemd as PID 1 in systemd-nspawn, with a network,"
    " cgroups and a Docker engine of its own, a real Swarm and a real Traefik as a service of it."
    " Its root is made anew: of the host it has the programs in /usr and the settings in /etc, less"
    " its units and Docker's, and nothing of /var, /root or any other place. Whether a unit failed"
    " is what systemd says after the first boot (`Result=`), and what came first is told by its"
    " monotonic timestamps; nothing is judged by a probe later, which the fault survives."
)
STAND_INS: Final = (
    "What stands for something else: the images of the consumers (a busybox web server that answers"
    " what each gate asks), certificates (an authority of the proof's own: ACME can't be reached),"
    " registries (images are loaded from archives), what once made the swarm and its network"
    " (`proof-swarm.service`, ordered before everything). Ports are published in host mode: the"
    " routing mesh needs IPVS, which nspawn shares with the host's kernel. The old gate is"
    " `proofs/guest/old_gate.py` and no option of the product."
)


def compose(
    title: str,
    target: str,
    words: Sequence[str],
    verdicts: Sequence[Verdict],
    records: Mapping[str, Record],
) -> list[Block]:
    """Write the whole report.

    Args:
        title: of it.
        target: of make, which checks it all again.
        words: how the machines are to be read, and what stands in for what.
        verdicts: in the order of the claims.
        records: of the machines that were booted.
    """
    now = dt.datetime.now(dt.UTC)
    failed = sum(not verdict.holds for verdict in verdicts)
    blocks: list[Block] = [
        Heading(1, title),
        Words(
            f"{len(verdicts)} claims, {failed} of them failed; {len(records)} machines,"
            f" {now:%Y-%m-%d %H:%M} UTC. Check all again with `make {target}`, or one line with the"
            " command beside it."
        ),
        *map(Words, words),
        Heading(2, "Claims"),
        Table(
            ("", "claim", "check it"),
            [
                (
                    "PASS" if v.holds else "**FAIL**",
                    f"{v.claim.sentence} ({_machines(v, records)})",
                    f"`make {target} CLAIM={v.claim.key}`",
                )
                for v in verdicts
            ],
        ),
    ]
    for verdict in verdicts:
        blocks.append(Heading(3, f"{verdict.claim.key}: {'PASS' if verdict.holds else 'FAIL'}"))
        blocks.append(Words(verdict.claim.sentence))
        rows = [("ok" if c.holds else "**no**", c.what, c.seen) for c in verdict.checks]
        blocks.append(Table(("", "what", "seen"), rows))
    blocks.append(Heading(2, "Machines"))
    for record in records.values():
        blocks += _machine(record)
    return blocks + _appendix(records)


def _machines(verdict: Verdict, records: Mapping[str, Record]) -> str:
    of_all = len(records) > 1 and set(verdict.claim.boots) == set(records)
    return "all machines" if of_all else ", ".join(verdict.claim.boots)


def save(place: Path, name: str, blocks: Sequence[Block]) -> None:
    write(place, name, blocks)


def _machine(record: Record) -> list[Block]:
    differs = "; ".join(record.differs) or "nothing"
    blocks: list[Block] = [
        Heading(3, f"{record.name}: {record.title}"),
        Words(f"{record.seconds:.1f} s in all. Other than shipped: {differs}."),
        Picture(record.name, draw(list(record.units.values())), f"{record.name}: its first boot"),
        _units("first boot, from scratch", record.units),
    ]
    for title, units in record.later.items():
        blocks.append(_units(f"later: {title}", units))
    if record.figures:
        blocks.append(Table(("measured", ""), [(k, str(v)) for k, v in record.figures.items()]))
    for capture in record.captures.values():
        blocks.append(Words(f"{capture.at:.1f} s: {capture.title}"))
        blocks.append(Code(f"{capture.command}\n{_cut(capture.text)}"))
    if record.journal:
        blocks.append(Words("Journal of the first boot, of the units above:"))
        blocks.append(Code(_cut(record.journal, EXCERPT + 1)))
    return blocks


def _cut(text: str, most: int = MOST) -> str:
    """Shorten what is too long for a reader; it says so where it does."""
    lines = [f"{line[:WIDEST]}…" if len(line) > WIDEST else line for line in text.splitlines()]
    if len(lines) > most:
        lines = [*lines[:most], f"[… {len(lines) - most} lines …]"]
    return "\n".join(lines)


def _units(title: str, units: Mapping[str, UnitState]) -> Table:
    def moment(when: float | None) -> str:
        return "never" if when is None else f"{when:.2f}"

    head = (title, "state", "exit status", "began, s", "start ended, s", "TimeoutStartSec=")
    return Table(
        head,
        [
            (
                f"`{unit.name}`",
                unit.state,
                str(unit.status) if unit.main_ended is not None else "",
                moment(unit.left_inactive),
                moment(unit.settled),
                unit.start_timeout,
            )
            for unit in units.values()
        ],
    )


def _appendix(records: Mapping[str, Record]) -> list[Block]:
    versions: dict[str, str] = {}
    hashes: dict[tuple[str, str], list[str]] = {}
    for record in records.values():
        versions |= record.versions
        for name, told in record.hashes.items():
            hashes.setdefault((name, told), []).append(record.name)
    return [
        Heading(2, "Units"),
        Words("SHA-256 of each unit in the machines; compare `sha256sum tests/golden/units/*`."),
        Table(
            ("unit", "SHA-256", "machines"),
            [
                (f"`{n}`", f"`{h.partition(' ')[0]}` {h.partition(' ')[2]}", ", ".join(m))
                for (n, h), m in sorted(hashes.items())
            ],
        ),
        Heading(2, "Versions"),
        Table(("", ""), list(versions.items())),
    ]
