"""Journal entries and text. Total in both directions, and strict: an unknown word is refused."""

import json
from collections.abc import Callable, Iterable
from typing import Any, cast, get_origin

import cattrs
from attrs import frozen
from cattrs.cols import homogenous_tuple_structure_factory
from cattrs.errors import BaseValidationError
from cattrs.strategies import configure_tagged_union

from runner.reconcile.attempt import Attempt, Entry, remember
from runner.reconcile.errors import JournalError
from runner.reconcile.machine import State
from runner.reconcile.steps import Assess, ChooseFallback, Verify
from runner.reconcile.vocabulary import Verdict

_TAG = "is"
_Hook = Callable[[Any, Any], Any]


def _only_from(*kinds: type, then: _Hook = lambda value, _: value) -> _Hook:
    """Take what was written as one of ``kinds``; cattrs by itself would convert the rest."""

    def hook(value: Any, into: Any) -> Any:  # noqa: ANN401 - hooks get anything
        if type(value) not in kinds:
            raise TypeError(value)
        return then(value, into)

    return hook


def _is_tuple(annotation: object) -> bool:
    return get_origin(annotation) is tuple


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)

    def several(into: Any) -> _Hook:  # noqa: ANN401 - a type form
        return _only_from(list, then=homogenous_tuple_structure_factory(into, converter))

    for plain in (str, bool, int):
        converter.register_structure_hook(plain, _only_from(plain))
    converter.register_structure_hook(float, _only_from(float, int))
    converter.register_structure_hook_factory(_is_tuple, several)
    for union in (Verdict, Entry):
        configure_tagged_union(union, converter, tag_name=_TAG)
    return converter


_converter = _make_converter()

LOOKS = (Assess, Verify, ChooseFallback)
"""The effects that touch nothing: they need no write-ahead record of their own."""


@frozen
class Record:
    """One line of a journal: the entry, and when and in which state it was written."""

    at: float
    """Unix time, seconds."""
    state: State
    entry: Entry


_UNREADABLE = (
    *(BaseValidationError, AttributeError, KeyError, TypeError),  # JSON, and no entry
    *(ValueError, RecursionError),  # no JSON, or a number or a nesting of thousands
)


def to_text(entry: Entry) -> str:
    """Write the entry as one line of JSON, in ASCII: a reason may quote what UTF-8 has not."""
    return json.dumps(_converter.unstructure(entry, unstructure_as=Entry), separators=(",", ":"))


def from_text(text: str) -> Entry:
    """Read an entry.

    Raises:
        JournalError: the text is none, or uses a word that this version does not know.
    """
    try:
        data: Any = json.loads(text)
        return cast("Entry", _converter.structure(data, cast("Any", Entry)))
    except _UNREADABLE as error:
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
