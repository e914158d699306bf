"""The state machine: its rules, its theory, then its table.

Rules of this file
    1. Everything that decides which state follows which is a row of TABLE, and stands here.
    2. Nothing else imports ``transitions``.
    3. No callbacks and no conditions: loop.py performs what happens between two states.
    4. A step without a row raises, and nothing has changed.

Theory
    A run starts in IDLE, always, also after a crash: it reads the platform and the journal, and the
    first event says where the work stands. It ends in one of the final states; each has an outcome
    of its own, so the path that was taken is known from where it ended:

    ===========  ==================================  =============================
    final        what serves now                     the attempt
    ===========  ==================================  =============================
    UNCHANGED    last-good, untouched                closed
    COMMITTED    the candidate, now last-good        closed
    RESTORED     last-good, deployed again           closed
    ROLLED_BACK  a proven release                    closed
    STRANDED     nothing that ever passed its gate   closed
    UNDECIDED    unknown: Docker is unreachable, or  open: the next run resumes it
                 the gate was inconclusive
    ===========  ==================================  =============================

    Three paths lead there. A *trial* (DEPLOYING, GATING, COMMITTING) is the only one that can
    change last-good. A *restoration* (RESTORING, CONFIRMING) deploys what is proven already. A
    *rollback* (CHOOSING, ROLLING_BACK, REGATING) goes from proven release to strictly older proven
    release, each judged by the same gate, until one holds or none is left.

    ``FAILED`` is evidence against a release, ``INCONCLUSIVE`` a lack of evidence, ``UNREACHABLE`` a
    platform that can't be reached. They have separate rows because only ``FAILED`` may blame a
    release.
"""

import logging
from enum import Enum, unique
from typing import Final, assert_never

import transitions
from attrs import frozen

from runner.reconcile.errors import IllegalStepError
from runner.reconcile.events import (
    CandidateFound,
    CandidateLive,
    Committed,
    Deployed,
    DeployFailed,
    Event,
    FallbackChosen,
    FallbackLive,
    Judged,
    LastGoodAbsent,
    LastGoodLive,
    NoFallback,
    NothingDecided,
    NothingDeployable,
    RollbackDue,
    Unreachable,
)
from runner.reconcile.model import Healthy, Inconclusive, Unhealthy, Verdict


@unique
class State(Enum):
    """A participle of what is awaited, or, if final, of what happened."""

    IDLE = "idle"
    VERIFYING = "verifying"
    DEPLOYING = "deploying"
    GATING = "gating"
    COMMITTING = "committing"
    RESTORING = "restoring"
    CONFIRMING = "confirming"
    CHOOSING = "choosing"
    ROLLING_BACK = "rolling back"
    REGATING = "regating"

    UNCHANGED = "unchanged"
    COMMITTED = "committed"
    RESTORED = "restored"
    ROLLED_BACK = "rolled back"
    STRANDED = "stranded"
    UNDECIDED = "undecided"

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL: Final = frozenset(
    {
        State.UNCHANGED,
        State.COMMITTED,
        State.RESTORED,
        State.ROLLED_BACK,
        State.STRANDED,
        State.UNDECIDED,
    }
)


@unique
class Trigger(Enum):
    """What an event means to the machine."""

    CANDIDATE_FOUND = "candidate found"
    CANDIDATE_LIVE = "candidate live"
    LAST_GOOD_LIVE = "last-good live"
    LAST_GOOD_ABSENT = "last-good absent"
    ROLLBACK_DUE = "rollback due"
    NOTHING_DEPLOYABLE = "nothing deployable"
    DEPLOYED = "deployed"
    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    UNREACHABLE = "unreachable"
    RECORDED = "recorded"
    FALLBACK_CHOSEN = "fallback chosen"
    FALLBACK_LIVE = "fallback live"
    NO_FALLBACK = "no fallback"


@frozen
class Row:
    """When ``on`` happens in ``source``, the machine is in ``dest``."""

    on: Trigger
    source: State
    dest: State


