"""The nouns. Frozen values without behaviour; every other module speaks in them.

An **app** is reconciled towards its **latest** release. A **candidate** is the release under trial
in an **attempt**; a **deployment** is one act of deploying a release and is known by its token. A
**gate** asks **probes** in rounds and ends in a **verdict**. A release that passed its gate is
**proven**; the newest proven release is **last-good**. A release that failed it is **quarantined**.
"""

from enum import Enum, unique
from typing import TypeAlias

from attrs import field, frozen


@frozen
class Release:
    """One deployable version: immutable and content-addressed."""

    label: str
    """What the source calls it: ``3.4.0+v3.5.1``, a directory name, a git tag."""
    version: str
    """The upstream version that a running instance must report: ``3.5.1``."""
    digest: str = field(repr=lambda digest: digest[:12])
    """SHA-256 (hex) over everything that is deployed; two releases are equal iff it is."""


@frozen
class Deployment:
    """One act of deploying ``release``.

    The token is unguessable, never used twice, and returned by the running instance itself: an
    answer that carries it comes from this deployment and from no older or foreign one.
    """

    release: Release
    token: str = field(repr=lambda token: token[:12])


@unique
class Outcome(Enum):
    """What one probe found out."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    """The probe could not be asked: no evidence about the release, in either direction."""


@frozen
class ProbeResult:
    """The typed answer of one probe, with its evidence. Probes return it and never raise."""

    probe: str
    outcome: Outcome
    reason: str
    """One clause that an operator understands: ``status 404, expected 200``."""
    target_unit: str
    """The systemd unit that serves what was asked."""
    latency: float = 0.0
    """Seconds from the probe to the answer or to giving up."""
    status: int | None = None
    """HTTP status, where there was one."""
    excerpt: str = ""
    """The beginning of what came back, printable, at most a few hundred characters."""
    terminal: bool = False
    """This can't heal by waiting. A failure: the process has exited, the task was rejected. What is
    inconclusive: the engine can start nothing until it is started again itself."""


Round: TypeAlias = tuple[ProbeResult, ...]
"""One answer of every probe of a gate, asked at about the same time."""


@frozen
class Healthy:
    """The deployment held its gate. The only value that a commit accepts."""

    deployment: Deployment
    evidence: Round
    rounds: int
    held: float
    """Seconds between the first and the last pass of the unbroken streak."""


@frozen
class Unhealthy:
    """The deployment failed its gate, and the evidence says how."""

    deployment: Deployment
    reason: str
    evidence: Round
    rounds: int


@frozen
class Inconclusive:
    """The gate could not find out. Never commits, and never blames the release."""

    deployment: Deployment
    reason: str
    evidence: Round
    rounds: int


Verdict: TypeAlias = Healthy | Unhealthy | Inconclusive


@frozen
class LatestUnknown:
    """The source of releases could not be asked, or what it offers could not be obtained."""

    reason: str


@frozen
class NotLive:
    """What is live is not exactly one deployment of ours."""

    reason: str = ""
    """What is there instead, where that is worth telling."""


@frozen
class Quarantine:
    """A release that failed its gate where last-good passed: not tried again until it expires."""

    release: Release
    reason: str
    since: float
    """Unix time, seconds."""
    until: float
    """Unix time, seconds."""
