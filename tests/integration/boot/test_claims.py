"""Claims of the proofs, on one real boot: they hold, and they can fail.

All of them are checked by ``make proof`` and ``make proof-server``, which CI runs.
"""

import pytest
from attrs import evolve
from lab import boots, claims
from lab.furnishing import PROXY
from lab.judging import judge
from lab.stage import Record
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of", "name", "value"),
    [
        ("unit", "status", 0),
        ("unit", "result", "timeout"),
        ("facts", "services", [boots.DEPLOYED_HERE]),
        ("facts", "state", ["traefik"]),
    ],
)
def test_a_claim_fails_if_anything_else_was_seen(
    refused: Record, of: str, name: str, value: object
) -> None:
    """A record that differs in one thing is not taken for a proof."""
    if of == "unit":
        proxy = evolve(refused.units[PROXY], **{name: value})
        other = evolve(refused, units={**refused.units, PROXY: proxy})
    else:
        other = evolve(refused, facts={**refused.facts, name: value})
    assert not judge(BY_KEY["guard-boot"], {"guard": other}, {}).holds


def test_a_machine_that_went_wrong_fails_its_claims() -> None:
    """Nothing is concluded from what isn't there."""
    verdict = judge(BY_KEY["guard-boot"], {}, {"guard": "no end in 60 s"})
    assert not verdict.holds
    assert verdict.checks[0].seen == "no end in 60 s"
