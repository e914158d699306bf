"""The exceptions of this program, by their cause.

::

    ReconcileError                 a message, a hint, an exit code; printed without a traceback
    ├── UsageError                 the operator: a wrong command line
    ├── ConfigError                the operator: a config that is missing, wrong or over budget
    ├── StateError                 the host: a state directory that is unsafe, unreadable or full
    │   └── JournalError           ... a journal that can't be read, or must not be
    ├── OrderingError              the operator: a probe would wait for its own caller
    │   └── UnprovenError          ... or the start order can't be determined
    ├── LockedError                no fault: another run holds the app
    ├── SourceUnreachableError     the source: the latest release can't be known or obtained now
    ├── DeployError                the release, or the host: the release does not serve
    │   └── NotPreparedError       ... the host: the preparation failed, and nothing was touched
    └── EngineUnreachableError     the host: Docker, or another platform, can't be reached

    InternalError                  this program; printed with a traceback
    ├── IllegalStepError           an event that the table has no row for
    └── InvariantError             a step that would break a promise of docs/architecture.md

Each class has its exit code (``exit_codes.py``).
"""

from runner.exit_codes import ExitCode


class ReconcileError(Exception):
    """An expected failure: a message, and a hint with the next step."""

    exit_code = ExitCode.INTERNAL

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ReconcileError):
    exit_code = ExitCode.USAGE


class ConfigError(ReconcileError):
    exit_code = ExitCode.CONFIG


class StateError(ReconcileError):
    exit_code = ExitCode.STATE


class JournalError(StateError):
    pass


class OrderingError(ReconcileError):
    exit_code = ExitCode.ORDERING_REFUSED

    def __init__(self, message: str, *, hint: str = "", chain: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.chain = chain
        """Units, from the probed one to the caller; each starts after the next."""


class UnprovenError(OrderingError):
    pass


class LockedError(ReconcileError):
    exit_code = ExitCode.LOCKED


class SourceUnreachableError(ReconcileError):
    exit_code = ExitCode.UNDECIDED


class DeployError(ReconcileError):
    exit_code = ExitCode.STRANDED


class NotPreparedError(DeployError):
    pass


class EngineUnreachableError(ReconcileError):
    exit_code = ExitCode.UNDECIDED


class InternalError(Exception):
    """A defect of this program."""


class IllegalStepError(InternalError):
    pass


class InvariantError(InternalError):
    pass
