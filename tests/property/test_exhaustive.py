"""All of it: every state, every event, the power cut around every write, and every restart."""

from collections.abc import Callable

import pytest
from explorer import Node, Result, Universe, explore
from promises import GOOD, NEW, OLD, check
from worlds import Disk

from runner.reconcile.machine import TABLE, State
from runner.reconcile.vocabulary import LatestUnknown

OFFLINE = LatestUnknown("offline")
STARTS = tuple(Node(disk=Disk(proven=proven), live=None) for proven in ((), (OLD,), (GOOD, OLD)))
"""A first boot, one proven release, and two."""


Record = Callable[[str, object], None]


def assert_holds(result: Result, record: Record) -> None:
    seen = f"{len(result.states)} states, {len(result.rows)} pairs of them"
    record("covered", f"{result.nodes:,} moments, {result.edges:,} steps, {seen}")
    assert not result.violation, "\n".join((result.violation, *result.trace))
    assert result.states == set(State)
    assert result.rows == {(row.source, row.dest) for row in TABLE}


def test_nothing_that_can_happen_breaks_a_promise(record_property: Record) -> None:
    """S1 to S4 hold after every step of every run that can follow from every start."""
    assert_holds(explore(Universe((NEW, GOOD, OFFLINE), STARTS), check), record_property)


@pytest.mark.slow
@pytest.mark.timeout(7200)  # a few hundred thousand moments, beside other tests
def test_nor_when_the_source_goes_back(record_property: Record) -> None:
    """The same where the source may offer an older proven release as its latest, too."""
    assert_holds(explore(Universe((NEW, GOOD, OLD, OFFLINE), STARTS), check), record_property)


def test_the_search_finds_what_is_wrong() -> None:
    """A table that commits what failed its gate is caught, with the way there."""
    broken = tuple(
        type(row)(row.on, row.source, State.COMMITTING)
        if (row.source, row.on.name) == (State.GATING, "FAILED")
        else row
        for row in TABLE
    )
    result = explore(Universe((NEW,), STARTS, table=broken), check)
    assert "no healthy verdict" in result.violation
    assert any("fail" in line for line in result.trace)
