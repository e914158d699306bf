"""Computes the longest duration of a run, which has to fit the unit that calls it. Pure.

``TimeoutStartSec=`` bounds one ``ExecStart=`` command (systemd.service(5)); a oneshot can't extend
it, so the run has to fit from the start.
"""

from attrs import frozen

from runner.reconcile.field_types import Duration, Seconds
from runner.reconcile.gate import GatePolicy


@frozen
class Budget:
    """The time limits for the parts of one run, in seconds."""

    timeout_start: Seconds = 900.0
    """``TimeoutStartSec=`` of the calling unit."""
    fetch: Seconds = 120.0
    """For finding the latest release and obtaining it."""
    deploy: Seconds = 60.0
    """For one deployment."""
    margin: Duration = 60.0
    """For everything else: starting up, the journal, a slow disk."""


def worst_case(budget: Budget, gate: GatePolicy, fallback_depth: int) -> float:
    """Add up the longest path through the table, in seconds.

    It is: learn the latest, find last-good live but unhealthy, restore it in vain, and fall back
    ``fallback_depth`` times.
    """
    one_try = budget.deploy + gate.deadline
    return budget.fetch + gate.verify_deadline + one_try * (1 + fallback_depth) + budget.margin


def explain(budget: Budget, gate: GatePolicy, fallback_depth: int) -> str:
    """Return the sum as text, for error messages."""
    return (
        f"fetch {budget.fetch:g} + verify {gate.verify_deadline:g}"
        f" + (deploy {budget.deploy:g} + gate {gate.deadline:g}) x {1 + fallback_depth}"
        f" + margin {budget.margin:g} = {worst_case(budget, gate, fallback_depth):g} s"
    )
