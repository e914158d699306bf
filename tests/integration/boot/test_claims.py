"""Claims of the proofs, on one real boot: they hold, and they can fail.

All of them are checked by ``make proof``, which CI runs, and ``make proof-server``.
"""

from collections.abc import Callable
from typing import Final

import pytest
from attrs import evolve
from lab import boots, claims
from lab.furnishing import DASHBOARD, PROXY
from lab.judging import judge
from lab.machine import UnitState
from lab.stage import Capture, Record
from lab.supplies import Supplies

BY_KEY = {claim.key: claim for claim in claims.M1}


@pytest.fixture(scope="module")
def refused(stores: Supplies, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Boot a machine whose job is configured with the old gate."""
    return boots.guard(stores, tmp_path_factory.mktemp("machine"))


@pytest.mark.slow
def test_the_old_gate_is_refused_at_boot(refused: Record) -> None:
    """The shipped job, with its own exit status; nothing was deployed."""
    verdict = judge(BY_KEY["guard-boot"], {"guard": refused}, {})
    assert verdict.holds, [check for check in verdict.checks if not check.holds]


def with_proxy(record: Record, proxy: UnitState) -> Record:
    return evolve(record, units={**record.units, PROXY: proxy})


def with_fact(record: Record, name: str, value: object) -> Record:
    return evolve(record, facts={**record.facts, name: value})


LIES: Final[dict[str, Callable[[Record], Record]]] = {
    "it ended well": lambda it: with_proxy(it, evolve(it.units[PROXY], status=0)),
    "it timed out": lambda it: with_proxy(it, evolve(it.units[PROXY], result="timeout")),
    "it deployed": lambda it: with_fact(it, "services", [boots.DEPLOYED_HERE]),
    "it wrote": lambda it: with_fact(it, "state", ["traefik"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("lie", LIES)
def test_a_claim_fails_if_anything_else_was_seen(refused: Record, lie: str) -> None:
    """A record that differs in one thing is not taken for a proof."""
    assert not judge(BY_KEY["guard-boot"], {"guard": LIES[lie](refused)}, {}).holds


def test_a_machine_that_went_wrong_fails_its_claims() -> None:
    """Nothing is concluded from what isn't there."""
    verdict = judge(BY_KEY["guard-boot"], {}, {"guard": "no end in 60 s"})
    assert not verdict.holds
    assert verdict.checks[0].seen == "no end in 60 s"


def test_a_machine_that_stopped_halfway_fails_only_the_claims_that_need_more() -> None:
    """What was seen before is judged; the reason is told where something is missing."""
    it = Record("old-after", "", stopped="no end in 60 s")
    it.facts |= {"guard: status": claims.REFUSED, "changed": []}
    it.captures["guard"] = Capture("", 0.0, "", f"{DASHBOARD} → After= → {PROXY}")
    records = {"old-after": it}
    assert judge(BY_KEY["guard-live"], records, {}).holds
    verdict = judge(BY_KEY["looks-well"], records, {})
    assert not verdict.holds
    assert verdict.checks[-1].seen == "no end in 60 s"


def test_a_machine_whose_units_were_not_read_is_no_proof_of_them() -> None:
    """No hash at all is not the same as every hash being right."""
    shipped = claims.shipped(["guard"])
    assert not judge(shipped, {"guard": Record("guard", "")}, {}).holds
