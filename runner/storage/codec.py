"""Converts journal entries and records to JSON text and back, with the names of ``disk_names.py``.

Total in both directions, and strict: an unknown word is refused.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast, get_origin

import attrs
import cattrs
from attrs import frozen
from cattrs.cols import homogenous_tuple_structure_factory
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.strategies import configure_tagged_union

from runner.reconcile.attempt import Attempt, Entry, remember
from runner.reconcile.errors import JournalError
from runner.reconcile.events import Assess, ChooseFallback, Verify
from runner.reconcile.machine import State
from runner.reconcile.model import Deployment, Outcome, Verdict
from runner.storage.disk_names import ANSWERS, CLASSES, STATES, TAG
from runner.storage.records import Record as SwarmRecord

_T = TypeVar("_T", bound=Deployment | SwarmRecord)
_Hook = Callable[[Any, Any], Any]
_STATES = {word: state for state, word in STATES.items()}
_ANSWERS = {word: answer for answer, word in ANSWERS.items()}


def _only_from(*kinds: type, then: _Hook = lambda value, _: value) -> _Hook:
    """Take what was written as one of ``kinds``; cattrs by itself would convert the rest."""

    def hook(value: Any, into: Any) -> Any:  # noqa: ANN401 - hooks get anything
        if type(value) not in kinds:
            raise TypeError(value)
        return then(value, into)

    return hook


def _is_tuple(annotation: object) -> bool:
    return get_origin(annotation) is tuple


def _renamed(kind: type) -> dict[str, Any]:
    keys = CLASSES[kind].keys
    return {field.name: override(rename=keys[field.name]) for field in attrs.fields(kind)}


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)

    def write(kind: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - a class
        return make_dict_unstructure_fn(kind, converter, **_renamed(kind))

    def read(kind: Any) -> _Hook:  # noqa: ANN401 - a class
        return make_dict_structure_fn(
            kind, converter, _cattrs_forbid_extra_keys=True, **_renamed(kind)
        )

    def several(into: Any) -> _Hook:  # noqa: ANN401 - a type form
        return _only_from(list, then=homogenous_tuple_structure_factory(into, converter))

    for plain in (str, bool, int):
        converter.register_structure_hook(plain, _only_from(plain))
    converter.register_structure_hook(float, _only_from(float, int))
    converter.register_structure_hook_factory(_is_tuple, several)
    converter.register_unstructure_hook(Outcome, ANSWERS.__getitem__)
    converter.register_structure_hook(Outcome, _only_from(str, then=lambda word, _: _ANSWERS[word]))
    converter.register_unstructure_hook_factory(attrs.has, write)
    converter.register_structure_hook_factory(attrs.has, read)
    for union in (Verdict, Entry):
        configure_tagged_union(
            union, converter, tag_name=TAG, tag_generator=lambda kind: CLASSES[kind].tag
        )
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
    return json.dumps(to_data(entry), separators=(",", ":"))


def to_data(entry: Entry) -> dict[str, Any]:
    """Write the entry as what JSON can hold."""
    return cast("dict[str, Any]", _converter.unstructure(entry, unstructure_as=Entry))


def name_of(entry: Entry) -> str:
    """Name the kind of an entry as the journal does."""
    return CLASSES[type(entry)].tag


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


def record_to_text(record: Deployment | SwarmRecord) -> str:
    """Write what is kept of a deployment as JSON."""
    return json.dumps(_converter.unstructure(record))


def record_from_text(text: str, kind: type[_T]) -> _T | None:
    """Read what was kept of a deployment; None if the text is damaged, or of a newer version."""
    try:
        return _converter.structure(json.loads(text), kind)
    except _UNREADABLE:
        return None


def state_to_text(state: State) -> str:
    return STATES[state]


def state_from_text(word: str) -> State:
    """Read a state.

    Raises:
        JournalError: this version does not know the word; it is never read as IDLE.
    """
    try:
        return _STATES[word]
    except KeyError as error:
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
