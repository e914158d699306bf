"""Journal entries and text. Total in both directions, and strict: an unknown word is refused."""

import json
from collections.abc import Iterable
from typing import Any, cast

import cattrs
from attrs import frozen
from cattrs.errors import BaseValidationError, ForbiddenExtraKeysError
from cattrs.strategies import configure_tagged_union

from runner.reconcile.attempt import Attempt, Entry, remember
from runner.reconcile.errors import JournalError
from runner.reconcile.machine import State
from runner.reconcile.steps import Assess, ChooseFallback, Verify
from runner.reconcile.vocabulary import Verdict

_TAG = "is"


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    configure_tagged_union(Verdict, converter, tag_name=_TAG)
    configure_tagged_union(Entry, converter, tag_name=_TAG)
    return converter


_converter = _make_converter()

LOOKS = (Assess, Verify, ChooseFallback)
"""The effects that touch nothing: they need no write-ahead record of their own."""


@frozen
class Record:
    """One line of a journal: the entry, and the state in which it was written."""

    state: State
    entry: Entry


def to_text(entry: Entry) -> str:
    """Write the entry as one line of JSON."""
    data = _converter.unstructure(entry, unstructure_as=Entry)
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def from_text(text: str) -> Entry:
    """Read an entry.

    Raises:
        JournalError: the text is none, or uses a word that this version does not know.
    """
    try:
        data: Any = json.loads(text)
        return cast("Entry", _converter.structure(data, cast("Any", Entry)))
    except (
        BaseValidationError,
        ForbiddenExtraKeysError,
        json.JSONDecodeError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:
        raise JournalError(
            f"an entry of the journal can't be read: {text[:120]}",
            hint="a newer version may have written it; nothing was changed",
        ) from error


def state_from_text(word: str) -> State:
    """Read a state.

    Raises:
        JournalError: this version does not know the word; it is never read as IDLE.
    """
    try:
        return State(word)
    except ValueError as error:
        raise JournalError(
            f"the journal names a state that this version does not know: {word!r}",
            hint="a newer version may have written it; nothing was changed",
        ) from error


def replay(attempt_id: str, entries: Iterable[Entry]) -> Attempt:
    """Fold the entries of an attempt into what it remembers."""
    attempt = Attempt(attempt_id)
    for entry in entries:
        attempt = remember(attempt, entry)
    return attempt
