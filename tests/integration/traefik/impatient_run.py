"""A run whose clock jumps over the rest of a gate once its failure has been seen often enough.

``impatient_run.py CONFIG_DIR REASON ROUNDS [--force]`` prints the report of the command.

A gate that fails without a terminal result runs to its deadline. A short deadline would depend on
how fast the machine is: the candidate might not even have started. So the deadline is long, and
the clock jumps past it, after one more round that has all the time it needs: the verdict shows what
that round found.
"""

import re
import sys
from pathlib import Path
from typing import Final

from typing_extensions import override

from runner.app import find_app, reconcile
from runner.platforms.build import SystemClock
from runner.reconcile.attempt import Attempt
from runner.reconcile.errors import ReconcileError
from runner.reconcile.events import Event
from runner.reconcile.gate import Progress
from runner.reconcile.interfaces import Watcher
from runner.reconcile.machine import State
from runner.reconcile.model import Outcome
from runner.terminal.progress import choose_watcher

APP: Final = "traefik"
_ANSWERED: Final = 2
"""The gate's second look at the clock in a round."""


class Impatience(SystemClock):
    """The clock of a run and its watcher in one: what the watcher sees moves the clock.

    Afterwards the stability window of a proven release is skipped, too, from its first pass on.
    """

    def __init__(self, watcher: Watcher, reason: str, rounds: int) -> None:
        self._watcher = watcher
        self._reason = reason
        """The failure to wait for: a regular expression, as for the reason of the verdict."""
        self._left = rounds
        """Rounds in which it has to be seen."""
        self._jumped = 0.0
        self._jump = 0.0
        """Seconds to jump when the round that is about to begin has been answered."""
        self._looks = 0
        """How often the gate has looked at the clock since then: as it asks, as it is answered."""
        self._had_passed = False

    @override
    def monotonic(self) -> float:
        if self._jump:
            self._looks += 1
            if self._looks == _ANSWERED:
                self._jumped, self._jump = self._jumped + self._jump, 0.0
        return super().monotonic() + self._jumped

    def entered(self, state: State, attempt: Attempt, event: Event) -> None:
        if state is State.CHOOSING:  # the candidate has failed, with a terminal result or without
            self._left = 0
        self._watcher.entered(state, attempt, event)

    def warn(self, error: ReconcileError) -> None:
        self._watcher.warn(error)

    def gate(self, progress: Progress) -> None:
        self._watcher.gate(progress)
        self._had_passed |= progress.passes > 0
        if self._left == 0:
            if progress.passes == 1:
                self._jumped += progress.policy.window
        elif self._is_seen(progress):
            self._left -= 1
            if self._left == 0:
                self._jump = progress.policy.deadline

    def _is_seen(self, progress: Progress) -> bool:
        """Return whether a verdict on this round would give this reason: its first failure.

        A failure behind another one may come from that one: a port refuses connections as long as
        the task is not running.
        """
        flapped = " (it had passed and failed again, 1x)" if self._had_passed else ""
        answers = [result.outcome for result in progress.last]
        if Outcome.FAIL not in answers and Outcome.INCONCLUSIVE not in answers:
            return False
        worst = Outcome.FAIL if Outcome.FAIL in answers else Outcome.INCONCLUSIVE
        first = progress.last[answers.index(worst)]
        return re.search(self._reason, f"{first.probe}: {first.reason}{flapped}") is not None


def main(config_dir: Path, reason: str, rounds: int, *flags: str) -> int:
    app = find_app(APP, config=None, config_dir=config_dir)
    clock = Impatience(choose_watcher(sys.stderr, APP), reason, rounds)
    report = reconcile(app, clock, forced="--force" in flags, clock=clock)
    print(report.to_json())  # noqa: T201 - read by the test
    return report.exit_code(detailed=False)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
