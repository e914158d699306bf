"""Describes the machine of a measurement: processor, memory, kernel, file system, versions."""

import os
import platform
from pathlib import Path

import psutil
from apps import VERSION


def describe(scratch: Path) -> str:
    """Describe the machine as a Markdown list, without its host name."""
    memory = psutil.virtual_memory().total / 2**30
    facts = {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _file_system(scratch),
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
    """Return the type of the file system that the apps' state was on; fsync depends on it."""
    mounts = [m for m in psutil.disk_partitions(all=True) if path.is_relative_to(m.mountpoint)]
    return max(mounts, key=lambda m: len(m.mountpoint)).fstype if mounts else "unknown"
