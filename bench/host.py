"""What the numbers were taken on."""

import os
import platform
import select
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Final

import psutil
from apps import VERSION

REAP_LIMIT: Final = 10.0
"""Seconds for which an ended orphan is watched."""


def describe(scratch: Path) -> str:
    """Describe the machine, as a Markdown list; nothing in it names it."""
    memory = psutil.virtual_memory().total / 2**30
    facts = {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _file_system(scratch),
        "its init reaps an orphan": f"{1000 * median(_reaping() for _ in range(3)):.0f} ms late",
        "Python": platform.python_version(),
        "Traefik": VERSION,
    }
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _file_system(path: Path) -> str:
    """Name the type of the file system that the apps' state was on: it sets the price of fsync."""
    mounts = [m for m in psutil.disk_partitions(all=True) if path.is_relative_to(m.mountpoint)]
    return max(mounts, key=lambda m: len(m.mountpoint)).fstype if mounts else "unknown"


def _reaping() -> float:
    """Measure the seconds from an orphan's end until its pid is free: who waits for it waits so."""
    command = ["sh", "-c", "sleep 0.3 >/dev/null 2>&1 & echo $!"]
    pid = int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    descriptor = os.pidfd_open(pid)
    try:
        select.select([descriptor], [], [], REAP_LIMIT)
    finally:
        os.close(descriptor)
    ended = time.monotonic()
    while psutil.pid_exists(pid) and time.monotonic() < ended + REAP_LIMIT:
        time.sleep(0.001)
    return time.monotonic() - ended
