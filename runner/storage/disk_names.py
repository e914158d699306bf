"""Names on the disk of classes, fields and enum members, in the journal and in records.

Each entry leads from a Python name to its name on the disk. A Python name may change: change it
here too, and every state directory stays readable. A name on the disk never changes, because
journals and records of older versions have it. ``tests/unit/storage/test_disk_names.py`` holds
every name.

Tables and columns of the journal are in ``sqlite.py``, paths in ``paths.py``.
"""

from collections.abc import Mapping
from typing import Final

from attrs import frozen

from runner.reconcile import events
from runner.reconcile.attempt import Interrupted
from runner.reconcile.machine import State
from runner.reconcile.model import (
    Deployment,
    Healthy,
    Inconclusive,
    Outcome,
    ProbeResult,
    Release,
    Unhealthy,
)
from runner.storage.records import Record, Written


@frozen
class DiskNames:
    """The names of one class."""

    tag: str
    """The class's own name, for classes of a union (events, effects, verdicts); else empty."""
    keys: Mapping[str, str]
    """From each field to its key."""


def _untagged(**keys: str) -> DiskNames:
    return DiskNames("", keys)


def _tagged(tag: str, **keys: str) -> DiskNames:
    return DiskNames(tag, keys)


TAG: Final = "is"
"""The key of the tag."""

CLASSES: Final[Mapping[type, DiskNames]] = {
    # Values
    Release: _untagged(label="label", version="version", digest="digest"),
    Deployment: _untagged(release="release", token="token"),  # noqa: S106 - the name of a key
    ProbeResult: _untagged(
        probe="probe",
        outcome="answer",
        reason="reason",
        target_unit="target_unit",
        latency="latency",
        status="status",
        excerpt="excerpt",
        terminal="terminal",
    ),
    Healthy: _tagged(
        "Healthy", deployment="deployment", evidence="evidence", rounds="rounds", held="held"
    ),
    Unhealthy: _tagged(
        "Unhealthy", deployment="deployment", reason="reason", evidence="evidence", rounds="rounds"
    ),
    Inconclusive: _tagged(
        "Inconclusive",
        deployment="deployment",
        reason="reason",
        evidence="evidence",
        rounds="rounds",
    ),
    # instances/TOKEN/deployment.json: a Deployment (process) or a Record (Swarm)
    Record: _untagged(deployment="deployment", written="written"),
    Written: _untagged(at="at", gated="gated", specs="specs"),
    # Entries of the journal: events
    events.CandidateFound: _tagged("CandidateFound", release="release"),
    events.CandidateLive: _tagged("CandidateLive", deployment="deployment"),
    events.LastGoodLive: _tagged("LastGoodLive", deployment="deployment", remark="remark"),
    events.LastGoodAbsent: _tagged("LastGoodAbsent", release="release", remark="remark"),
    events.RollbackDue: _tagged("RollbackDue", candidate="candidate", reason="reason"),
    events.NothingDeployable: _tagged("NothingDeployable", reason="reason"),
    events.Unreachable: _tagged("Unreachable", reason="reason"),
    events.Deployed: _tagged("Deployed", deployment="deployment"),
    events.DeployFailed: _tagged(
        "DeployFailed", deployment="deployment", reason="reason", guilty="guilty"
    ),
    events.Judged: _tagged("Judged", verdict="verdict"),
    events.Committed: _tagged("Committed", release="release"),
    events.CommitFailed: _tagged("CommitFailed", release="release", reason="reason"),
    events.FallbackChosen: _tagged("FallbackChosen", release="release"),
    events.FallbackLive: _tagged("FallbackLive", deployment="deployment"),
    events.NoFallback: _tagged("NoFallback", reason="reason"),
    events.NothingDecided: _tagged("NothingDecided", reason="reason"),
    # Entries of the journal: effects
    events.Assess: _tagged("Assess"),
    events.Verify: _tagged("Verify", deployment="deployment"),
    events.Deploy: _tagged("Deploy", deployment="deployment"),
    events.RunGate: _tagged("RunGate", deployment="deployment"),
    events.Commit: _tagged("Commit", verdict="verdict"),
    events.ChooseFallback: _tagged("ChooseFallback"),
    # Entries of the journal: a run that takes up an open attempt
    Interrupted: _tagged("Interrupted", crashed="crashed"),
}

STATES: Final[Mapping[State, str]] = {
    State.IDLE: "idle",
    State.VERIFYING: "verifying",
    State.DEPLOYING: "deploying",
    State.GATING: "gating",
    State.COMMITTING: "committing",
    State.RESTORING: "restoring",
    State.CONFIRMING: "confirming",
    State.CHOOSING: "choosing",
    State.ROLLING_BACK: "rolling back",
    State.REGATING: "regating",
    State.UNCHANGED: "unchanged",
    State.COMMITTED: "committed",
    State.RESTORED: "restored",
    State.ROLLED_BACK: "rolled back",
    State.STRANDED: "stranded",
    State.UNDECIDED: "undecided",
}

ANSWERS: Final[Mapping[Outcome, str]] = {
    Outcome.PASS: "pass",
    Outcome.FAIL: "fail",
    Outcome.INCONCLUSIVE: "inconclusive",
}

MANIFEST: Final[Mapping[str, str]] = {
    "label": "label",
    "version": "version",
    "parts": "parts",
    "files": "files",
}
"""From each field of ``releases.manifest.Manifest`` to its key in ``manifest.json``. The digest of
a release is the SHA-256 of that file: with another key every release would be a new one."""
