"""The vocabulary of the core: frozen values without behaviour, used by every other module.

An **app** is reconciled towards its **latest** release. A **candidate** is the release under trial
in an **attempt**; a **deployment** is one act of deploying a release and is known by its token. A
**gate** runs **probes** in rounds and ends in a **verdict**. A release that passed its gate is
**proven**; the newest proven release is **last-good**. A release that failed it is **quarantined**.
"""

from enum import Enum, unique
from typing import TypeAlias

from attrs import field, frozen


@frozen
class Release:
    """One deployable version: immutable and content-addressed."""

    label: str
    """Its name in the source: ``3.4.0+v3.5.1``, a directory name, a git tag."""
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
    """The outcome of one probe."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    """The probe could not run: no evidence about the release, in either direction."""


@frozen
class ProbeResult:
    """The typed result of one probe, with its evidence. Probes return it and never raise."""

    probe: str
    outcome: Outcome
    reason: str
    """One clause that an operator understands: ``status 404, expected 200``."""
    target_unit: str
    """The systemd unit that serves the answer."""
    latency: float = 0.0
    """Seconds from the probe to the answer or to giving up."""
    status: int | None = None
    """HTTP status, where there was one."""
    excerpt: str = ""
    """The beginning of the answer, printable, at most a few hundred characters."""
    terminal: bool = False
    """Waiting can't change the outcome. FAIL: the process has exited, or the task was rejected.
    INCONCLUSIVE: dockerd can start nothing until it is restarted."""


Round: TypeAlias = tuple[ProbeResult, ...]
"""One result of every probe of a gate, run at about the same time."""


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
    """The gate found no evidence either way. Never commits, and never blames the release."""

    deployment: Deployment
    reason: str
    evidence: Round
    rounds: int


Verdict: TypeAlias = Healthy | Unhealthy | Inconclusive


@frozen
class LatestUnknown:
    """The source of releases is unreachable, or its latest release could not be obtained."""

    reason: str


@frozen
class NotLive:
    """The platform does not run exactly one deployment of this app."""

    reason: str = ""
    """The state that was found instead, for messages; may be empty."""


@frozen
class Quarantine:
    """A release that failed its gate where last-good passed: not tried again until it expires."""

    release: Release
    reason: str
    since: float
    """Unix time, seconds."""
    until: float
    """Unix time, seconds."""
