"""Exit codes: the one table. ``--help`` and docs/reference/exit-codes.md are made from it.

The codes are an API. Below 20 a proven release serves; 64 and up are those of ``sysexits.h``.
"""

from enum import IntEnum, unique
from typing import Self


@unique
class ExitCode(IntEnum):
    """How a command ended, with the sentence that explains it."""

    meaning: str

    def __new__(cls, number: int, meaning: str = "") -> Self:
        made = int.__new__(cls, number)
        made._value_ = number
        made.meaning = meaning
        return made

    OK = 0, "A proven release serves. Without --detailed-exit-code also in place of 10 and 11."
    COMMITTED = 10, "The latest release passed its gate and is last-good now."
    RESTORED = 11, "Last-good was not live or not healthy; it serves again."
    ROLLED_BACK = 12, "A proven release serves; the latest one failed its gate."
    STRANDED = 20, "No proven release passes its gate now."
    UNDECIDED = (
        21,
        "Docker is unreachable or no probe could run; nothing was committed; the next run resumes.",
    )
    UNHEALTHY = (
        22,
        "converge: the assertion does not hold. sweep: last-good is not live and healthy.",
    )
    ENGINE_STUCK = 23, "As 21, and dockerd can start no task until it is restarted."
    USAGE = 64, "Wrong command line, or unknown app."
    INTERNAL = 70, "A defect of this program; it prints a traceback."
    STATE = 74, "The state directory or the journal is refused, or can't be written."
    LOCKED = 75, "Another run holds the app."
    ORDERING_REFUSED = (
        77,
        "A probe would wait for its caller, or the order can't be determined; nothing was touched.",
    )
    CONFIG = 78, "The config has mistakes; the message lists all of them."
