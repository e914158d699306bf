"""Measures the wall time and the peak memory of a command."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen
from rows import BenchError

LIMIT: Final = 60.0
"""Seconds after which a command counts as hung."""
_LEAN: Final = Path(__file__).parent / "lean.py"


@frozen
class Cost:
    """The cost of one command, from its start until it was reaped."""

    seconds: float
    peak: int
    """Peak resident memory in bytes (``ru_maxrss`` of wait4)."""


def cost(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Run a command that must succeed; its output is discarded.

    Raises:
        BenchError: the command failed.
    """
    launcher = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_LEAN), *command],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, _ = launcher.communicate(timeout=LIMIT)
    except BaseException:
        os.killpg(launcher.pid, signal.SIGKILL)  # the launcher and the command
        launcher.wait()
        raise
    if launcher.returncode != 0:
        raise BenchError(f"{' '.join(command)} can't be started")
    seconds, peak, status = json.loads(out)
    if status != 0:
        raise BenchError(f"status {status} of {' '.join(command)}")
    return Cost(seconds, peak * 1024)
