"""Run a command and print its seconds, its peak memory in KiB, and its exit status, as JSON.

A process of its own, and a small one: Linux counts the memory of whoever starts a process into the
peak of what it starts. Run with ``-I -S``, this is smaller than any Python that imports ``site``.
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
