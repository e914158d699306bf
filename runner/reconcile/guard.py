"""What is refused before anything is touched: a gate that would wait for its caller, or be cut off.

Both are asked of the systemd that runs now, not believed of a config.
"""

from collections.abc import Callable, Iterable

from runner.reconcile import budget
from runner.reconcile.config import AppConfig
from runner.reconcile.errors import ConfigError, OrderingError, UnprovenError
from runner.reconcile.ordering import SafeQuestion, SafeUnit, Target, target_of
from runner.reconcile.questions import Question
from runner.reconcile.unitgraph import ask_start_timeout, prove_live

Prove = Callable[[str, Target], SafeUnit]
"""From the caller and a target to the proof."""


def clear(
    caller: str, questions: Iterable[Question], prove: Prove = prove_live
) -> tuple[SafeQuestion, ...]:
    """Prove that no question of a gate waits for the unit that runs it.

    Raises:
        OrderingError: one does; the message tells of every one that can't be asked.
        UnprovenError: none does for sure, but of one nobody can tell.
    """
    proven: list[SafeQuestion] = []
    refused: list[tuple[Question, OrderingError]] = []
    for question in questions:
        try:
            proven.append(SafeQuestion(question, prove(caller, target_of(question))))
        except OrderingError as error:
            refused.append((question, error))
    if refused:
        kind = UnprovenError if all(_is_open(error) for _, error in refused) else OrderingError
        first = next(error for _, error in refused if kind is UnprovenError or not _is_open(error))
        listed = "".join(f"\n  probe {q.name}: {error.message}" for q, error in refused)
        raise kind(f"the gate is refused, nothing was touched:{listed}", hint=first.hint)
    return tuple(proven)


def prove_onlooker(caller: str, target: Target) -> SafeUnit:
    """Prove it for a caller that deploys nothing: nothing that it asks is its own.

    Raises:
        OrderingError: as ``prove_live``; also for the caller itself.
    """
    return prove_live(caller, Target(target.unit))


def check_budget(config: AppConfig) -> None:
    """Make sure that systemd lets the longest run end.

    Raises:
        ConfigError: it would be cut off.
    """
    worst = budget.worst_case(config.budget, config.gate, config.fallback_depth)
    explained = budget.explain(config.budget, config.gate, config.fallback_depth)
    fit(config.caller, worst, explained, ask_start_timeout(config.caller))


def fit(caller: str, worst: float, explained: str, limit: float | None) -> None:
    """Make sure that what takes ``worst`` seconds fits ``limit``; None: nothing ends it.

    Raises:
        ConfigError: it would be cut off.
    """
    if limit is not None and worst >= limit:
        raise ConfigError(
            f"{caller} may take {limit:g} s to start (TimeoutStartSec=), the longest run takes"
            f" {explained}",
            hint="raise TimeoutStartSec= in the unit, or lower gate.deadline or fallback_depth",
        )


def _is_open(error: OrderingError) -> bool:
    return isinstance(error, UnprovenError)
