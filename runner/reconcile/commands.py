"""Programs that are run to their end, or to the end of their time with all that they started."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence


def run(
    command: Sequence[str], *, timeout: float, environment: Mapping[str, str] | None = None
) -> bytes:
    """Run a program that asks no questions; return what it wrote to its standard output.

    It gets a session of its own, so that its helpers, such as git's for http, end with it.

    Raises:
        subprocess.CalledProcessError: it failed.
        subprocess.TimeoutExpired: it took too long; nothing of it is left.
        OSError: it can't be started.
    """
    with subprocess.Popen(  # noqa: S603 - no shell; each caller vouches for its arguments
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            output, complaint = process.communicate(timeout=timeout)
        except BaseException:  # the timeout, or Ctrl-C, which doesn't reach another session
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command, output, complaint)
    return output
