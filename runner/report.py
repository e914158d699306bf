"""The report of a run: as text, as JSON, and as an exit code."""

import json
from typing import Final

from attrs import asdict, frozen

from runner.exit_codes import ExitCode
from runner.reconcile.attempt import Attempt
from runner.reconcile.machine import State
from runner.reconcile.model import Inconclusive, Release

EXIT: Final = {
    State.UNCHANGED: ExitCode.OK,
    State.COMMITTED: ExitCode.COMMITTED,
    State.RESTORED: ExitCode.RESTORED,
    State.ROLLED_BACK: ExitCode.ROLLED_BACK,
    State.STRANDED: ExitCode.STRANDED,
    State.UNDECIDED: ExitCode.UNDECIDED,
}
"""The detailed code of each outcome.

Without --detailed-exit-code, 10 and 11 become 0: docs/decisions/0005-exit-codes.md has the reason.
"""

_MEANS: Final = {
    State.UNCHANGED: "{serving} is serving; nothing was touched",
    State.COMMITTED: "{serving} is serving, and is last-good now",
    State.RESTORED: "{serving} is serving again",
    State.ROLLED_BACK: "{serving} is serving; {candidate} was rolled back",
    State.STRANDED: "no release that passed its gate is serving",
    State.UNDECIDED: "there is no verdict; nothing was committed; the next run resumes",
}


def name_attempt(attempt: Attempt) -> str:
    """Return the label of the release that an attempt is about, or ``-``."""
    release = attempt.candidate or attempt.target
    return release.label if release else "-"


def _is_stuck(attempt: Attempt) -> bool:
    """Return whether the gate was inconclusive for a reason that waiting can't change."""
    verdict = attempt.verdict
    return isinstance(verdict, Inconclusive) and any(r.terminal for r in verdict.evidence)


@frozen
class Report:
    """The outcome of one run."""

    app: str
    outcome: str
    exit: int
    """The detailed exit code."""
    candidate: str
    serving: str | None
    """The proven release that serves; None where there is none."""
    last_good: str | None
    reason: str
    attempt: str
    seconds: float
    downtime: float | None
    """Seconds without an answer while it deployed; None if it didn't deploy or didn't measure."""

    @classmethod
    def of(
        cls,
        app: str,
        final: State,
        attempt: Attempt,
        proven: tuple[Release, ...],
        seconds: float,
        downtime: float | None,
    ) -> "Report":
        target = attempt.deployment.release.label if attempt.deployment else None
        code = EXIT[final]
        if final is State.UNDECIDED and _is_stuck(attempt):
            code = ExitCode.ENGINE_STUCK
        is_serving = code < ExitCode.STRANDED
        return cls(
            app=app,
            outcome=final.value,
            exit=code,
            candidate=name_attempt(attempt),
            serving=target if is_serving else None,
            last_good=proven[0].label if proven else None,
            reason=attempt.note,
            attempt=attempt.id,
            seconds=round(seconds, 3),
            downtime=None if downtime is None else round(downtime, 3),
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def to_text(self) -> str:
        final = State(self.outcome)
        means = _MEANS[final].format(serving=self.serving, candidate=self.candidate)
        if final is State.ROLLED_BACK and self.candidate == self.serving:
            means = f"{self.serving} is serving; last-good could not be restored"
        because = f"\n  because: {self.reason}" if self.reason else ""
        dark = "" if self.downtime is None else f", {self.downtime:.1f} s without an answer"
        return f"{self.app}: {self.outcome}: {means} ({self.seconds:.1f} s{dark}){because}"

    def exit_code(self, *, detailed: bool) -> int:
        """Return the exit code; without ``detailed`` a good outcome is 0."""
        if not detailed and self.exit in {ExitCode.COMMITTED, ExitCode.RESTORED}:
            return ExitCode.OK
        return self.exit
