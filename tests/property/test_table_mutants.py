"""Mutation test of the table: drop or redirect every row, and see that a story fails.

Mutation tools change function bodies and never a table. A test that reads TABLE can't find a
mistake in it either; these mutants are run through the stories, which know the right answers.
"""

import pytest
from test_outcomes import STORIES, deviation_of

from runner.reconcile.errors import InternalError
from runner.reconcile.machine import TABLE, Row, State

EQUIVALENT: dict[tuple[str, str, str], str] = {}
"""Mutants without a visible effect, as (trigger, source, new dest) with the reason."""


def mutants(row: Row) -> list[tuple[str, tuple[Row, ...]]]:
    """Make the table without the row, and with the row leading to every other state."""
    place = TABLE.index(row)
    dropped = ("dropped", (*TABLE[:place], *TABLE[place + 1 :]))
    redirected = [
        (state.name, (*TABLE[:place], Row(row.on, row.source, state), *TABLE[place + 1 :]))
        for state in State
        if state is not row.dest
    ]
    return [dropped, *redirected]


def is_noticed(table: tuple[Row, ...]) -> bool:
    """Return whether a story ends otherwise than expected, or the program raises."""
    for story in STORIES:
        try:
            if deviation_of(story, table):
                return True
        except InternalError:
            return True
    return False


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.on.name} in {row.source.name}")
def test_every_mutant_of_a_row_is_noticed(row: Row) -> None:
    """For each change of a row a story fails; or the reason why not is listed."""
    survivors = {
        name: EQUIVALENT.get((row.on.name, row.source.name, name))
        for name, table in mutants(row)
        if not is_noticed(table)
    }
    assert [name for name, reason in survivors.items() if reason is None] == []


def test_the_true_table_is_not_noticed() -> None:
    """The stories all hold for the table as it is: the alarm is not always on."""
    assert not is_noticed(TABLE)
