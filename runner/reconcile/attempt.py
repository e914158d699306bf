"""The memory of an attempt, folded from its journal entries, so that it survives a crash."""

from typing import TypeAlias, assert_never

from attrs import evolve, frozen

from runner.reconcile import events
from runner.reconcile.model import Deployment, Healthy, Release, Unhealthy, Verdict


@frozen
class Attempt:
    """One try of one candidate, or one restoration, across all the runs that it takes."""

    id: str
    """Unguessable: the tokens of its deployments are made from it."""
    candidate: Release | None = None
    target: Release | None = None
    """The release to deploy next, or deployed last."""
    deployment: Deployment | None = None
    """The last one begun. After a crash it is unknown whether it took place."""
    deploys: int = 0
    """Deployments begun, so that no token is used twice."""
    verdict: Verdict | None = None
    """The last one; the next deployment and the next run clear it."""
    against: str = ""
    """Why the candidate was given up; empty while it may still be committed."""
    guilty: bool = False
    """The candidate was given up because of evidence, not for lack of it."""
    fallbacks: tuple[Release, ...] = ()
    """The proven releases tried since this run began, newest first."""
    has_looked: bool = False
    """Last-good was found live in this rollback; if it fails its gate, it is deployed again."""
    crashes: int = 0
    """Runs that ended without an outcome while this candidate was on trial: neither a restoration
    nor a rollback in between counts against it."""
    note: str = ""
    """The reason that an operator reads first."""

    @property
    def is_on_trial(self) -> bool:
        """The candidate is what was to be deployed last, and is not given up."""
        return self.candidate is not None and self.candidate == self.target and not self.against

    @property
    def next_token(self) -> str:
        return f"{self.id}-{self.deploys + 1}"


@frozen
class Interrupted:
    """A run has begun on an attempt that an earlier one left open."""

    crashed: bool
    """The earlier run ended without an outcome: killed, or out of power."""


Entry: TypeAlias = events.Effect | events.Event | Interrupted | events.CommitFailed
"""What the journal holds of an attempt, in order."""


def remember(attempt: Attempt, entry: Entry) -> Attempt:  # noqa: C901, PLR0911, PLR0912 - one arm an entry
    """Fold one journal entry into the memory."""
    match entry:
        case Interrupted(crashed):
            crashes = attempt.crashes + (crashed and attempt.is_on_trial)
            return evolve(attempt, fallbacks=(), has_looked=False, verdict=None, crashes=crashes)
        case events.Deploy(deployment):
            return evolve(attempt, deployment=deployment, deploys=attempt.deploys + 1, verdict=None)
        case events.CandidateFound(release):
            return _on_trial(attempt, release)
        case events.CandidateLive(deployment):
            return evolve(_on_trial(attempt, deployment.release), deployment=deployment)
        case events.LastGoodLive(deployment, remark):
            return evolve(_restored(attempt, deployment.release, remark), deployment=deployment)
        case events.LastGoodAbsent(release, remark):
            return _restored(attempt, release, remark)
        case events.RollbackDue(candidate, reason):
            guilty = attempt.guilty if attempt.against else True  # else: its runs died
            return evolve(
                attempt,
                candidate=candidate,
                target=candidate,
                against=reason,
                guilty=guilty,
                note=reason,
            )
        case events.DeployFailed(deployment, reason, guilty):
            return _against(attempt, deployment.release, reason, guilty=guilty)
        case events.Judged(verdict):
            return _judged(evolve(attempt, verdict=verdict), verdict)
        case events.CommitFailed(release, reason):
            return _against(attempt, release, reason, guilty=False)
        case events.FallbackChosen(release):
            return evolve(attempt, target=release, fallbacks=(*attempt.fallbacks, release))
        case events.FallbackLive(deployment):
            return evolve(attempt, deployment=deployment, verdict=None, has_looked=True)
        case events.NothingDeployable(reason) | events.NoFallback(reason):
            return evolve(attempt, note=attempt.note or reason)
        case events.Unreachable(reason):
            return _interrupted(attempt, reason)
        case events.NothingDecided(reason):
            return evolve(attempt, note=attempt.note or reason, against="", guilty=False)
        case (
            events.Assess()
            | events.Verify()
            | events.RunGate()
            | events.Commit()
            | events.ChooseFallback()
        ):
            return attempt
        case events.Deployed() | events.Committed():
            return attempt
        case _:
            assert_never(entry)


def _interrupted(attempt: Attempt, reason: str) -> Attempt:
    """Docker became unreachable: keep the candidate, unless there is evidence against it.

    If a fallback was already chosen, the rollback is finished, whatever its cause.
    """
    note = attempt.note or reason
    if attempt.guilty or attempt.fallbacks:
        return evolve(attempt, note=note)
    return evolve(attempt, note=note, against="")


def _restored(attempt: Attempt, last_good: Release, remark: str) -> Attempt:
    """Make last-good the target; drop the reason that an earlier run had against its candidate."""
    return evolve(attempt, target=last_good, against="", guilty=False, note=remark)


def _on_trial(attempt: Attempt, release: Release) -> Attempt:
    """Start or continue a trial; a different candidate starts with no crashes."""
    crashes = attempt.crashes if attempt.candidate == release else 0
    return evolve(
        attempt, candidate=release, target=release, against="", guilty=False, crashes=crashes
    )


def _judged(attempt: Attempt, verdict: Verdict) -> Attempt:
    if isinstance(verdict, Healthy):
        return attempt
    guilty = isinstance(verdict, Unhealthy)
    return _against(attempt, verdict.deployment.release, verdict.reason, guilty=guilty)


def _against(attempt: Attempt, release: Release, reason: str, *, guilty: bool) -> Attempt:
    if attempt.candidate is None and not attempt.fallbacks:
        # Last-good could not be restored: the operator has to read this first.
        remark = f" ({attempt.note})" if attempt.note else ""
        return evolve(attempt, note=f"{release.label}: {reason}{remark}")
    if release != attempt.candidate or attempt.against:
        return evolve(attempt, note=attempt.note or f"{release.label}: {reason}")
    return evolve(attempt, against=reason, guilty=guilty, note=reason)


def blamed(attempt: Attempt) -> Release | None:
    """Return the release to quarantine once a rollback has held.

    A candidate is blamed only if last-good passed the same gate in the same run: if last-good fails
    too, the environment is the more likely cause.
    """
    if attempt.guilty and len(attempt.fallbacks) <= 1:
        return attempt.candidate
    return None
