"""Reports the progress of a run: on a terminal, or as log lines for the journal of systemd."""

import contextlib
import json
import os
import time
from typing import Final, TextIO

from runner.reconcile.attempt import Attempt
from runner.reconcile.errors import ReconcileError
from runner.reconcile.events import Event
from runner.reconcile.gate import Progress
from runner.reconcile.interfaces import Watcher
from runner.reconcile.machine import State
from runner.reconcile.model import Outcome
from runner.report import name_attempt
from runner.storage.codec import name_of
from runner.terminal.text import format_event

_CLEAR: Final = "\r\x1b[K"


class TerminalWatcher:
    """Prints a line for each step, and one live line for the gate: phase, passes, time left."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_live = out.isatty()
        self._began = time.monotonic()

    def entered(self, state: State, attempt: Attempt, event: Event) -> None:
        del attempt
        elapsed = time.monotonic() - self._began
        self._write(f"{elapsed:6.1f} s  {state.name.lower():<12}  {format_event(event)}\n")

    def gate(self, progress: Progress) -> None:
        if not self._is_live:
            return
        policy = progress.policy
        failing = [f"{r.probe}: {r.reason}" for r in progress.last if r.outcome is not Outcome.PASS]
        now = failing[0] if failing else f"held {progress.held:.1f} of {policy.window:g} s"
        left = max(0.0, policy.deadline - progress.elapsed)
        width = os.get_terminal_size(self._out.fileno()).columns
        line = f"          gate: {progress.passes}/{policy.rise} passes, {left:.0f} s left; {now}"
        self._write(line[: width - 1])

    def warn(self, error: ReconcileError) -> None:
        self._write(f"warning: {error.message}\n")

    def _write(self, text: str) -> None:
        _write(self._out, f"{_CLEAR}{text}" if self._is_live else text)


class LogWatcher:
    """Writes a ``key=value`` line for each event, for journald with sd-daemon(3) priorities."""

    INFO: Final = 6
    WARNING: Final = 4

    def __init__(self, out: TextIO, app: str, *, journald: bool) -> None:
        self._out = out
        self._app = app
        self._journald = journald

    def entered(self, state: State, attempt: Attempt, event: Event) -> None:
        bad = state in {State.CHOOSING, State.ROLLED_BACK, State.STRANDED, State.UNDECIDED}
        self._log(
            self.WARNING if bad else self.INFO,
            attempt=attempt.id[:12],
            state=state.name,
            release=name_attempt(attempt),
            event=name_of(event),
            msg=format_event(event),
        )

    def gate(self, progress: Progress) -> None:
        """Write nothing: a round is no event, and the verdict carries the evidence."""

    def warn(self, error: ReconcileError) -> None:
        self._log(self.WARNING, msg=error.message)

    def _log(self, priority: int, **fields: str) -> None:
        prefix = f"<{priority}>" if self._journald else ""
        pairs = " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())
        _write(self._out, f"{prefix}app={self._app} {pairs}\n")


def _write(out: TextIO, text: str) -> None:
    """Write; ignore a closed or full output, because that must not stop a rollback."""
    with contextlib.suppress(OSError):
        out.write(text)
        out.flush()


def _quoted(value: str) -> str:
    """Quote as JSON if necessary, so that no text breaks the line or moves a cursor."""
    if value and all(c.isascii() and (c.isalnum() or c in "._+-:/") for c in value):
        return value
    return json.dumps(value)


def choose_watcher(out: TextIO, app: str) -> Watcher:
    """Choose the watcher for a terminal, or else the one for a log."""
    if out.isatty():
        return TerminalWatcher(out)
    return LogWatcher(out, app, journald=_is_journal(out))


def _is_journal(out: TextIO) -> bool:
    """Compare with $JOURNAL_STREAM, as systemd.exec(5) says."""
    try:
        info = os.fstat(out.fileno())
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"
