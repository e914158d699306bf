"""Journal entries are read back as they were written; any other text is refused."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

from enum import Enum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.reconcile import events
from runner.reconcile.attempt import Attempt, Entry, Interrupted
from runner.reconcile.errors import JournalError
from runner.reconcile.machine import State
from runner.reconcile.model import (
    Deployment,
    Healthy,
    Inconclusive,
    Outcome,
    ProbeResult,
    Release,
)
from runner.storage.codec import from_text, replay, state_from_text, to_text

RELEASE = Release("3.4.0+v3.5.1", "3.5.1", "d" * 64)
DEPLOYMENT = Deployment(RELEASE, "t-1")

PLAIN: dict[object, st.SearchStrategy[Any]] = {
    str: st.text(st.characters(codec=None), max_size=8),
    float: st.floats(allow_nan=False),
    int: st.integers(),
    bool: st.booleans(),
    NoneType: st.none(),
}


def values_of(annotation: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401 - any type form
    """Build values of any field's type, from the attrs classes themselves."""
    if annotation in PLAIN:
        return PLAIN[annotation]
    if get_origin(annotation) is UnionType:
        return st.one_of(*map(values_of, get_args(annotation)))
    if get_origin(annotation) is tuple:
        return st.lists(values_of(get_args(annotation)[0]), max_size=2).map(tuple)
    if issubclass(annotation, Enum):
        return st.sampled_from(list(annotation))
    fields = attrs.fields(attrs.resolve_types(annotation))
    return st.builds(annotation, **{field.name: values_of(field.type) for field in fields})


@pytest.mark.parametrize("kind", get_args(Entry), ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_entry_comes_back_as_it_was_written(kind: type, data: st.DataObject) -> None:
    """An entry of any kind and content becomes one line of text, and is read back from it."""
    entry = data.draw(values_of(kind))
    text = to_text(entry)
    assert "\n" not in text
    assert entry == from_text(text)
    assert type(entry) is type(from_text(text))


@given(text=st.text())
@example(text="")
@example(text="null")
@example(text="[]")
@example(text="{}")
@example(text="NaN")
@example(text='{"is": null}')
@example(text='{"is": []}')
@example(text='{"is": {}}')
@example(text='{"is": "Assess", "is": []}')
@example(text='{"is": "Interrupted", "crashed": 1' + "0" * 5000 + "}")
@example(text='{"is": "Deploy", "deployment": []}')
@example(text='{"is": "Judged", "verdict": {"is": "Healthy", "held": 1' + "0" * 400 + "}}")
@example(text="[" * 2000)
@example(text='{"is":' * 2000)
def test_arbitrary_text_is_refused(text: str) -> None:
    """Any text raises a JournalError, never another exception."""
    with pytest.raises(JournalError, match="can't be read"):
        from_text(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"is":"Teleport"}',
        '{"is":"Judged","verdict":{"is":"Maybe"}}',
        '{"is":"Interrupted"}',
        '{"is":"Interrupted","crashed":true,"why":"a newer version says more"}',
        '{"is":"Assess","deeply":1}',
        to_text(events.Deploy(DEPLOYMENT)).replace('"token":', '"nonce":1,"token":'),
        to_text(events.Deploy(DEPLOYMENT)).replace('"label":', '"name":'),
        to_text(events.Judged(Healthy(DEPLOYMENT, (), 3, 1.0))).replace('"held":', '"kept":'),
        to_text(
            events.Judged(
                Inconclusive(
                    DEPLOYMENT, "r", (ProbeResult("p", Outcome.PASS, "r", "u.service"),), 1
                )
            )
        ).replace('"pass"', '"perhaps"'),
    ],
    ids=[
        *("unknown entry", "unknown verdict", "missing key", "extra key", "extra key of nothing"),
        *("extra key below", "other key below", "other key in a verdict", "unknown answer"),
    ],
)
def test_an_entry_of_another_version_is_refused(text: str) -> None:
    """An entry with an unknown word is refused; the word is never skipped or guessed."""
    with pytest.raises(JournalError) as caught:
        from_text(text)
    assert text[:120] in caught.value.message
    assert "a newer version may have written it; nothing was changed" == caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        '{"is":"Interrupted","crashed":"no"}',
        '{"is":"Interrupted","crashed":0}',
        '{"is":"NoFallback","reason":5}',
        '{"is":"NoFallback","reason":null}',
        to_text(events.Deploy(DEPLOYMENT)).replace('"t-1"', "[]"),
        to_text(events.Judged(Healthy(DEPLOYMENT, (), 3, 1.0))).replace(
            '"rounds":3', '"rounds":"3"'
        ),
        to_text(events.Judged(Healthy(DEPLOYMENT, (), 3, 1.0))).replace('"held":1.0', '"held":"1"'),
        to_text(events.Judged(Healthy(DEPLOYMENT, (), 3, 1.0))).replace(
            '"rounds":3', '"rounds":true'
        ),
        to_text(events.Judged(Healthy(DEPLOYMENT, (), 3, 1.0))).replace("[]", "{}"),
        to_text(events.Judged(Healthy(DEPLOYMENT, (), 3, 1.0))).replace("[]", '""'),
    ],
    ids=[
        *("text for a truth", "number for a truth", "number for a text", "nothing for a text"),
        *("list for a text", "text for a whole number", "text for a number"),
        *("truth for a whole number", "table for a list", "text for a list"),
    ],
)
def test_a_value_of_another_type_is_refused_and_not_converted(text: str) -> None:
    """Values are never converted: a text is refused where a number belongs."""
    with pytest.raises(JournalError, match="can't be read"):
        from_text(text)


@pytest.mark.parametrize("state", State)
def test_every_state_is_read_back(state: State) -> None:
    """Each state is written and read with the word of the table."""
    assert state is state_from_text(state.value)


@given(word=st.text())
@example(word="")
@example(word="Idle")
@example(word="IDLE")
def test_an_unknown_state_is_never_idle(word: str) -> None:
    """An unknown state is refused; the message names it."""
    if word in {state.value for state in State}:
        return
    with pytest.raises(JournalError) as caught:
        state_from_text(word)
    assert repr(word) in caught.value.message


def test_replaying_is_folding() -> None:
    """Replaying the entries in order gives the memory of the attempt."""
    entries: list[Entry] = [
        events.CandidateFound(RELEASE),
        events.Deploy(DEPLOYMENT),
        events.DeployFailed(DEPLOYMENT, "no disk", guilty=True),
    ]
    expected = Attempt(
        "a",
        candidate=RELEASE,
        target=RELEASE,
        deployment=DEPLOYMENT,
        deploys=1,
        against="no disk",
        guilty=True,
        note="no disk",
        crashes=0,
    )
    assert expected == replay("a", entries)
    assert expected == replay("a", [*entries, Interrupted(crashed=True)])
    on_trial = attrs.evolve(expected, against="", guilty=False, note="")
    assert on_trial == replay("a", entries[:-1])
    assert attrs.evolve(on_trial, crashes=1) == replay(
        "a", [*entries[:-1], Interrupted(crashed=True)]
    )
    assert Attempt("b") == replay("b", [])


def test_text_that_no_file_holds_by_itself_is_kept() -> None:
    """Lone surrogates, possible in file names, are escaped so that UTF-8 can encode them."""
    entry = events.NoFallback("caf\udce9")
    to_text(entry).encode("utf-8")
    assert entry == from_text(to_text(entry))
