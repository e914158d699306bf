"""Every state, every event, a power cut around every write, and every restart."""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

import explorer
import pytest
from attrs import evolve
from explorer import (
    ABSTRACTIONS,
    Edge,
    Found,
    Key,
    Node,
    Settings,
    Universe,
    at_rest,
    canonical,
    explore,
    key_of,
    longest_run,
    node_of,
    successors,
)
from fake_platform import Disk, FakeClock, FakePlatform, MemoryJournal, make_run
from hypothesis import given, settings
from hypothesis import strategies as st
from promises import AGAIN, GOOD, NEW, OLD, OLDER, check
from universes import DEEPER, OFFLINE, PAGE, SMALL, SMALL_NAME, STARTS, row, start

from runner.reconcile.attempt import Attempt
from runner.reconcile.machine import TABLE, State

T = TypeVar("T")
Record = Callable[[str, object], None]


def assert_holds(name: str, found: Found, record: Record) -> None:
    """S1 to S4 after every step, L1 for every run, L2 from every moment between two runs."""
    assert not found.violation, "\n".join((found.violation, *found.trace))
    assert found.is_complete
    steps = longest_run(found)
    line = row(name, found)
    record("covered", line)
    assert line in PAGE.read_text("utf-8"), "run `make search`: it writes the figures anew"
    depth = max(settings.depth for settings in found.universe.settings)
    # Assess, deploy, gate, find last-good live, gate it; then choose, deploy and gate as often as
    # the depth allows; then find that nothing is left. -1 would be a run that can go on for ever.
    assert 0 < steps <= 6 + 3 * depth
    assert_heals(found)


def test_nothing_that_can_happen_breaks_a_promise(record_property: Record) -> None:
    """The promises hold wherever two candidates, the power and Docker may lead.

    What random runs come across, all of it, is among what the search has seen.
    """
    found = explore(SMALL, check)
    assert_holds(SMALL_NAME, found, record_property)
    assert found.states == set(State)
    assert found.rows == {(row.source, row.dest) for row in TABLE}
    for seed in range(20):
        for node in walk(SMALL, seed, 60):
            assert key_of(node) in found.parents


@pytest.mark.slow
@pytest.mark.timeout(1800)  # seconds; up to some two million steps each, beside other tests
@pytest.mark.parametrize("name", DEEPER)
def test_no_promise_breaks_in_a_larger_universe(name: str, record_property: Record) -> None:
    """The same with more possible events."""
    assert_holds(name, explore(DEEPER[name], check), record_property)


# L2, from everywhere -----------------------------------------------------------------------------


def assert_heals(found: Found) -> None:
    """From every moment between two runs, a calm run leaves a proven release live, if one of those
    that are kept is healthy; where the broken one was never proven, the third calm run at the
    latest has nothing to do.
    """
    ends: dict[Key, tuple[State, Key]] = {}
    for begin in found.parents:
        node: Node = node_of(begin)
        if node.is_in_run or not set(node.disk.proven) - {NEW}:
            continue
        key = begin
        for undisturbed in range(3):
            if key not in ends:
                ends[key] = calm_run(found.universe, node_of(key))
            final, key = ends[key]
            after: Node = node_of(key)
            assert after.live is not None, (node, final)
            assert after.live.release in after.disk.proven, (node, final)
            if undisturbed == 2 and NEW not in after.disk.proven:
                assert final is State.UNCHANGED, node


def calm_run(universe: Universe, node: Node) -> tuple[State, Key]:
    """Run once with everything as it should be, but for the latest release, which is broken."""
    platform: FakePlatform

    def calm(what: str, options: Sequence[T]) -> T:
        is_broken = platform.live_now is not None and platform.live_now.release == NEW
        return options[1] if what == "answer" and is_broken else options[0]

    journal = MemoryJournal(calm, node.disk, kept=universe.kept)
    platform = FakePlatform(calm, FakeClock(), (NEW,), live_now=node.live)
    final, _ = make_run(journal, platform).to_the_end()
    return final, key_of(at_rest(Node(journal.disk, platform.live_now)))


# The search itself -------------------------------------------------------------------------------


