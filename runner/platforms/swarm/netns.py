"""Runs a function in the network namespace of a container, where loopback is that container.

Several tasks share a published port, and a preflight publishes none; on its own loopback each task
can be probed alone. Needs root (CAP_SYS_ADMIN), as the use of the Docker socket does in effect.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_T = TypeVar("_T")

CLONE_NEWNET: Final = 0x40000000
"""From linux/sched.h; ``os.setns`` is in Python 3.12 and newer."""


def run_inside(pid: int, function: Callable[[], _T]) -> _T:
    """Run ``function`` in the network namespace of process ``pid``.

    Raises:
        OSError: the process has ended, or this user may not enter the namespace.
    """

    def enter() -> _T:
        _enter(pid)
        return function()

    # setns(2) changes only the thread that calls it: a thread of its own leaves this one alone.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="inside") as thread:
        return thread.submit(enter).result()


def _enter(pid: int) -> None:
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
