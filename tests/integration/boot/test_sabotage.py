"""Each claim of the proofs has a sabotage that turns it red, and none has gone stale."""

from typing import Final

import pytest
from lab.__main__ import SUITES, Suite
from lab.judging import Check, Claim, judge
from lab.sabotage import PRODUCT, UNITS, Sabotage
from lab.supplies import PROJECT

SHIPPED: Final = {
    f"{UNITS}/": PROJECT / "tests/golden/units",
    "etc/warm-reconcile/": PROJECT / "tests/golden/etc/warm-reconcile",
    f"{PRODUCT}/": PROJECT / "runner",
}
"""Where the files come from that a sabotage edits on a machine's disk."""
GUIDE: Final = PROJECT / "machine-docs/REVIEW-pxgate.md"
ROWS: Final = [
    (suite, row) for suite in SUITES.values() for group in suite.sabotages for row in group
]


def named(value: object) -> str | None:
    """Name a case by its target of make and by its claim."""
    match value:
        case Suite():
            return value.target
        case Sabotage():
            return value.claim
        case _:
            return None


def test_each_claim_has_one_sabotage_and_the_guide_lists_it() -> None:
    """The guide's table has a line for each claim, in their order, and no other line."""
    expected: list[str] = []
    for suite in SUITES.values():
        sentences = {row.claim: row.sentence for group in suite.sabotages for row in group}
        assert len(sentences) == sum(map(len, suite.sabotages))
        expected += [
            f"| `{suite.target}` | `{claim.key}` | {sentences.pop(claim.key)} |"
            for claim in suite.claims
        ]
        assert sentences == {}
    lines = GUIDE.read_text().splitlines()
    assert [line for line in lines if line.startswith("| `proof")] == expected


@pytest.mark.parametrize(("suite", "row"), ROWS, ids=named)
def test_a_sabotage_is_of_a_claim_and_its_machines(suite: Suite, row: Sabotage) -> None:
    """A claim that was renamed would not be sabotaged any more."""
    (claim,) = (claim for claim in suite.claims if claim.key == row.claim)
    assert set(row.machines) <= set(claim.boots)
    assert row.edits
    assert row.red


@pytest.mark.parametrize(("suite", "row"), ROWS, ids=named)
def test_a_sabotage_changes_what_is_shipped(suite: Suite, row: Sabotage) -> None:
    """The text that it replaces is in the file; else it would change nothing."""
    del suite
    for pattern, old, new in row.edits:
        assert new != old
        for prefix, place in SHIPPED.items():
            if old and pattern.startswith(prefix):
                assert old in (place / pattern.removeprefix(prefix)).read_text()
                break
        else:
            assert not old, f"{pattern} is edited, and comes from nowhere"


def test_sabotages_in_one_group_do_not_edit_the_same_text() -> None:
    """Each edit has to find what it replaces."""
    for suite in SUITES.values():
        for group in suite.sabotages:
            edits = dict.fromkeys(edit for row in group for edit in row.edits)
            texts = [(path, old) for path, old, _ in edits]
            assert len(texts) == len(set(texts))


@pytest.mark.parametrize(
    ("checks", "count"),
    [
        ([Check("the job", "failed", holds=False), Check("the ping", "0", holds=False)], 1),
        ([Check("the job", "active", holds=True), Check("the ping", "0", holds=False)], 0),
        ([Check("the machine x", "no end in 60 s", holds=False)], 0),
        ([Check("the job", "active", holds=True)], 0),
    ],
    ids=["its check", "another check", "the machine went wrong", "it passed"],
)
def test_a_claim_has_to_fail_by_the_check_that_a_sabotage_is_about(
    checks: list[Check], count: int
) -> None:
    """Whatever else may have failed."""
    claim = Claim("x", "", (), lambda _: checks)
    row = Sabotage("x", "", (), "the job")
    assert len(row.caused(judge(claim, {}, {}))) == count
