"""The systemd unit of dockerd: reads its main PID and restarts it, with systemctl."""

import subprocess
from typing import Final

from attrs import frozen

from runner.reconcile.errors import EngineUnreachableError
from runner.reconcile.replies import printable
from runner.subprocesses import run, systemctl_environment

DEFAULT_UNIT: Final = "docker.service"
PATIENCE: Final = 30.0
"""Seconds for a query of systemd."""
RESTART_TIMEOUT: Final = 150.0
"""Seconds: dockerd gives its containers 15 to end, and systemd gives dockerd 90 to start."""


@frozen
class DockerUnit:
    """The systemd unit that runs dockerd."""

    name: str = DEFAULT_UNIT

    def main_pid(self) -> int:
        """Return the pid of dockerd.

        Raises:
            EngineUnreachableError: the unit has no process, or systemctl fails.
        """
        said = self._systemctl("show", "--property=MainPID", "--value", timeout=PATIENCE)
        if not said.isdecimal() or int(said) == 0:
            raise EngineUnreachableError(
                f"{self.name} has no process", hint=f"systemctl status {self.name}"
            )
        return int(said)

    def restart(self) -> None:
        """Restart the unit and wait until it is up; all containers are stopped meanwhile.

        Raises:
            EngineUnreachableError: the unit did not come up, or systemctl fails.
        """
        self._systemctl("restart", timeout=RESTART_TIMEOUT)

    def _systemctl(self, verb: str, *options: str, timeout: float) -> str:
        try:
            command = ("systemctl", verb, *options, "--", self.name)
            said = run(command, timeout=timeout, environment=systemctl_environment())
            return said.decode().strip()
        except subprocess.CalledProcessError as error:
            why = printable(error.stderr.decode("utf-8", "replace").strip())
        except subprocess.TimeoutExpired:
            why = f"no answer in {timeout:g} s"
        except OSError as error:
            why = f"{error.strerror}"
        raise EngineUnreachableError(f"systemctl {verb} {self.name}: {why}")
