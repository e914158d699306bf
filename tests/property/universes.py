"""The universes of the exhaustive search, and the page about what it covered.

``make search`` explores all of them and writes the page; it takes some ten minutes.
``test_exhaustive.py`` holds that the page is right.
"""

import sys
from pathlib import Path
from typing import Final

from explorer import Found, Node, Settings, Universe, explore, longest_run
from fake_platform import Disk
from promises import AGAIN, GOOD, NEW, OLD, OLDER, OLDEST, check

from runner.reconcile.machine import TABLE, State
from runner.reconcile.model import LatestUnknown, Release

PAGE: Final = Path(__file__).parents[2] / "docs" / "evidence" / "search.md"
OFFLINE = LatestUnknown("offline")


def start(*proven: Release) -> Node:
    return Node(disk=Disk(proven=proven), live=None)


STARTS = (start(), start(OLD), start(GOOD, OLD))
"""A first boot, one proven release, and two."""

SMALL_NAME = "two candidates"
SMALL = Universe((NEW, GOOD, OFFLINE), STARTS)
DEEPER: Final = {
    "the source goes back to older releases": Universe((NEW, GOOD, OLD, OFFLINE), STARTS[2:]),
    "forced and unforced runs in turn": Universe(
        (NEW, GOOD, OFFLINE), STARTS, settings=(Settings(), Settings(forced=True))
    ),
    "someone else deploys": Universe((NEW, GOOD, OFFLINE), STARTS, others=(NEW, GOOD)),
    "two candidates under one label, of which someone else deploys one": Universe(
        (NEW, AGAIN), STARTS[1:2], others=(AGAIN,)
    ),
    "four proven releases, of which three are kept; depth 1 to 3": Universe(
        (NEW, OFFLINE),
        (start(GOOD, OLD, OLDER, OLDEST),),
        settings=tuple(Settings(depth=depth) for depth in (1, 2, 3)),
        kept=3,
    ),
}


def row(name: str, found: Found) -> str:
    """Write one line of the page."""
    steps = longest_run(found)
    return f"| {name} | {len(found.parents):,} | {found.edges:,} | {steps} |"


def page(rows: list[str]) -> str:
    lines = "\n".join(rows)
    return f"""\
# What the exhaustive search covers

<!-- Written by `make search`. -->

Every moment that can be reached in these universes, with every choice of events at each step:
every answer of a probe, every way in which a deployment can end, Docker out of reach, and the
power cut before and after every write. Two moments are one if all their fields are equal but for
what the table `ABSTRACTIONS` of `tests/property/explorer.py` lists. Each step is held against the
promises S1 to S4 (`tests/property/promises.py`), every run ends (L1), and from every moment between
two runs undisturbed ones lead to a proven release that serves (L2).

| universe | moments | steps | steps of the longest run |
|---|---|---|---|
{lines}

The universes are in `tests/property/universes.py`. Each of the {len(TABLE)} rows of the table of
states is also dropped and led to each other state, {len(TABLE) * len(State)} mutants in all:
`tests/property/test_table_mutants.py` notices each.
"""


def main() -> int:
    rows: list[str] = []
    for name, universe in {SMALL_NAME: SMALL, **DEEPER}.items():
        found = explore(universe, check)
        print(found.violation or row(name, found), *found.trace, sep="\n", flush=True)  # noqa: T201
        if found.violation:
            return 1
        rows.append(row(name, found))
    PAGE.write_text(page(rows), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
