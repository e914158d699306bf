"""The lock of an app (flock): one run at a time; the kernel frees it when its holder dies."""

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Generator
from pathlib import Path

from runner.reconcile.errors import LockedError, StateError

_POLL = 0.1
"""Seconds between two tries; flock(2) has no timeout of its own."""
_SHOWN = 200
"""Characters of the holder's command line that a message shows."""
_SIGNED = 4096
"""Bytes read of the holder's description; enough even if JSON escapes each character."""


@contextlib.contextmanager
def hold(path: Path, *, wait: float = 0.0) -> Generator[None]:
    """Hold the lock, waiting up to ``wait`` seconds for another run to end.

    Raises:
        LockedError: another run holds it; the message names its process.
        StateError: the file can't be opened.
    """
    try:
        # O_CLOEXEC (Python's default): an app that the run starts must not inherit the lock.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StateError(f"the lock {path} can't be opened: {error.strerror}") from error
    try:
        _acquire(descriptor, path, time.monotonic() + wait)
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                raise LockedError(
                    f"another run holds {path.parent.name}: {_holder(descriptor)}",
                    hint="wait for it, or give --wait SECONDS",
                ) from None
            time.sleep(min(_POLL, left))
        else:
            return


def _sign(descriptor: int) -> None:
    """Write pid, time and command line into the file, for another run's message only."""
    holder = {"pid": os.getpid(), "since": time.time(), "command": " ".join(sys.argv)[:_SHOWN]}
    with contextlib.suppress(OSError):  # a full disk must not stop a run before it has begun
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, _SIGNED, 0))
        since = time.strftime("%H:%M:%S", time.localtime(holder["since"]))
        return f"process {holder['pid']}, since {since} ({holder['command']})"
    except (ValueError, KeyError, TypeError, OSError, OverflowError, RecursionError):
        return "process unknown (the lock file is empty or damaged)"


def holder_of(path: Path) -> int | None:
    """Return the pid of the run that holds the lock, from /proc/locks (proc(5)); takes no lock."""
    try:
        info = path.stat()
        locks = Path("/proc/locks").read_text()
    except OSError:
        return None
    inode = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
    for line in locks.splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and inode in fields:
            return int(fields[4])
    return None
