"""Run a command and print its seconds, its peak memory in KiB, and its exit status, as JSON.

This is a small process of its own, because Linux counts the memory of the parent into the peak of
a new child. Run with ``-I -S``, it is smaller than any Python that imports ``site``.
"""

import os
import sys
import time

command = sys.argv[1:]
null = os.open(os.devnull, os.O_RDWR)
began = time.perf_counter()
pid = os.posix_spawn(
    command[0],
    command,
    os.environ,
    file_actions=[(os.POSIX_SPAWN_DUP2, null, stream) for stream in (0, 1, 2)],
)
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - began
print(f"[{seconds}, {usage.ru_maxrss}, {os.waitstatus_to_exitcode(status)}]")
