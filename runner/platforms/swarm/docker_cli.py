"""Runs the ``docker`` command, the only program that turns compose files into Swarm services."""

import os
import subprocess
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from runner.reconcile.errors import EngineUnreachableError, ReconcileError
from runner.subprocesses import run

INHERITED: Final = ("PATH", "HOME", "DOCKER_CONFIG")
"""The only variables of our environment that the command gets: a compose file must not depend on
which user runs us."""
_NO_ENGINE: Final = (
    *("Cannot connect to the Docker daemon", "failed to connect to the docker API"),
    *("error during connect", "deadline exceeded", "the server probably has client authentication"),
    *("permission denied while trying to connect", "code = Unavailable"),
    *("does not have a leader", "not a swarm manager"),
)
"""Errors of the command, versions 20.10 to 29, if it can't reach dockerd or a swarm leader."""


class RefusedError(ReconcileError):
    """The command, or dockerd, refused."""


@frozen
class Docker:
    """The command, bound to one Docker host."""

    url: str
    """As in ``DOCKER_HOST``."""

    def run(
        self, *arguments: str, timeout: float, environment: Mapping[str, str] | None = None
    ) -> bytes:
        """Run one command; return what it printed.

        Args:
            arguments: of ``docker``.
            timeout: in seconds, for the whole command.
            environment: variables that compose files may refer to.

        Raises:
            RefusedError: it failed; the message has its stderr.
            EngineUnreachableError: no such command, dockerd is unreachable, or the time ran out.
        """
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        everything = {**(environment or {}), **inherited, "DOCKER_HOST": self.url}
        verb = " ".join(arguments[:2])
        try:
            return run(["docker", *arguments], timeout=timeout, environment=everything)
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode("utf-8", "replace").strip()
            if any(words in said for words in _NO_ENGINE):
                raise EngineUnreachableError(f"`docker {verb}`: {said}") from error
            raise RefusedError(f"`docker {verb}` failed: {said or 'no reason given'}") from error
        except subprocess.TimeoutExpired as error:
            raise EngineUnreachableError(f"`docker {verb}` took more than {timeout:g} s") from error
        except ValueError as error:  # a variable with a NUL byte
            raise RefusedError(f"`docker {verb}` can't be run: {error}") from error
        except OSError as error:
            raise EngineUnreachableError(
                f"the docker command can't be run: {error.strerror}",
                hint="install the docker CLI, version 25 or newer",
            ) from error
