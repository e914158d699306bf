"""What the reading commands answer: each view is data for machines and text for people."""

import time
from collections.abc import Iterable
from typing import Any, Final, assert_never

from attrs import asdict, frozen

from runner.cli.app_state import Survey
from runner.reconcile.attempt import Entry, Interrupted
from runner.reconcile.decisions import assess
from runner.reconcile.errors import UsageError
from runner.reconcile.events import (
    Assess,
    CandidateFound,
    CandidateLive,
    ChooseFallback,
    Commit,
    Deploy,
    Judged,
    LastGoodAbsent,
    LastGoodLive,
    NothingDeployable,
    RollbackDue,
    RunGate,
    Verify,
)
from runner.reconcile.model import Deployment, LatestUnknown, NotLive, Release
from runner.storage.codec import name_of, state_to_text, to_data
from runner.storage.history import History, PastAttempt
from runner.terminal.text import tell, tell_result

_DEEP: Final = 11 * " "
_EFFECTS = (Assess, Verify, Deploy, RunGate, Commit, ChooseFallback)


@frozen
class View:
    """An answer in both of its forms."""

    data: object
    text: str


def status(survey: Survey) -> View:
    facts = survey.facts
    live = facts.live.release if isinstance(facts.live, Deployment) else None
    data = {
        "app": survey.app,
        "last_good": _label(facts.last_good),
        "live": _label(live),
        "live_is_proven": live in facts.proven,
        "proven": [release.label for release in facts.proven],
        "quarantine": [
            {"release": q.release.label, "reason": q.reason, "until": q.until}
            for q in survey.quarantine
        ],
        "running_pid": survey.holder,
        "last_attempt": _attempt_data(survey.last) if survey.last else None,
        "engine": survey.engine or "ok",
    }
    lines = [
        survey.app,
        f"  last-good   {_label(facts.last_good) or 'none: no release has passed its gate yet'}",
        f"  live        {_live_text(survey)}",
    ]
    older = [release.label for release in facts.proven[1:]]
    if older:
        lines.append(f"  proven      {', '.join(older)}")
    lines += [
        f"  quarantine  {q.release.label} until {_time(q.until)}: {q.reason}"
        for q in survey.quarantine
    ]
    if survey.last:
        lines.append(f"  last run    {_attempt_line(survey.last)}")
    if survey.holder:
        lines.append(f"  running     process {survey.holder}")
    elif survey.last and survey.last.ended is None:
        lines.append("  interrupted the next run takes it up where it stood")
    return View(data, "\n".join(lines))


def plan(survey: Survey) -> View:
    facts = survey.facts
    if survey.engine:
        return View({"app": survey.app, "does": "nothing", "because": survey.engine}, survey.engine)
    event = assess(facts)
    given_up = facts.wanted
    match event:
        case CandidateFound(release):
            does = f"deploy {release.label}, gate it, commit it if it is healthy"
        case CandidateLive(deployment):
            does = f"gate {deployment.release.label} again, commit it if it is healthy"
        case LastGoodAbsent(release, _):
            does = f"deploy {release.label} again and gate it"
        case LastGoodLive():
            does = "look at what is live, and touch nothing if it is healthy"
        case RollbackDue(candidate, _):
            given_up = candidate
            does = f"fall back from {candidate.label}"
        case NothingDeployable():
            does = "do nothing"
        case _:
            assert_never(event)
    because = tell(event)
    older = [release.label for release in facts.proven if release != given_up]
    fallbacks = older[: survey.fallback_depth]
    data = {
        "app": survey.app,
        "event": name_of(event),
        "does": does,
        "because": because,
        "if_it_fails": fallbacks,
    }
    fall = ", then ".join(fallbacks) or "none: it would be stranded"
    text = f"{survey.app}: would {does}\n  because: {because}\n  fallback: {fall}"
    return View(data, text)


def releases(survey: Survey) -> View:
    facts = survey.facts
    known: dict[str, list[str]] = {label.text: [] for label in survey.offered}
    if not isinstance(facts.latest, LatestUnknown):
        known.setdefault(facts.latest.label, []).append("latest")
    for place, release in enumerate(facts.proven):
        known.setdefault(release.label, []).append("proven" if place else "last-good")
    for q in survey.quarantine:
        known.setdefault(q.release.label, []).append("quarantine")
    if isinstance(facts.live, Deployment):
        known.setdefault(facts.live.release.label, []).append("live")
    lines = [f"{label:<24} {', '.join(marks)}".rstrip() for label, marks in known.items()]
    if isinstance(facts.latest, LatestUnknown):
        lines.append(f"the latest is unknown: {facts.latest.reason}")
    data = [{"release": label, "is": marks} for label, marks in known.items()]
    return View(data, "\n".join(lines))


def history(app: str, attempts: Iterable[PastAttempt]) -> View:
    listed = list(attempts)
    lines = [_attempt_line(attempt) for attempt in listed]
    return View([_attempt_data(a) for a in listed], "\n".join(lines) or f"{app} never ran")


def explain(app: str, past: History | None, number: int | None) -> View:
    """Tell one attempt.

    Raises:
        UsageError: there is no such attempt.
    """
    attempts = past.attempts(1) if past and number is None else []
    if past and number is not None:
        attempts = past.attempt(number)
    if not past or not attempts:
        which = f"attempt {number}" if number is not None else "an attempt"
        raise UsageError(f"{app} has no {which}", hint=f"warm-reconcile history {app}")
    attempt = attempts[0]
    story = past.story(attempt.number)
    lines = [_attempt_line(attempt)]
    for at, entry in story:
        lines += _entry_lines(at, entry)
    data = {
        **_attempt_data(attempt),
        "story": [{"at": at, **to_data(entry)} for at, entry in story],
    }
    return View(data, "\n".join(lines))


def _entry_lines(at: float, entry: Entry) -> list[str]:
    if isinstance(entry, Interrupted):
        how = "was killed" if entry.crashed else "ended undecided"
        return [f"{_time(at)}  the run before {how}; this one takes it up"]
    if isinstance(entry, _EFFECTS):
        return []
    lines = [f"{_time(at)}  {tell(entry)}"]
    if isinstance(entry, Judged):
        lines += [f"{_DEEP}{tell_result(result)}" for result in entry.verdict.evidence]
    return lines


def _attempt_line(attempt: PastAttempt) -> str:
    note = f"  {attempt.note}" if attempt.note else ""
    return (
        f"#{attempt.number:<5} {_time(attempt.begun)}  {attempt.state.value:<12}"
        f" {attempt.release:<18}{note}".rstrip()
    )


def _attempt_data(attempt: PastAttempt) -> dict[str, Any]:
    return {**asdict(attempt), "state": state_to_text(attempt.state)}


def _live_text(survey: Survey) -> str:
    if survey.engine:
        return f"unknown: {survey.engine}"
    live = survey.facts.live
    if isinstance(live, NotLive):
        return f"nothing of ours ({live.reason})" if live.reason else "nothing"
    proven = "" if live.release in survey.facts.proven else " (not proven)"
    return f"{live.release.label}{proven}"


def _label(release: Release | None) -> str | None:
    return release.label if release else None


def _time(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