# fmt: off
TABLE: Final[tuple[Row, ...]] = (
    #   on                          from                to
    Row(Trigger.CANDIDATE_FOUND,    State.IDLE,         State.DEPLOYING),
    Row(Trigger.CANDIDATE_LIVE,     State.IDLE,         State.GATING),
    Row(Trigger.LAST_GOOD_LIVE,     State.IDLE,         State.VERIFYING),
    Row(Trigger.LAST_GOOD_ABSENT,   State.IDLE,         State.RESTORING),
    Row(Trigger.ROLLBACK_DUE,       State.IDLE,         State.CHOOSING),
    Row(Trigger.NOTHING_DEPLOYABLE, State.IDLE,         State.STRANDED),
    Row(Trigger.UNREACHABLE,        State.IDLE,         State.UNDECIDED),

    Row(Trigger.PASSED,             State.VERIFYING,    State.UNCHANGED),
    Row(Trigger.FAILED,             State.VERIFYING,    State.RESTORING),
    Row(Trigger.INCONCLUSIVE,       State.VERIFYING,    State.UNDECIDED),

    Row(Trigger.DEPLOYED,           State.DEPLOYING,    State.GATING),
    Row(Trigger.FAILED,             State.DEPLOYING,    State.CHOOSING),
    Row(Trigger.UNREACHABLE,        State.DEPLOYING,    State.UNDECIDED),
    Row(Trigger.PASSED,             State.GATING,       State.COMMITTING),
    Row(Trigger.FAILED,             State.GATING,       State.CHOOSING),
    Row(Trigger.INCONCLUSIVE,       State.GATING,       State.CHOOSING),
    Row(Trigger.RECORDED,           State.COMMITTING,   State.COMMITTED),

    Row(Trigger.DEPLOYED,           State.RESTORING,    State.CONFIRMING),
    Row(Trigger.FAILED,             State.RESTORING,    State.CHOOSING),
    Row(Trigger.UNREACHABLE,        State.RESTORING,    State.UNDECIDED),
    Row(Trigger.PASSED,             State.CONFIRMING,   State.RESTORED),
    Row(Trigger.FAILED,             State.CONFIRMING,   State.CHOOSING),
    Row(Trigger.INCONCLUSIVE,       State.CONFIRMING,   State.UNDECIDED),

    Row(Trigger.FALLBACK_CHOSEN,    State.CHOOSING,     State.ROLLING_BACK),
    Row(Trigger.FALLBACK_LIVE,      State.CHOOSING,     State.REGATING),
    Row(Trigger.NO_FALLBACK,        State.CHOOSING,     State.STRANDED),
    Row(Trigger.UNREACHABLE,        State.CHOOSING,     State.UNDECIDED),
    Row(Trigger.INCONCLUSIVE,       State.CHOOSING,     State.UNDECIDED),
    Row(Trigger.DEPLOYED,           State.ROLLING_BACK, State.REGATING),
    Row(Trigger.FAILED,             State.ROLLING_BACK, State.CHOOSING),
    Row(Trigger.UNREACHABLE,        State.ROLLING_BACK, State.UNDECIDED),
    Row(Trigger.PASSED,             State.REGATING,     State.ROLLED_BACK),
    Row(Trigger.FAILED,             State.REGATING,     State.CHOOSING),
    Row(Trigger.INCONCLUSIVE,       State.REGATING,     State.UNDECIDED),
)
# fmt: on


def trigger_of(event: Event) -> Trigger:  # noqa: C901, PLR0911, PLR0912 - one arm an event
    """Name what the event means to the machine."""
    match event:
        case CandidateFound():
            return Trigger.CANDIDATE_FOUND
        case CandidateLive():
            return Trigger.CANDIDATE_LIVE
        case LastGoodLive():
            return Trigger.LAST_GOOD_LIVE
        case LastGoodAbsent():
            return Trigger.LAST_GOOD_ABSENT
        case RollbackDue():
            return Trigger.ROLLBACK_DUE
        case NothingDeployable():
            return Trigger.NOTHING_DEPLOYABLE
        case Unreachable():
            return Trigger.UNREACHABLE
        case Deployed():
            return Trigger.DEPLOYED
        case DeployFailed():
            return Trigger.FAILED
        case Judged(verdict):
            return _trigger_of_verdict(verdict)
        case Committed():
            return Trigger.RECORDED
        case FallbackChosen():
            return Trigger.FALLBACK_CHOSEN
        case FallbackLive():
            return Trigger.FALLBACK_LIVE
        case NoFallback():
            return Trigger.NO_FALLBACK
        case NothingDecided():
            return Trigger.INCONCLUSIVE
        case _:
            assert_never(event)


def _trigger_of_verdict(verdict: Verdict) -> Trigger:
    match verdict:
        case Healthy():
            return Trigger.PASSED
        case Unhealthy():
            return Trigger.FAILED
        case Inconclusive():
            return Trigger.INCONCLUSIVE
        case _:
            assert_never(verdict)


# It warns once for every method that model_override keeps it from adding, which is what we want.
logging.getLogger("transitions").setLevel(logging.ERROR)


class _Model:
    """What ``transitions`` writes to; declared here so that nothing about it is ``Any``."""

    state: State

    def trigger(self, name: str) -> bool:
        """Be replaced by ``transitions`` (``model_override=True``)."""
        raise NotImplementedError(name)


class ReconcileMachine:
    """Where a run stands. ``step`` is the only way to move it."""

    def __init__(self, table: tuple[Row, ...] = TABLE) -> None:
        self._model = _Model()
        self._machine = transitions.Machine(
            model=self._model,
            states=State,
            initial=State.IDLE,
            transitions=[
                {"trigger": row.on.name, "source": row.source, "dest": row.dest} for row in table
            ],
            # By default each state has a trigger of its own, such as to_COMMITTED, without a row.
            auto_transitions=False,
            model_override=True,
        )

    @property
    def state(self) -> State:
        return self._model.state

    def step(self, event: Event) -> State:
        """Move by the row for ``event``.

        Raises:
            IllegalStepError: the table has no such row; the state is unchanged.
        """
        before = self.state
        try:
            self._model.trigger(trigger_of(event).name)
        except (transitions.MachineError, AttributeError) as error:
            raise IllegalStepError(f"no row for {event} in {before.name}") from error
        return self.state
