"""Probes in the form that a gate gets: proven safe, on a host without unit orders."""

from runner.reconcile.ordering import UnitGraph, prove, target_of
from runner.reconcile.probes import Probe, SafeProbe

CALLER = "caller.service"


def proven(probe: Probe) -> SafeProbe:
    """Prove that a probe does not wait for the caller."""
    target = target_of(probe)
    graph = UnitGraph(frozenset({target.unit, CALLER}), ())
    return SafeProbe(probe, prove(graph, CALLER, target))
