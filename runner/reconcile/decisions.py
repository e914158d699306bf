"""Decides what a run does next.

Three choices, each a pure function: ``assess``, what the run is for (deploy, verify, restore or
roll back); ``choose_fallback``, which proven release a rollback deploys; ``next_effect``, the one
effect that follows from a state. ``warm-reconcile plan`` prints the result of the first.
"""

from typing import Final, NoReturn

from attrs import frozen

from runner.reconcile import events
from runner.reconcile.attempt import Attempt
from runner.reconcile.errors import InvariantError
from runner.reconcile.machine import State
from runner.reconcile.model import Deployment, Healthy, LatestUnknown, NotLive, Release

CRASH_LIMIT: Final = 3
"""Runs that may die on one candidate before it is given up, because it may be the cause.

Three, as in systemd's boot counting.
"""

Assessment = (
    events.CandidateFound
    | events.CandidateLive
    | events.LastGoodLive
    | events.LastGoodAbsent
    | events.RollbackDue
    | events.NothingDeployable
)


@frozen
class Facts:
    """The input of the first decision of a run."""

    latest: Release | LatestUnknown
    live: Deployment | NotLive
    proven: tuple[Release, ...]
    """Newest first; the first one is last-good. Quarantined ones are left out."""
    quarantined: frozenset[str]
    """Digests."""
    forced: bool
    attempt: Attempt
    """New, or as an interrupted run left it."""

    @property
    def last_good(self) -> Release | None:
        return self.proven[0] if self.proven else None

    @property
    def is_latest_allowed(self) -> bool:
        if isinstance(self.latest, LatestUnknown):
            return False
        return self.forced or self.latest.digest not in self.quarantined

    @property
    def wanted(self) -> Release | None:
        """The latest release if it is known and allowed, else last-good."""
        if self.is_latest_allowed and not isinstance(self.latest, LatestUnknown):
            return self.latest
        return self.last_good


def assess(facts: Facts) -> Assessment:  # noqa: PLR0911 - one return a purpose
    """Decide the purpose of this run."""
    attempt, wanted = facts.attempt, facts.wanted
    if attempt.candidate is not None and attempt.against and not facts.forced:
        return events.RollbackDue(attempt.candidate, attempt.against)
    if wanted is None:
        return events.NothingDeployable(f"no release is proven, and {_why_not_latest(facts)}")
    if wanted == facts.last_good:
        if isinstance(facts.live, Deployment) and facts.live.release == wanted:
            return events.LastGoodLive(facts.live, _why_not_latest(facts))
        remarks = (_what_is_live(facts.live), _why_not_latest(facts))
        return events.LastGoodAbsent(wanted, "; ".join(filter(None, remarks)))
    if attempt.candidate == wanted and not facts.forced:
        if attempt.crashes >= CRASH_LIMIT:
            return events.RollbackDue(wanted, f"{attempt.crashes} runs died while it was on trial")
        # The last deployment of an attempt may also be a restoration between two trials.
        live = facts.live
        if isinstance(live, Deployment) and live == attempt.deployment and live.release == wanted:
            return events.CandidateLive(live)
    return events.CandidateFound(wanted)


def _what_is_live(live: Deployment | NotLive) -> str:
    return f"{live.release.label} is live" if isinstance(live, Deployment) else live.reason


def _why_not_latest(facts: Facts) -> str:
    if isinstance(facts.latest, LatestUnknown):
        return f"the latest is unknown: {facts.latest.reason}"
    if facts.is_latest_allowed:
        return ""
    return f"the latest, {facts.latest.label}, is in quarantine"


def choose_fallback(
    attempt: Attempt, proven: tuple[Release, ...], live: Deployment | NotLive, depth: int
) -> events.FallbackChosen | events.FallbackLive | events.NoFallback | events.NothingDecided:
    """Choose the next proven release: strictly older than each one tried, at most ``depth`` times.

    If last-good is still live, because the candidate never replaced it, it is gated without being
    deployed again.
    """
    tried = {attempt.candidate, *attempt.fallbacks, attempt.target}
    is_fresh = not attempt.has_looked and not attempt.fallbacks
    untouched = tuple(release for release in proven[:1] if release not in tried)
    if is_fresh and isinstance(live, Deployment) and live.release in untouched:
        return events.FallbackLive(live)
    start = max((proven.index(r) + 1 for r in attempt.fallbacks if r in proven), default=0)
    for release in proven[start:]:
        if release not in tried and len(attempt.fallbacks) < depth:
            return events.FallbackChosen(release)
    if attempt.against and not attempt.guilty and not attempt.fallbacks:
        return events.NothingDecided(attempt.against)
    return events.NoFallback("no proven release is left to fall back on")


def next_effect(state: State, attempt: Attempt) -> events.Effect:  # noqa: PLR0911 - one arm a state
    """Return the one effect that follows from ``state``.

    Raises:
        InvariantError: the attempt lacks the target, deployment or verdict that ``state`` requires.
    """
    match state:
        case State.IDLE:
            return events.Assess()
        case State.VERIFYING:
            return events.Verify(_deployment(state, attempt))
        case State.DEPLOYING | State.RESTORING | State.ROLLING_BACK:
            if attempt.target is None:
                _refuse(state, attempt, "nothing to deploy")
            return events.Deploy(Deployment(attempt.target, attempt.next_token))
        case State.GATING | State.CONFIRMING | State.REGATING:
            return events.RunGate(_deployment(state, attempt))
        case State.COMMITTING:
            return events.Commit(_proof(state, attempt))
        case State.CHOOSING:
            return events.ChooseFallback()
        case (
            State.UNCHANGED
            | State.COMMITTED
            | State.RESTORED
            | State.ROLLED_BACK
            | State.STRANDED
            | State.UNDECIDED
        ):
            return _refuse(state, attempt, "the run is over")


def _deployment(state: State, attempt: Attempt) -> Deployment:
    if attempt.deployment is None:
        _refuse(state, attempt, "nothing is deployed")
    return attempt.deployment


def _proof(state: State, attempt: Attempt) -> Healthy:
    """Return the Healthy verdict for exactly the candidate, from the attempt's last deployment."""
    verdict = attempt.verdict
    if not isinstance(verdict, Healthy):
        _refuse(state, attempt, "no healthy verdict")
    if verdict.deployment != attempt.deployment:
        _refuse(state, attempt, "the verdict is about another deployment")
    if verdict.deployment.release != attempt.candidate:
        _refuse(state, attempt, "the verdict is about another release")
    return verdict


def _refuse(state: State, attempt: Attempt, why: str) -> NoReturn:
    raise InvariantError(f"{why} in {state.name}: {attempt}")
