"""Runs a program to its end, or kills it with its helpers when its time is up."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Final

PLAIN: Final = {
    "LC_ALL": "C",
    "SYSTEMD_UTF8": "0",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_URLIFY": "0",
    "SYSTEMD_PAGER": "",
}
"""Environment in which systemd's programs print plain ASCII text: no locale, colours or pager."""
_REACHING_SYSTEMD: Final = ("PATH", "DBUS_SYSTEM_BUS_ADDRESS")


def systemctl_environment() -> dict[str, str]:
    """Make the environment of ``systemctl``, so that its output doesn't depend on the caller's."""
    inherited = {name: os.environ[name] for name in _REACHING_SYSTEMD if name in os.environ}
    return {**inherited, **PLAIN}


def run(
    command: Sequence[str],
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    accepted: Container[int] = (0,),
) -> bytes:
    """Run a program without input; return what it wrote to its standard output.

    It gets a session of its own, so that its helpers, such as git's for http, end with it.

    Args:
        command: the program and its arguments.
        timeout: in seconds.
        environment: all of it; by default this process's own.
        directory: where it runs; by default where this process does.
        accepted: the exit statuses that are no failure.

    Raises:
        subprocess.CalledProcessError: it failed.
        subprocess.TimeoutExpired: it took too long, and was killed with its helpers.
        OSError: it can't be started.
    """
    with subprocess.Popen(  # noqa: S603 - no shell; each caller vouches for its arguments
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=directory,
        start_new_session=True,
    ) as process:
        try:
            output, complaint = process.communicate(timeout=timeout)
        except BaseException:  # the timeout, or Ctrl-C, which doesn't reach another session
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode not in accepted:
        raise subprocess.CalledProcessError(process.returncode, command, output, complaint)
    return output
