"""Events (past facts) and effects (imperatives): the input and output of the state machine.

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
    """An interrupted run left its candidate live without a verdict."""

    deployment: Deployment


@frozen
class LastGoodLive:
    """Last-good is wanted and live."""

    deployment: Deployment
    remark: str
    """Why it is wanted although it may not be the latest; empty if it is the latest."""


@frozen
class LastGoodAbsent:
    """Last-good is wanted but not live: a cold boot, or someone else replaced it."""

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
    """The platform that runs the app, such as Docker, can't be reached."""

    reason: str


@frozen
class Deployed:
    """The deployment was carried out. That is no evidence that anything serves."""

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
    """The gate ended with a verdict."""

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
    """Last-good is still live: the failed deployment never replaced it."""

    deployment: Deployment


@frozen
class NoFallback:
    """No proven release is left to fall back on."""

    reason: str


@frozen
class NothingDecided:
    """No proven release is left, and there is no evidence: the gate was inconclusive."""

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
    """Read the latest release and the live deployment; change nothing."""


@frozen
class Verify:
    """Gate the live deployment without changing it."""

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
