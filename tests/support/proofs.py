"""Questions as a gate is given them: proven, on a host where no unit is ordered."""

from runner.reconcile.ordering import UnitGraph, prove, target_of
from runner.reconcile.probes import Probe, SafeProbe

CALLER = "caller.service"


def proven(probe: Probe) -> SafeProbe:
    """Prove that a probe may be asked."""
    target = target_of(probe)
    graph = UnitGraph(frozenset({target.unit, CALLER}), ())
    return SafeProbe(probe, prove(graph, CALLER, target))
