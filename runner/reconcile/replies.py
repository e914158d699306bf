"""Checks the HTTP answer to a probe. Pure: bytes and headers in, a typed result out."""

import json
import re
from collections.abc import Mapping
from typing import Final, Protocol

from attrs import frozen

from runner.reconcile.model import Deployment, Outcome, ProbeResult

TOKEN_HEADER: Final = "X-Warm-Reconcile-Token"  # noqa: S105 - the name of a header
TASK_HEADER: Final = "X-Warm-Reconcile-Task"
BODY_CAP: Final = 64 * 1024
"""Bytes of a body that are read. No health endpoint needs more."""
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
"""Control sequences of a terminal (ECMA-48): CSI, OSC and the single-character ones."""
EXCERPT: Final = 200
"""Characters of an answer kept as evidence."""


@frozen
class Reply:
    """An HTTP answer, whole or up to ``BODY_CAP``."""

    status: int
    headers: Mapping[str, str]
    """The case of a name doesn't matter."""
    body: bytes
    capped: bool


@frozen
class Expected:
    """The deployment that must answer, and the tasks that may answer for it."""

    deployment: Deployment
    tasks: frozenset[str] | None = None
    """Ids of its tasks that Docker reports as running; None on a platform without tasks."""


class Named(Protocol):
    """The part of a probe that its result names."""

    @property
    def name(self) -> str: ...
    @property
    def target_unit(self) -> str: ...


class Page(Named, Protocol):
    """A probe that expects a page."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> str | None: ...
    @property
    def body_contains(self) -> str | None: ...


def check_http(probe: Page, reply: Reply) -> ProbeResult:
    """Compare an answer with what the probe expects."""
    return _reply_result(probe, reply, _mismatch(probe, reply))


def _mismatch(probe: Page, reply: Reply) -> str:
    """Name the first difference from what was expected; empty if there is none."""
    if reply.status != probe.status:
        where = reply.headers.get("location")
        towards = f" (redirect to {printable(where)})" if where else ""
        return f"status {reply.status}, expected {probe.status}{towards}"
    if reply.capped:
        return f"the body is larger than {BODY_CAP} bytes"
    for name, value in probe.headers.items():
        if reply.headers.get(name) != value:
            return f"header {name} is {reply.headers.get(name)!r}, expected {value!r}"
    text = reply.body.decode("utf-8", "replace")
    if probe.body is not None and text != probe.body:
        return f"the body is not {probe.body!r}"
    if probe.body_contains is not None and probe.body_contains not in text:
        return f"the body does not contain {probe.body_contains!r}"
    return ""


def check_identity(probe: Page, reply: Reply, expected: Expected) -> ProbeResult:
    """Check that the answer comes from the one deployment that may give it.

    The token alone distinguishes deployments. The version, which the running program reports and
    not its config, catches another program under the right label. The task id, which only a
    container of that task has, ties the answer to a task that Docker reports.
    """
    return _reply_result(probe, reply, _identity_mismatch(probe, reply, expected))


def _identity_mismatch(probe: Page, reply: Reply, expected: Expected) -> str:  # noqa: PLR0911 - one each
    deployment = expected.deployment
    token = reply.headers.get(TOKEN_HEADER)
    if token is not None and token != deployment.token:
        return "another deployment answers: its token is a different one"
    if mismatch := _mismatch(probe, reply):
        return (
            f"{mismatch}: no identity; another program answers, or Traefik's api or dynamic/ is off"
        )
    if token is None:
        return "no X-Warm-Reconcile-Token header: this is not the Traefik that was deployed"
    try:
        version = json.loads(reply.body)["Version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "the body names no Version"
    if version != deployment.release.version:
        return f"version {printable(str(version))} answers, expected {deployment.release.version}"
    task = reply.headers.get(TASK_HEADER)
    if expected.tasks is not None and task not in expected.tasks:
        return (
            f"task {printable(task or '(none)')} answers, which Docker does not report as running"
        )
    return ""


def _reply_result(probe: Page, reply: Reply, wrong: str) -> ProbeResult:
    return ProbeResult(
        probe=probe.name,
        outcome=Outcome.FAIL if wrong else Outcome.PASS,
        reason=wrong or f"status {reply.status} as expected",
        target_unit=probe.target_unit,
        status=reply.status,
        excerpt=printable(reply.body.decode("utf-8", "replace")),
    )


def result(probe: Named, outcome: Outcome, reason: str) -> ProbeResult:
    """Make a result without an HTTP answer."""
    return ProbeResult(probe.name, outcome, reason, probe.target_unit)


def without_colours(text: str) -> str:
    """Remove control sequences for a terminal from a log."""
    return _ESCAPES.sub("", text)


def printable(text: str) -> str:
    """Shorten a text, and escape characters that could move a cursor or break a line."""
    # Not the codec "unicode_escape": it would be imported when it is needed, with a file to open.
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:EXCERPT])
    return shown if len(text) <= EXCERPT else shown + "…"
