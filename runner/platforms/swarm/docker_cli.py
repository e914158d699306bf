"""Runs the ``docker`` command: what turns a compose file into services is there, and only there."""

import os
import subprocess
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from runner.reconcile.errors import EngineUnreachableError, ReconcileError
from runner.subprocesses import run

INHERITED: Final = ("PATH", "HOME", "DOCKER_CONFIG")
"""All that the command gets of our environment: compose files must not depend on who calls."""
_NO_ENGINE: Final = (
    *("Cannot connect to the Docker daemon", "failed to connect to the docker API"),
    *("error during connect", "deadline exceeded", "the server probably has client authentication"),
    *("permission denied while trying to connect", "code = Unavailable"),
    *("does not have a leader", "not a swarm manager"),
)
"""Words by which the command, of version 20.10 to 29, says that it reached no engine."""


class RefusedError(ReconcileError):
    """The command, or the engine behind it, said no."""


@frozen
class Docker:
    """The command, bound to one engine."""

    url: str
    """As in ``DOCKER_HOST``."""

    def run(
        self, *arguments: str, timeout: float, environment: Mapping[str, str] | None = None
    ) -> bytes:
        """Run one command; return what it printed.

        Args:
            arguments: of ``docker``.
            timeout: in seconds, for the whole command.
            environment: what compose files may refer to.

        Raises:
            RefusedError: it said no; the message is its own.
            EngineUnreachableError: there is no command, no engine, or no answer in time.
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
        except ValueError as error:  # a variable that no program can be given
            raise RefusedError(f"`docker {verb}` can't be run: {error}") from error
        except OSError as error:
            raise EngineUnreachableError(
                f"the docker command can't be run: {error.strerror}",
                hint="install Docker's command line, 25 or newer, beside its engine",
            ) from error
