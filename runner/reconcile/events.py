"""Events (past facts) and effects (imperatives): what goes into and comes out of the machine.

A run is a sequence of *effect performed → event observed → state*. Both are values, so that the
journal can hold them and a test can make them.
"""

from typing import TypeAlias

from attrs import frozen

from runner.reconcile.model import Deployment, Healthy, Release, Verdict

# Events ------------------------------------------------------------------------------------------


@frozen
class CandidateFound:
    """The wanted release is not last-good: it has to prove itself."""

    release: Release


@frozen
class CandidateLive:
    """An interrupted run left its candidate serving, unjudged."""

    deployment: Deployment


@frozen
class LastGoodLive:
    """Last-good is wanted, and is what is live."""

    deployment: Deployment
    remark: str
    """Why it is wanted although it may not be the latest; empty if it is the latest."""


@frozen
class LastGoodAbsent:
    """Last-good is wanted, and is not what is live: a cold boot, or somebody else's hand."""

    release: Release
    remark: str
    """As in ``LastGoodLive``."""


@frozen
class RollbackDue:
    """An interrupted run had already decided against its candidate."""

    candidate: Release
    reason: str


@frozen
class NothingDeployable:
    """No release may be deployed: none is proven, and the latest is unknown or quarantined."""

    reason: str


@frozen
class Unreachable:
    """Whatever runs the app can't be asked or told anything."""

    reason: str


@frozen
class Deployed:
    """The effect returned. It is no evidence that anything serves."""

    deployment: Deployment


@frozen
class DeployFailed:
    """The release could not be put in place."""

    deployment: Deployment
    reason: str
    guilty: bool
    """The failure speaks against the release, and not against the host."""


@frozen
class Judged:
    """The gate ended."""

    verdict: Verdict


@frozen
class Committed:
    """The candidate is last-good, durably."""

    release: Release


@frozen
class FallbackChosen:
    """The next proven release, strictly older than every one tried in this run."""

    release: Release


@frozen
class FallbackLive:
    """Last-good is what is live: the failed deployment never took its place."""

    deployment: Deployment


@frozen
class NoFallback:
    """No proven release is left to fall back on."""

    reason: str


@frozen
class NothingDecided:
    """No proven release is left, and nobody was found guilty: the gate could not ask."""

    reason: str


Event: TypeAlias = (
    CandidateFound
    | CandidateLive
    | LastGoodLive
    | LastGoodAbsent
    | RollbackDue
    | NothingDeployable
    | Unreachable
    | Deployed
    | DeployFailed
    | Judged
    | Committed
    | FallbackChosen
    | FallbackLive
    | NoFallback
    | NothingDecided
)

# Effects -----------------------------------------------------------------------------------------


@frozen
class Assess:
    """Read what is latest and what is live; touch nothing."""


@frozen
class Verify:
    """Gate what is live without touching it."""

    deployment: Deployment


@frozen
class Deploy:
    """Put exactly this release in place, whatever is there now: never a relative rollback."""

    deployment: Deployment


@frozen
class RunGate:
    """Judge the deployment."""

    deployment: Deployment


@frozen
class Commit:
    """Make the release last-good. Takes the verdict itself: nothing else proves a release."""

    verdict: Healthy


@frozen
class ChooseFallback:
    """Name the next proven release to deploy."""


Effect: TypeAlias = Assess | Verify | Deploy | RunGate | Commit | ChooseFallback

# No longer made ----------------------------------------------------------------------------------


@frozen
class CommitFailed:
    """The candidate passed its gate, but could not be kept, and so was rolled back.

    Journals of version 0.1.0 have it. Today a release is kept before it is deployed, and whether
    that worked does not change the outcome of its gate.
    """

    release: Release
    reason: str
