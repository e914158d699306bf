"""What the answer to a question means. Pure: bytes and headers in, a typed result out."""

import json
import re
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from runner.reconcile.model import Answer, Deployment, ProbeResult
from runner.reconcile.questions import Http, Question

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
    """What came back over HTTP, whole or up to ``BODY_CAP``."""

    status: int
    headers: Mapping[str, str]
    """Looked up whatever the case of the name."""
    body: bytes
    capped: bool


@frozen
class Expected:
    """Who may answer for a deployment."""

    deployment: Deployment
    tasks: frozenset[str] | None = None
    """Ids of the tasks that the engine says are running for it; None where there are no tasks."""


def check_http(question: Http, reply: Reply) -> ProbeResult:
    """Hold an answer against what was expected."""
    return _reply_result(question, reply, _mismatch(question, reply))


def _mismatch(question: Http, reply: Reply) -> str:
    """Name the first difference from what was expected; empty if there is none."""
    if reply.status != question.status:
        where = reply.headers.get("location")
        towards = f" (redirect to {printable(where)})" if where else ""
        return f"status {reply.status}, expected {question.status}{towards}"
    if reply.capped:
        return f"the body is larger than {BODY_CAP} bytes"
    for name, value in question.headers.items():
        if reply.headers.get(name) != value:
            return f"header {name} is {reply.headers.get(name)!r}, expected {value!r}"
    text = reply.body.decode("utf-8", "replace")
    if question.body is not None and text != question.body:
        return f"the body is not {question.body!r}"
    if question.body_contains is not None and question.body_contains not in text:
        return f"the body does not contain {question.body_contains!r}"
    return ""


def check_identity(question: Http, reply: Reply, expected: Expected) -> ProbeResult:
    """Hold the answer against the one deployment that may give it.

    The token alone tells deployments apart. The version, told by the running program and not by its
    config, catches another program under the right label. The task, which only a container of that
    task was told, ties the answer to what the engine reports.
    """
    return _reply_result(question, reply, _stranger(question, reply, expected))


def _stranger(question: Http, reply: Reply, expected: Expected) -> str:  # noqa: PLR0911 - one each
    deployment = expected.deployment
    token = reply.headers.get(TOKEN_HEADER)
    if token is not None and token != deployment.token:
        return "another deployment answers: its token is not this one's"
    if mismatch := _mismatch(question, reply):
        return f"{mismatch}: no identity; is it another program, or is its api or dynamic/ off?"
    if token is None:
        return "a stranger answers: it returned no token"
    try:
        version = json.loads(reply.body)["Version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "it did not tell its version"
    if version != deployment.release.version:
        return f"version {printable(str(version))} answers, expected {deployment.release.version}"
    task = reply.headers.get(TASK_HEADER)
    if expected.tasks is not None and task not in expected.tasks:
        return f"task {printable(task or '(none)')} answers, which the engine doesn't call running"
    return ""


def _reply_result(question: Http, reply: Reply, wrong: str) -> ProbeResult:
    return ProbeResult(
        probe=question.name,
        answer=Answer.FAIL if wrong else Answer.PASS,
        reason=wrong or f"status {reply.status} as expected",
        target_unit=question.target_unit,
        status=reply.status,
        excerpt=printable(reply.body.decode("utf-8", "replace")),
    )


def result(question: Question, answer: Answer, reason: str) -> ProbeResult:
    """Make a result without an HTTP answer."""
    return ProbeResult(question.name, answer, reason, question.target_unit)


def without_colours(text: str) -> str:
    """Take out what a log says to a terminal."""
    return _ESCAPES.sub("", text)


def printable(text: str) -> str:
    """Shorten a text, and take from it what could move a cursor or break a line."""
    # Not the codec "unicode_escape": it would be imported when it is needed, with a file to open.
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:EXCERPT])
    return shown if len(text) <= EXCERPT else shown + "…"