def walk(universe: Universe, seed: int, steps: int) -> list[Node]:
    """Go at random from moment to moment; none of them is in its canonical form."""
    dice = random.Random(seed)  # noqa: S311 - repeatable on purpose
    node = dice.choice(universe.start)
    nodes = [node]
    for _ in range(steps):
        _, node, _ = dice.choice(list(successors(universe, node)))
        node = node if node.is_in_run else at_rest(node)
        nodes.append(node)
    return nodes


def difference(universe: Universe, node: Node) -> str:
    """Return the successors that only one of a moment and its canonical form has."""
    ahead, canonical_ahead = (
        [
            (edge, key_of(after), problem or check(before, edge, after))
            for edge, after, problem in successors(universe, before)
        ]
        for before in (node, canonical(node))
    )
    pairs = zip(ahead, canonical_ahead, strict=True)
    return next((f"{mine}\n{other}" for mine, other in pairs if mine != other), "")


LARGE = Universe(
    (NEW, AGAIN, GOOD, OFFLINE),
    (start(GOOD, OLD, OLDER), start()),
    others=(NEW, GOOD),
    settings=(Settings(), Settings(depth=1, forced=True)),
    kept=2,
)
"""Too large to search, so it is walked through at random."""


@settings(max_examples=settings().max_examples // 10)
@given(st.integers(0, 2**32))
def test_a_moment_and_its_canonical_form_have_the_same_future(seed: int) -> None:
    """Two moments with one key differ in nothing that a decision or a promise reads: each does the
    same as the canonical form of both, step by step.
    """
    for node in walk(LARGE, seed, 20):
        assert difference(LARGE, node) == ""


@pytest.mark.parametrize(
    ("kind", "name", "nothing"),
    [
        pytest.param(Attempt, "has_looked", False, marks=pytest.mark.slow),
        (Attempt, "guilty", False),
        (Attempt, "against", ""),
        pytest.param(Attempt, "crashes", 0, marks=pytest.mark.slow),
        (Attempt, "fallbacks", ()),
        (Node, "last_good", None),
        (Node, "live", None),
        pytest.param(Disk, "quarantine", frozenset[str](), marks=pytest.mark.slow),
    ],
)
def test_a_key_that_forgets_something_is_noticed(
    kind: type, name: str, nothing: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one field in the key, a moment and its canonical form differ before long."""
    monkeypatch.setitem(ABSTRACTIONS, (kind, name), lambda _: nothing)
    explorer.FIELDS.clear()
    try:
        walks = (walk(LARGE, seed, 40) for seed in range(200))
        assert any(difference(LARGE, node) for nodes in walks for node in nodes)
    finally:
        monkeypatch.undo()
        explorer.FIELDS.clear()


def test_a_key_without_the_passed_tokens_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the tokens that passed in this run, which are no field of the journal."""
    found: list[str] = []

    def nothing(node: Node, names: dict[str, str]) -> frozenset[str]:
        del node, names
        return frozenset()

    monkeypatch.setattr(explorer, "passed_of", nothing)
    for seed in range(200):
        found += filter(None, (difference(LARGE, n) for n in walk(LARGE, seed, 40)))
        if found:
            return
    pytest.fail("it was not noticed")


def test_the_search_finds_a_wrong_table() -> None:
    """A table that commits a release that failed its gate is found, with the path to it."""
    broken = tuple(
        type(row)(row.on, row.source, State.COMMITTING)
        if (row.source, row.on.name) == (State.GATING, "FAILED")
        else row
        for row in TABLE
    )
    found = explore(Universe((NEW,), STARTS, table=broken), check)
    assert "no healthy verdict" in found.violation
    assert any("fail" in line for line in found.trace)


def accept(before: Node, edge: Edge, after: Node) -> str:
    """Find nothing wrong."""
    del before, edge, after
    return ""


def test_the_search_finds_a_run_that_never_ends() -> None:
    """A table that looks at a failing last-good again and again is found out."""
    endless = tuple(
        type(row)(row.on, row.source, State.VERIFYING)
        if (row.source, row.on.name) == (State.VERIFYING, "FAILED")
        else row
        for row in TABLE
    )
    found = explore(Universe((OLD,), STARTS[1:2], table=endless), accept)
    assert found.is_complete
    assert longest_run(found) == -1


def test_a_search_that_gives_up_does_not_pass() -> None:
    """A search that stops at its limit has not seen everything, and says so."""
    found = explore(evolve(SMALL, limit=100), check)
    assert not found.is_complete
    assert "not exhaustive" in found.violation
