"""Exit codes."""

from enum import IntEnum, unique


@unique
class ExitCode(IntEnum):
    """How a run ended. Below 20, a proven release is serving."""

    OK = 0
    COMMITTED = 10
    RESTORED = 11
    ROLLED_BACK = 12
    STRANDED = 20
    UNDECIDED = 21
    UNHEALTHY = 22
    ENGINE_STUCK = 23
    USAGE = 64
    INTERNAL = 70
    STATE = 74
    LOCKED = 75
    ORDERING_REFUSED = 77
    CONFIG = 78
