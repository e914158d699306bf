"""The gate: turns rounds of probe results over time into a verdict. Pure.

A gate passes when every probe has passed in ``rise`` consecutive rounds *and* these span at least
the stability window. One failure restarts both, and so does an inconclusive round.

Why these numbers: HAProxy wants 2 consecutive successes (``rise``) of a server that it knew, Nomad
10 s (``min_healthy_time``) of one that is new. A fresh release needs the stricter rule of both,
because a crash-loop answers between its crashes.
"""

from collections.abc import Callable
from typing import Final, Protocol

from attrs import evolve, frozen

from runner.reconcile.field_types import Count, Duration, Seconds
from runner.reconcile.model import (
    Deployment,
    Healthy,
    Inconclusive,
    Outcome,
    ProbeResult,
    Round,
    Unhealthy,
    Verdict,
)

EAGERNESS: Final = 0.1
"""Fraction of the time already spent that may pass between two rounds: a decision comes at most a
tenth later than the evidence for it."""


@frozen
class GatePolicy:
    """The conditions under which a gate passes. All times in seconds, on the monotonic clock."""

    rise: Count = 3
    """Consecutive rounds that must pass."""
    window: Duration = 10.0
    """Time that they must span, from the end of the first round to the start of the last."""
    deadline: Seconds = 60.0
    """Time for everything, from the deployment on."""
    verify_deadline: Seconds = 10.0
    """Time for a proven release that is live already to pass one round."""
    fastest: Seconds = 0.02
    """The first pause between two rounds."""
    slowest: Seconds = 1.0
    """The longest pause between two rounds."""

    def for_verifying(self) -> "GatePolicy":
        """Relax it for the verification of a live proven release: one passing round is enough."""
        return evolve(self, rise=1, window=0.0, deadline=self.verify_deadline)


@frozen
class Wait:
    """No verdict yet: run the next round after ``seconds``."""

    seconds: float


@frozen
class Progress:
    """The progress of a gate, for a ``Watcher``. Times in seconds."""

    rounds: int
    passes: int
    held: float
    elapsed: float
    policy: GatePolicy
    last: Round


