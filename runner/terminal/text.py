"""Formats events, verdicts and probe results as one sentence each, for every output."""

from typing import Final, assert_never

from runner.reconcile import events
from runner.reconcile.model import (
    Healthy,
    Inconclusive,
    Outcome,
    ProbeResult,
    Unhealthy,
    Verdict,
)

_MARKS: Final = {Outcome.PASS: "ok", Outcome.FAIL: "FAILED", Outcome.INCONCLUSIVE: "inconclusive"}


def format_event(event: events.Event | events.CommitFailed) -> str:  # noqa: C901, PLR0911, PLR0912 - one arm an event
    """Describe an event for an operator."""
    match event:
        case events.CandidateFound(release):
            return f"{release.label} is the latest and not last-good: it goes on trial"
        case events.CandidateLive(deployment):
            return f"an interrupted run left {deployment.release.label} live without a verdict"
        case events.LastGoodLive(deployment, remark):
            return f"{deployment.release.label} is last-good and live" + _in_brackets(remark)
        case events.LastGoodAbsent(release, remark):
            return f"{release.label} is last-good but not live" + _in_brackets(remark)
        case events.RollbackDue(candidate, reason):
            return f"{candidate.label} was given up by an interrupted run: {reason}"
        case events.NothingDeployable(reason):
            return f"nothing may be deployed: {reason}"
        case events.Unreachable(reason):
            return f"unreachable: {reason}"
        case events.Deployed(deployment):
            return f"{deployment.release.label} is deployed"
        case events.DeployFailed(deployment, reason, _):
            return f"{deployment.release.label} can't be deployed: {reason}"
        case events.Judged(verdict):
            return format_verdict(verdict)
        case events.Committed(release):
            return f"{release.label} is last-good now"
        case events.CommitFailed(release, reason):
            return f"{release.label} can't become last-good: {reason}"
        case events.FallbackChosen(release):
            return f"falling back to {release.label}, which is proven"
        case events.FallbackLive(deployment):
            return f"{deployment.release.label}, which is proven, is still live"
        case events.NoFallback(reason) | events.NothingDecided(reason):
            return reason
        case _:
            assert_never(event)


def _in_brackets(remark: str) -> str:
    return f" ({remark})" if remark else ""


def format_verdict(verdict: Verdict) -> str:
    """Describe how a gate ended."""
    label = verdict.deployment.release.label
    match verdict:
        case Healthy(_, _, rounds, held):
            return f"{label} is healthy: held {held:.1f} s over {rounds} rounds"
        case Unhealthy(_, reason, _, _):
            return f"{label} is unhealthy: {reason}"
        case Inconclusive(_, reason, _, _):
            return f"{label} can't be judged: {reason}"
        case _:
            assert_never(verdict)


def format_result(result: ProbeResult) -> str:
    """Describe the result of one probe, with its evidence."""
    seen = f"; saw: {result.excerpt}" if result.excerpt else ""
    return (
        f"{result.probe}: {_MARKS[result.outcome]}: {result.reason}"
        f" ({result.latency * 1000:.0f} ms, served by {result.target_unit}){seen}"
    )
