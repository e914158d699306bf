"""The engine as a service of systemd: which process it is, and its restart. Through systemctl."""

import subprocess
from typing import Final

from attrs import frozen

from runner.reconcile.errors import EngineUnreachableError
from runner.reconcile.replies import printable
from runner.subprocesses import run, systemctl_environment

DEFAULT_UNIT: Final = "docker.service"
PATIENCE: Final = 30.0
"""Seconds for a probe to systemd."""
RESTART_TIMEOUT: Final = 150.0
"""Seconds: dockerd gives its containers 15 to end, and systemd gives dockerd 90 to start."""


@frozen
class EngineUnit:
    """The service that the engine is."""

    name: str = DEFAULT_UNIT

    def main_pid(self) -> int:
        """Ask for the engine's process.

        Raises:
            EngineUnreachableError: it doesn't run, or systemd can't be asked.
        """
        said = self._systemctl("show", "--property=MainPID", "--value", timeout=PATIENCE)
        if not said.isdecimal() or int(said) == 0:
            raise EngineUnreachableError(
                f"{self.name} has no process", hint=f"does it run? systemctl status {self.name}"
            )
        return int(said)

    def restart(self) -> None:
        """Start it again, and wait until it is up; its containers end meanwhile.

        Raises:
            EngineUnreachableError: it did not come up, or systemd can't be asked.
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
