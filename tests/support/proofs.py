"""Questions as a gate is given them: proven, on a host where no unit is ordered."""

from runner.reconcile.ordering import SafeQuestion, UnitGraph, prove, target_of
from runner.reconcile.questions import Question

CALLER = "caller.service"


def proven(question: Question) -> SafeQuestion:
    """Prove that a question may be asked."""
    target = target_of(question)
    graph = UnitGraph(frozenset({target.unit, CALLER}), ())
    return SafeQuestion(question, prove(graph, CALLER, target))