class Gate:
    """One gate over one deployment. ``observe`` every round; stop at the first verdict."""

    def __init__(self, policy: GatePolicy, deployment: Deployment, started: float) -> None:
        self._policy = policy
        self._deployment = deployment
        self._started = started
        self._rounds = 0
        self._passes = 0
        self._first_answer = started
        self._held = 0.0
        self._phase_began = started
        self._flaps = 0
        self._before: dict[tuple[str, Outcome], ProbeResult] = {}
        """The results of the previous round."""

    def remaining(self, now: float) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self._started + self._policy.deadline - now)

    def progress(self, last: Round, now: float) -> Progress:
        return Progress(
            self._rounds, self._passes, self._held, now - self._started, self._policy, last
        )

    def observe(self, results: Round, asked: float, answered: float) -> Verdict | Wait:
        """Judge one round that began at ``asked`` and ended at ``answered``, both monotonic."""
        self._rounds += 1
        outcome = _combine(results)
        if outcome is Outcome.PASS:
            self._pass(asked, answered)
            if self._is_content():
                return Healthy(self._deployment, results, self._rounds, self._held)
        else:
            self._break_streak(answered)
            terminal = [r for r in results if r.outcome is outcome and r.terminal]
            if terminal:
                return self._conclude(outcome, _explain(terminal[0]), results)
        if self._is_hopeless(answered):
            return self._too_late(outcome, results)
        self._before = {(r.probe, r.outcome): r for r in results}
        return Wait(self._pause(answered))

    def _pass(self, asked: float, answered: float) -> None:
        if self._passes == 0:
            self._first_answer = self._phase_began = answered
        self._passes += 1
        # Conservative: from the end of the first passing round to the start of the last one.
        self._held = max(0.0, asked - self._first_answer)

    def _is_content(self) -> bool:
        return self._passes >= self._policy.rise and self._held >= self._policy.window

    def _break_streak(self, answered: float) -> None:
        if self._passes:
            self._flaps += 1
            self._phase_began = answered
        self._passes = 0
        self._held = 0.0

    def _latest_start(self) -> float:
        """When a streak must begin in order to span the window before the deadline."""
        return self._started + self._policy.deadline - self._policy.window

    def _is_hopeless(self, now: float) -> bool:
        """No continuation can pass any more: waiting on would only lengthen an outage."""
        begin = self._first_answer if self._passes else now
        return begin > self._latest_start() or self.remaining(now) == 0

    def _pause(self, now: float) -> float:
        pause = max(EAGERNESS * (now - self._phase_began), self._policy.fastest)
        pause = min(pause, self._policy.slowest, self.remaining(now))
        if self._passes:
            window_ends = self._first_answer + self._policy.window
            return max(min(pause, window_ends - now), 0.0) or self._policy.fastest
        return max(min(pause, (self._latest_start() - now) / 2), self._policy.fastest)

    def _too_late(self, outcome: Outcome, results: Round) -> Verdict:
        policy = self._policy
        limit = f"the deadline of {policy.deadline:g} s"
        if outcome is Outcome.PASS:
            return self._unhealthy(
                f"too late: {self._passes} of {policy.rise} passes over {self._held:.1f} s"
                f" of {policy.window:g} s when {limit} left no time",
                results,
            )
        # The deadline may cut the last round short, so its timeouts prove little: prefer a failure
        # that the round before had, too.
        bad = [r for r in results if r.outcome is outcome]
        lasting = [
            self._before[r.probe, outcome] for r in bad if (r.probe, outcome) in self._before
        ]
        reason = _explain((lasting or bad)[0]) if bad else "no probe ran"
        late = f" (and {limit} left no time to hold)" if outcome is Outcome.FAIL else ""
        return self._conclude(outcome, reason + late, results)

    def _conclude(self, outcome: Outcome, reason: str, results: Round) -> Verdict:
        """Return the verdict for an outcome other than PASS."""
        if outcome is Outcome.FAIL:
            return self._unhealthy(reason, results)
        return Inconclusive(self._deployment, reason, results, self._rounds)

    def _unhealthy(self, reason: str, results: Round) -> Unhealthy:
        if self._flaps:
            reason += f" (it had passed and failed again, {self._flaps}x)"
        return Unhealthy(self._deployment, reason, results, self._rounds)


def _combine(results: Round) -> Outcome:
    """FAIL beats INCONCLUSIVE beats PASS; no result at all is no evidence."""
    answers = {result.outcome for result in results}
    if Outcome.FAIL in answers:
        return Outcome.FAIL
    if Outcome.INCONCLUSIVE in answers or not answers:
        return Outcome.INCONCLUSIVE
    return Outcome.PASS


def _explain(result: ProbeResult) -> str:
    return f"{result.probe}: {result.reason}"


class Clock(Protocol):
    """The clock that the core uses."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def sleep(self, seconds: float) -> None: ...

    def now(self) -> float:
        """Unix time, seconds."""
        ...


def judge(
    policy: GatePolicy,
    deployment: Deployment,
    ask: Callable[[Deployment, float], Round],
    clock: Clock,
    watch: Callable[[Progress], None],
) -> Verdict:
    """Run probe rounds until there is a verdict: at the latest one round after the deadline.

    ``ask`` gets the seconds that are left, and must return within them.
    """
    gate = Gate(policy, deployment, clock.monotonic())
    while True:
        asked = clock.monotonic()
        results = ask(deployment, gate.remaining(asked))
        answered = clock.monotonic()
        step = gate.observe(results, asked, answered)
        watch(gate.progress(results, answered))
        if not isinstance(step, Wait):
            return step
        clock.sleep(step.seconds)
