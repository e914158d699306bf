"""The process platform: runs Traefik as a process of this host, without Docker. The default.

For production use Docker Swarm; this platform is for one host, for trials, and for tests with the
real Traefik but without Docker. Its order is stop-first: the old and the new instance listen on the
same ports.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from attrs import frozen

from runner.platforms.process.instances import TOKEN_VARIABLE, Instances, is_listening
from runner.reconcile.errors import DeployError, NotPreparedError
from runner.reconcile.model import (
    Deployment,
    LatestUnknown,
    NotLive,
    Outcome,
    ProbeResult,
    Release,
    Round,
)
from runner.reconcile.probes import Prober
from runner.reconcile.replies import TOKEN_HEADER, Expected

UNREADABLE: Final = (
    "an instance is running, but its deployment.json is missing, damaged or of a newer version"
)
IDENTITY_PATH: Final = "/.warm-reconcile/identity"

GATE: Final = f"""\
# Written by warm-reconcile beside the release's own dynamic configuration. Traefik expands the
# template once, in its own process: the token it returns is the one that it was started with, and
# no later edit of a file can change it. Only this host may ask.
http:
  routers:
    warm-reconcile:
      rule: "Path(`{IDENTITY_PATH}`) && (ClientIP(`127.0.0.0/8`) || ClientIP(`::1`))"
      # The largest that is not reserved (MaxInt64 - 1000). The redirect of a whole entrypoint is
      # above it, but for requests with a host name only; the probe gives none.
      priority: 9223372036854774807
      service: api@internal
      middlewares: [warm-reconcile-version, warm-reconcile-token]
  middlewares:
    warm-reconcile-version:
      replacePath: {{path: /api/version}}
    warm-reconcile-token:
      headers:
        customResponseHeaders:
          {TOKEN_HEADER}: '{{{{ env "{TOKEN_VARIABLE}" }}}}'
"""
"""A router of our own on ``api@internal``, narrowed to the version: nothing else is exposed."""


class Store(Protocol):
    """The part of `releases.store.Store` that this platform uses."""

    def latest(self) -> Release | LatestUnknown: ...

    def check(self, release: Release, *, deep: bool) -> None: ...

    def files(self, digest: str) -> Path: ...

    def seal(self, release: Release) -> None: ...

    def prune(self, keep: frozenset[str]) -> None: ...


@frozen
class ProcessPlatform:
    """One app as processes of this host."""

    store: Store
    binary: Callable[[str], Path]
    """Returns the binary of the release with a digest."""
    instances: Instances
    prober: Prober
    stop_timeout: float
    """Seconds from SIGTERM to SIGKILL."""
    caller: str
    """The systemd unit that runs this program, and so serves what it deployed."""

    def latest(self) -> Release | LatestUnknown:
        return self.store.latest()

    def live(self) -> Deployment | NotLive:
        running = self.instances.running()
        if len(running) != 1:
            return NotLive(f"{len(running)} instances are running" if running else "")
        ((token, processes),) = running.items()
        # A stopping instance serves open connections but no new ones: it is not live any more.
        if not any(map(is_listening, processes)):
            return NotLive("the running instance has no listening socket")
        return self.instances.read(token) or NotLive(UNREADABLE)

    def deploy(self, deployment: Deployment) -> None:
        binary = self._prepare(deployment)
        deadline = time.monotonic() + self.stop_timeout
        old = self.instances.terminate_all()
        self.instances.await_release(old, self.stop_timeout)
        self.instances.start(deployment, binary)
        left = max(0.0, deadline - time.monotonic())
        self.instances.await_end(old, left, successor=deployment.token)

    def ask(self, deployment: Deployment, timeout: float) -> Round:
        # The process first: if it has ended, an answer comes from another program.
        return (self._process(deployment), *self.prober.ask(Expected(deployment), timeout))

    def seal(self, release: Release) -> None:
        self.store.seal(release)

    def prune(self, keep: frozenset[str]) -> None:
        running = frozenset(self.instances.running())
        live = (self.instances.read(token) for token in running)
        self.store.prune(keep | {deployment.release.digest for deployment in live if deployment})
        self.instances.prune(running)

    def _prepare(self, deployment: Deployment) -> Path:
        """Do everything that can fail and does not touch the live instance; return the binary."""
        digest = deployment.release.digest
        try:
            self.store.check(deployment.release, deep=True)
            self.instances.prepare(deployment, self.store.files(digest), GATE)
            return self.binary(digest)
        except DeployError as error:
            raise NotPreparedError(error.message, hint=error.hint) from error

    def _process(self, deployment: Deployment) -> ProbeResult:
        running = self.instances.running()
        status = self.instances.exit_status(deployment.token, gone=deployment.token not in running)
        if status is None and deployment.token not in running:
            running = self.instances.running()  # during execve(2) the command line is empty
        words = self.instances.last_log_line(deployment.token)
        if status is not None or deployment.token not in running:
            how = "is not running" if status is None else _describe_exit(status)
            reason = f"the process {how}: {words}" if words else f"the process {how}"
            return self._result(Outcome.FAIL, reason, words, terminal=True)
        if len(running) > 1:
            return self._result(Outcome.FAIL, "another instance of the app is running, too", words)
        pids = ", ".join(str(process.pid) for process in running[deployment.token])
        return self._result(Outcome.PASS, f"running as process {pids}", words)

    def _result(
        self, outcome: Outcome, reason: str, excerpt: str, *, terminal: bool = False
    ) -> ProbeResult:
        return ProbeResult(
            "process", outcome, reason, self.caller, excerpt=excerpt, terminal=terminal
        )


def _describe_exit(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
